"""What may be said about a job besides its PUB, as callers say it, and as wishes. Reads the clock."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from shotbus.producers.coerce import wall_ms
from shotbus.producers.origin import principal
from shotbus.producers.quality import quality_options
from shotbus.producers.wishes import Wishes, is_number, is_whole
from shotbus.schemas.errors import Problem, ShotbusError
from shotbus.schemas.pub import ProblemStatement


class SubmitOptions(TypedDict, total=False):
    """Everything that may be said about a job.

    ``deadline``, ``not_before`` and ``max_result_age``: seconds (the first two from now) or, for the
    first two, an aware datetime. ``options``: backend options such as ``optimization_level``.
    ``quality``: what the answer must be to count, see docs/quality.md: ``max_stderr``, ``range`` of
    expectation values, ``outcomes`` with their ``share`` of the shots, ``parity``.
    ``traceparent``: a W3C trace context that the job continues; without it a trace begins.

    ``fallback``: what to do when the chosen pool cannot answer, in order: a pool, ``cache:SECONDS`` (an
    earlier result of the same work), ``defer:WINDOW``, ``demote:CLASS``, ``review``, ``none``. ``top_up``:
    earlier shots of the same work count, only the missing ones run; a job with a ``seed`` cannot have it.
    ``tolerance``: an earlier estimate whose every standard error is at most this is enough.

    ``unique_key``: jobs with one key are the same piece of work; ``unique_policy`` says what becomes of a
    second while the first lives: ``existing`` (the default: the handle is that of the first), ``reject`` or
    ``supersede`` (the first is called off). In a session the key is one of that session only.

    ``window``: named window in which it may run. ``data_class``: such as ``private``; only pools that may see
    it are chosen. ``value_per_second``: what waiting costs, ``max_cost``: refused above; in budget units.
    ``confidence``: in the cheap answer that is at hand, 0 to 1. ``speculate``: ``answer``, ``compare`` or
    ``blend`` with a cheap answer while the other one is awaited. ``roles``: of the principal.
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
    quality: Mapping[str, Any] | None
    rerun_of: str
    traceparent: str
    fallback: Sequence[str]
    top_up: bool
    tolerance: float | None
    unique_key: str
    unique_policy: str
    window: str
    data_class: str
    value_per_second: float | None
    confidence: float | None
    speculate: str
    max_cost: float | None
    roles: Sequence[str]


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
    gate, wrong = quality_options(plain.pop("quality", None), plain.get("options"))
    problems += wrong
    if gate and isinstance(plain.get("options", {}), Mapping):
        plain["options"] = {**plain.get("options", {}), **gate}
    return Wishes(principal=principal(), **plain), problems


def _when(given: Any, path: str, now_ms: int, problems: list[Problem]) -> int | None:
    try:
        return wall_ms(given, path, now_ms)
    except ShotbusError as error:
        problems += error.problems
        return None
