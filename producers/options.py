"""What may be said about a job besides its PUB, as callers say it, and as wishes. Reads the clock."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, TypedDict

from shotbus.producers.coerce import wall_ms
from shotbus.producers.origin import principal
from shotbus.producers.wishes import Wishes, is_number, is_whole
from shotbus.schemas.errors import Problem, ShotbusError
from shotbus.schemas.pub import ProblemStatement


class SubmitOptions(TypedDict, total=False):
    """Everything that may be said about a job.

    ``deadline``, ``not_before`` and ``max_result_age``: seconds (the first two from now) or, for the
    first two, an aware datetime. ``options``: backend options such as ``optimization_level``.
    ``traceparent``: a W3C trace context that the job continues; without it a trace begins.
    """

    priority: str
    tenant: str
    session: str
    deadline: Any
    not_before: Any
    max_result_age: float | None
    idempotency_key: str
    backend: str | None
    experiment: str
    intent: str
    family: str
    family_version: str
    problem: ProblemStatement | None
    value: float | None
    tags: Sequence[str]
    seed: int | None
    options: dict[str, str]
    rerun_of: str
    traceparent: str


def wishes_of(options: SubmitOptions) -> tuple[Wishes, list[Problem]]:
    """Return what the options wish, and what is wrong with their times; relative ones count from now."""
    now, problems = time.time_ns() // 1_000_000, list[Problem]()
    plain: dict[str, Any] = dict(options)
    for name in ("deadline", "not_before"):
        plain[f"{name}_ms"] = _when(plain.pop(name, None), f"$.{name}", now, problems)
    age = plain.pop("max_result_age", None)
    plain["max_result_age_ms"] = int(age * 1000) if is_number(age) else age
    seed: Any = plain.get("seed")
    plain["seed"] = int(seed) if is_whole(seed) else seed
    plain["backend"] = plain.get("backend") or ""
    return Wishes(principal=principal(), **plain), problems


def _when(given: Any, path: str, now_ms: int, problems: list[Problem]) -> int | None:
    try:
        return wall_ms(given, path, now_ms)
    except ShotbusError as error:
        problems += error.problems
        return None
