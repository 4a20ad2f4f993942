"""What a caller may say about a job besides its PUB, and whether the values are of the right kinds. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

from shotbus.broker.dispatcher.admission import MAX_YEAR_MS
from shotbus.broker.tracing import parse_traceparent
from shotbus.schemas.errors import Problem
from shotbus.schemas.pub import ProblemStatement

INTENTS = ("explore", "test", "benchmark", "production")


@dataclass(frozen=True, slots=True)
class Wishes:
    """Everything a caller may say about a job besides circuit, bindings and what is asked for."""

    priority: str = "experiment"
    tenant: str = "default"
    principal: str = ""
    session: str = ""
    idempotency_key: str = ""
    backend: str = ""
    experiment: str = ""
    intent: str = "explore"
    family: str = ""
    family_version: str = ""
    seed: int | None = None
    deadline_ms: int | None = None
    not_before_ms: int | None = None
    max_result_age_ms: int | None = None
    sweep_id: str = ""
    shard_index: int = -1
    options: Mapping[str, str] = field(default_factory=dict)
    problem: ProblemStatement | None = None
    value: float | None = None
    tags: Sequence[str] = ()
    rerun_of: str = ""
    traceparent: str = ""
    fallback: Sequence[str] = ()
    top_up: bool = False
    tolerance: float | None = None
    unique_key: str = ""
    unique_policy: str = ""
    window: str = ""
    data_class: str = ""
    value_per_second: float | None = None
    confidence: float | None = None
    speculate: str = ""
    max_cost: float | None = None
    roles: Sequence[str] = ()


def check_wishes(wishes: Wishes) -> list[Problem]:
    """Return what is wrong with the kinds of the wishes' values; the dispatcher only sees valid Avro."""
    problems = [
        Problem("SB-1108", f"$.{name}", limit="text in Unicode", actual=str(value))
        for name, value in _texts(wishes)
        if not _is_text(value)
    ]
    problems += [
        Problem("SB-1108", f"$.{name}", limit=limit, actual=str(getattr(wishes, name)))
        for name, limit, holds in _KINDS
        if not holds(getattr(wishes, name))
    ]
    return problems


def check_keys(wishes: Wishes) -> list[Problem]:
    """Return why a key cannot be that of all the jobs of a sweep."""
    given = {"idempotency_key": wishes.idempotency_key, "unique_key": wishes.unique_key}
    return [Problem("SB-1108", f"$.{name}", hint=_NOT_OF_A_SWEEP[name]) for name in given if given[name]]


def is_number(value: Any) -> bool:
    """Tell whether a value is a finite real number; a truth value is none."""
    # To Python a bool is a number, but nobody means it as one.
    return type(value) is not bool and isinstance(value, Real) and math.isfinite(value)


def is_whole(value: Any) -> bool:
    """Tell whether a value is an integer of any kind, numpy's included; a truth value is none."""
    return type(value) is not bool and isinstance(value, Integral)


def _texts(wishes: Wishes) -> list[tuple[str, Any]]:
    named = [(name, getattr(wishes, name)) for name in _TEXTS]
    if isinstance(wishes.options, Mapping):
        named += [("options", word) for pair in wishes.options.items() for word in pair]
    for name in _LISTS:
        if _is_sequence(words := getattr(wishes, name)):
            named += [(name, word) for word in words]
    return named


def _is_text(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    # A lone surrogate is a str to Python and nothing to UTF-8.
    return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


_TEXTS = (
    *("tenant", "principal", "session", "idempotency_key", "priority", "experiment", "family"),
    *("family_version", "backend", "sweep_id", "rerun_of", "unique_key", "unique_policy", "window"),
    *("data_class", "speculate"),
)
_NOT_OF_A_SWEEP = {
    "idempotency_key": "a sweep is repeated by its id: submit_plan(…, sweep_id=…)",
    "unique_key": "the jobs of a sweep would be one another's rivals",
}
_LISTS = ("tags", "fallback", "roles")
_NUMBERS = ("value", "tolerance", "value_per_second", "confidence", "max_cost")
#: What each other value must be: name, words, check.
_KINDS: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    ("intent", ", ".join(INTENTS), lambda given: given in INTENTS),
    ("seed", "a whole number", lambda given: given is None or type(given) is int),
    *((name, "a number", lambda given: given is None or is_number(given)) for name in _NUMBERS),
    ("top_up", "true or false", lambda given: isinstance(given, bool)),
    ("options", "a mapping from text to text", lambda given: isinstance(given, Mapping)),
    *((name, "a list of texts", _is_sequence) for name in _LISTS),
    (
        "max_result_age_ms",
        f"0 to {MAX_YEAR_MS}",
        lambda given: given is None or (type(given) is int and 0 <= given <= MAX_YEAR_MS),
    ),
    (
        "problem",
        "a ProblemStatement",
        lambda given: given is None or isinstance(given, ProblemStatement),
    ),
    (
        "traceparent",
        "a W3C traceparent, version 00",
        lambda given: given == "" or (_is_text(given) and parse_traceparent(given) is not None),
    ),
)
