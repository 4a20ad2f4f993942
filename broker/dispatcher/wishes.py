"""What few requests wish for besides being run: fallbacks, uniqueness, speculation, cost. Pure.

Whatever Avro can hold may stand there; the policy and the machine rely on what is checked here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from operator import itemgetter
from typing import Any

from shotbus.broker.config import Config, LimitsConfig
from shotbus.broker.policy.steps import Step
from shotbus.schemas.errors import Problem

UNIQUE_POLICIES = ("", "existing", "reject", "supersede")
SPECULATIONS = ("", "answer", "compare", "blend")
#: Each wish with the value that wishes for nothing.
_NONE: Mapping[str, Any] = {
    "unique_key": "",
    "unique_policy": "",
    "window": "",
    "data_class": "",
    "speculate": "",
    "fallback": [],
    "roles": [],
    "value": None,
    "value_per_second": None,
    "max_cost": None,
    "confidence": None,
    "tolerance": None,
    "max_result_age_ms": None,
    "precision": None,
}
_wishes_of = itemgetter(*_NONE)
_NO_WISHES = tuple(_NONE.values())
_TEXTS = ("unique_key", "window", "data_class")
#: Numbers: what each must be, in words and as a check.
_NUMBERS: tuple[tuple[str, str, Callable[[float], bool]], ...] = (
    ("value", "a finite number", math.isfinite),
    ("value_per_second", "0 or more", lambda value: 0 <= value < math.inf),
    ("max_cost", "0 or more", lambda value: 0 <= value < math.inf),
    ("confidence", "0 to 1", lambda value: 0 <= value <= 1),
    ("tolerance", "0 or more", lambda value: 0 <= value < math.inf),
    ("precision", "0 or more", lambda value: 0 <= value < math.inf),
    ("max_result_age_ms", "0 or more", lambda value: value >= 0),
)
_CHOICES = (("unique_policy", UNIQUE_POLICIES), ("speculate", SPECULATIONS))


def check_wishes(request: Mapping[str, Any], limits: LimitsConfig) -> list[Problem]:
    """Return every problem of what a request wishes for: SB-1105 too long, SB-1108 the wrong value."""
    try:
        # Most requests have none of it: one comparison at C speed.
        if _wishes_of(request) == _NO_WISHES:
            return []
    except KeyError:
        # A client leaves out what has a default.
        request = {**_NONE, **request}
    return [*_lengths(request, limits), *_values(request)]


def check_names(request: Mapping[str, Any], config: Config) -> Iterator[Problem]:
    """Yield a problem for each name in a request's wishes that nothing is configured under.

    Those who decide later leave out a window or a step that they do not know: a policy that is applied while
    jobs wait may take it away. SB-1101 an unknown class, SB-1102 a pool, SB-1108 a window.
    """
    window = request["window"]
    if window and window not in config.windows:
        yield _unknown("SB-1108", "$.window", window, config.windows)
    known: Mapping[str, tuple[str, Collection[str]]] = {
        "pool": ("SB-1102", config.pools),
        "defer": ("SB-1108", config.windows),
        "demote": ("SB-1101", config.classes),
    }
    for number, text in enumerate(request["fallback"]):
        try:
            step = Step.parse(text)
        except ValueError:
            # What it is instead has been told.
            continue
        code, names = known.get(step.kind, ("", ()))
        if code and step.name not in names:
            yield _unknown(code, f"$.fallback[{number}]", text, names)


def _unknown(code: str, path: str, actual: str, names: Collection[str]) -> Problem:
    limit = ", ".join(sorted(names)) or "none is configured"
    return Problem(code, path, limit=limit, actual=actual, hint="use one of limit, or leave it out")


def _lengths(request: Mapping[str, Any], limits: LimitsConfig) -> Iterator[Problem]:
    for name in _TEXTS:
        if len(request[name]) > limits.max_field:
            limit, actual = f"{limits.max_field} characters", str(len(request[name]))
            yield Problem("SB-1105", f"$.{name}", limit=limit, actual=actual)
    for name in ("fallback", "roles"):
        if len(request[name]) > limits.max_tags or max(map(len, request[name]), default=0) > limits.max_field:
            limit = f"{limits.max_tags} entries of {limits.max_field} characters"
            yield Problem("SB-1105", f"$.{name}", limit=limit, actual=f"{len(request[name])} entries")


def _values(request: Mapping[str, Any]) -> Iterator[Problem]:
    for name, limit, holds in _NUMBERS:
        value = request[name]
        if value is not None and not holds(value):
            yield Problem("SB-1108", f"$.{name}", limit=limit, actual=str(value))
    for name, choices in _CHOICES:
        if request[name] not in choices:
            yield Problem("SB-1108", f"$.{name}", limit=", ".join(choices[1:]), actual=request[name])
    for number, text in enumerate(request["fallback"]):
        try:
            Step.parse(text)
        except ValueError as error:
            yield Problem("SB-1108", f"$.fallback[{number}]", actual=text, detail=str(error))
