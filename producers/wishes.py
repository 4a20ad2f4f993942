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
    if _is_sequence(wishes.tags):
        named += [("tags", tag) for tag in wishes.tags]
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
    *("family_version", "backend", "sweep_id", "rerun_of"),
)
#: What each other value must be: name, words, check.
_KINDS: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    ("intent", ", ".join(INTENTS), lambda given: given in INTENTS),
    ("seed", "a whole number", lambda given: given is None or type(given) is int),
    ("value", "a number", lambda given: given is None or is_number(given)),
    ("options", "a mapping from text to text", lambda given: isinstance(given, Mapping)),
    ("tags", "a list of texts", _is_sequence),
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
