"""Targeted remedies for CONSTRAINT: what the backend's own words say would help, each tried once. Pure.

A remedy changes options of the next attempt or asks for another pool; it never changes what was asked for.
Fewer shots are fewer a call: they are taken in increments and put together.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from shotbus.broker.dispatcher.ladders import Action

_NUMBER = re.compile(r"\d[\d_,]*")
_LEAST_SHOTS = 1


class Remedy(NamedTuple):
    """A remedy with the name under which the trail tells it."""

    name: str
    action: Action
    overrides: tuple[tuple[str, str], ...] = ()


class _Rule(NamedTuple):
    """Words of a problem's path, limit and detail, and the remedies they suggest, best first."""

    words: tuple[str, ...]
    remedies: tuple[str, ...]


_FIXED: Mapping[str, Remedy] = {
    "optimise": Remedy("optimise", Action.RETRY, (("optimization_level", "3"),)),
    "optimise-less": Remedy("optimise-less", Action.RETRY, (("optimization_level", "0"),)),
    "remap": Remedy("remap", Action.RETRY, (("layout", "another"), ("optimization_level", "2"))),
    "bigger-pool": Remedy("bigger-pool", Action.REROUTE),
    "other-pool": Remedy("other-pool", Action.REROUTE),
}
#: name -> what a call's shots are divided by; the first is what the backend itself allows.
_SHOTS: Mapping[str, int] = {"shots-limit": 1, "shots-half": 2, "shots-quarter": 4}

#: The first rule with a word in the problem counts.
RULES: tuple[_Rule, ...] = (
    _Rule(("shots",), (*_SHOTS, "other-pool")),
    _Rule(("compile time", "transpil"), ("optimise-less", "other-pool")),
    _Rule(("depth", "gates", "operations", "duration", "coherence"), ("optimise", "remap", "other-pool")),
    _Rule(("coupling", "layout", "edge", "connect", "faulty qubit"), ("remap", "bigger-pool")),
    _Rule(("qubit", "memory", "spins", "matrix", "width"), ("bigger-pool",)),
    _Rule(("mode", "problem", "gate set", "basis", "observable"), ("other-pool",)),
)


def remedies(
    problems: Sequence[Mapping[str, Any]], *, shots: int, tried: Collection[str]
) -> Iterator[Remedy]:
    """Yield what could help, best first, without what was tried.

    Args:
        problems: records of what the backend refused.
        shots: of the job, to divide.
        tried: names of remedies that did not help.

    """
    for problem in problems:
        for name in _suggested(problem):
            if name not in tried:
                remedy = _FIXED.get(name) or _fewer_shots(name, problem, shots)
                if remedy is not None:
                    yield remedy


def _suggested(problem: Mapping[str, Any]) -> tuple[str, ...]:
    text = " ".join(str(problem[key]) for key in ("path", "limit", "detail")).lower()
    for rule in RULES:
        if any(word in text for word in rule.words):
            return rule.remedies
    return ()


def _fewer_shots(name: str, problem: Mapping[str, Any], shots: int) -> Remedy | None:
    """Return the increments; None when they would be all shots at once again."""
    told = _NUMBER.search(str(problem["limit"]))
    limit = int(told[0].replace(",", "").replace("_", "")) if told else shots
    count = max(_LEAST_SHOTS, min(limit, shots) // _SHOTS[name])
    if count >= shots:
        return None
    return Remedy(name, Action.RETRY, (("shots_per_call", str(count)),))
