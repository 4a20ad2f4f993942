"""Quality gates as callers give them: Python values to a request's options. Pure.

``{"max_stderr": 0.01, "range": (-1.2, 2), "outcomes": ["00", "11"], "share": 0.8, "parity": ("even", 0.9)}``,
or the texts that :mod:`shotbus.broker.quality` reads, which also says whether the values make sense.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shotbus.broker.quality import OWN
from shotbus.producers.wishes import is_number
from shotbus.schemas.errors import Problem


def quality_options(quality: Any, options: Any) -> tuple[dict[str, str], list[Problem]]:
    """Return a gate as options; None asks for nothing.

    Args:
        quality: what the caller gave.
        options: the caller's other options: what stands there already is not said again.

    Returns:
        The options, and what is wrong with the values (SB-1108).

    """
    if quality is None:
        return {}, []
    if not isinstance(quality, Mapping) or not all(isinstance(name, str) for name in quality):
        return {}, [Problem("SB-1108", "$.quality", limit="a mapping", actual=str(quality))]
    told: dict[str, str] = {}
    problems: list[Problem] = []
    for name, value in quality.items():
        text = value if isinstance(value, str) else _FORMS.get(name, _number)(value)
        if text is None:
            problems.append(Problem("SB-1108", f"$.quality.{name}", limit=_WORDS, actual=str(value)))
        elif isinstance(options, Mapping) and f"{OWN}{name}" in options:
            problems.append(Problem("SB-1108", f"$.quality.{name}", hint=f"options has {OWN}{name} already"))
        else:
            told[f"{OWN}{name}"] = text
    return told, problems


_WORDS = "a number, a range (low, high), a list of outcomes, a parity (word, share), or their text"


def _number(value: Any) -> str | None:
    return repr(float(value)) if is_number(value) else None


def _range(value: Any) -> str | None:
    if not _is_pair(value):
        return None
    ends = ["" if end is None else _number(end) for end in value]
    return None if None in ends else "..".join(map(str, ends))


def _outcomes(value: Any) -> str | None:
    if not isinstance(value, Sequence) or not all(isinstance(word, str) for word in value):
        return None
    return ",".join(value)


def _parity(value: Any) -> str | None:
    if not _is_pair(value) or not isinstance(value[0], str) or not is_number(value[1]):
        return None
    return f"{value[0]}:{_number(value[1])}"


def _is_pair(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 2


_FORMS: Mapping[str, Callable[[Any], str | None]] = {
    "range": _range,
    "outcomes": _outcomes,
    "parity": _parity,
}
