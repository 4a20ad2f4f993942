"""Admission: everything that can be said against a request from its envelope. Pure.

All problems of one request are returned at once. The circuit text is checked by the client before it
is published and by the worker before any SDK parses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from shotbus.broker.config import Config, LimitsConfig, PoolConfig
from shotbus.broker.dispatcher.traits import ESTIMATE, OBSERVABLES, PROBLEM, qubits_of
from shotbus.broker.dispatcher.wishes import check_wishes
from shotbus.broker.job_options import unknown_options
from shotbus.broker.quality import check_quality
from shotbus.schemas.errors import Problem
from shotbus.schemas.ids import affine_route, route_of
from shotbus.schemas.ids import job_id as derive_job_id

_TEXT_FIELDS = (
    "tenant",
    "principal",
    "session_id",
    "idempotency_key",
    "priority",
    "experiment",
    "family",
    "family_version",
    "circuit_id",
    "backend",
    "sweep_id",
    "code_commit",
    "rerun_of",
    "template",
)
_texts_of = itemgetter(*_TEXT_FIELDS)
MAX_YEAR_MS = 253_402_300_799_000  # the last millisecond of year 9999


def check_request(request: Mapping[str, Any], config: Config, *, now_ms: int) -> list[Problem]:
    """Return every problem of a request's envelope."""
    limits = config.limits
    problems = _check_identity(request)
    problems += _check_lengths(request, limits)
    problems += check_numbers(request, limits)
    problems += check_times(request, now_ms)
    problems += check_wishes(request, limits)
    if request["options"]:
        problems += check_quality(request)
        problems += unknown_options(request["options"])
    if request["priority"] not in config.classes:
        names = ", ".join(config.classes)
        problems.append(Problem("SB-1101", "$.priority", limit=names, actual=request["priority"]))
    return problems


def solves_problems(pools: Mapping[str, PoolConfig], pool: str) -> bool:
    """Tell whether a pool answers a job's problem statement instead of running its circuit."""
    settings = pools.get(pool)
    return settings is not None and "classical" in (settings.kind, settings.adapter or pool)


def check_pool(
    request: Mapping[str, Any], pool: str, config: Config, *, qubits: int = 0, depth: int = 0
) -> list[Problem]:
    """Return why ``pool`` cannot take the request; ``qubits``, ``depth``: of its circuit, 0 is not known."""
    settings = config.pools.get(pool)
    if settings is None:
        return [Problem("SB-1102", "$.backend", limit=", ".join(sorted(config.pools)), actual=pool)]
    solves = solves_problems(config.pools, pool)
    problems = _check_fit(request, pool, settings, solves=solves)
    if qubits > settings.max_qubits and not solves and settings.kind != "none":
        limit, actual = f"{settings.max_qubits} qubits on {pool}", f"{qubits} qubits"
        problems.append(Problem("SB-1116", "$.circuit", limit=limit, actual=actual))
    if depth > settings.max_depth and not solves and settings.kind != "none":
        limit, actual = f"{settings.max_depth} layers on {pool}", f"{depth} layers"
        problems.append(Problem("SB-1117", "$.circuit", limit=limit, actual=actual))
    return problems


def _check_fit(request: Mapping[str, Any], pool: str, settings: PoolConfig, *, solves: bool) -> list[Problem]:
    problems = []
    if request["mode"] not in settings.modes:
        modes = ", ".join(settings.modes)
        problems.append(Problem("SB-1110", "$.mode", limit=f"{pool}: {modes}", actual=request["mode"]))
    exact = request["shots"] == 0
    if exact and request["mode"] == "sample" and settings.kind != "none":
        hint = "exact mode needs observables; sampling needs at least one shot"
        problems.append(Problem("SB-1103", "$.shots", limit="1 or more", actual="0", hint=hint))
    if solves:
        if request["problem"] is None:
            hint = "pass problem=… so that a classical solver knows what to solve"
            problems.append(Problem("SB-1110", "$.problem", limit=f"{pool} answers problems", hint=hint))
    elif _only_a_problem(request) and settings.kind != "none":
        hint = "pass observables, or ask for a pool that answers problems"
        problems.append(Problem("SB-1107", "$.observables", limit=f"{pool} runs circuits", hint=hint))
    return problems


def lacks(traits: int, pool: str, config: Config) -> str:
    """Return what a pool cannot do of what a job needs (:mod:`.traits`); empty when it can take it."""
    settings = config.pools.get(pool)
    if settings is None:
        return "is not configured"
    mode = "estimate" if traits & ESTIMATE else "sample"
    solves, none = solves_problems(config.pools, pool), settings.kind == "none"
    runs = not (solves or none)
    wants = (
        (mode not in settings.modes, f"does not {mode}"),
        (solves and not traits & PROBLEM, "answers problems, and there is none"),
        (runs and traits & ESTIMATE and not traits & OBSERVABLES, "runs circuits for observables"),
        (runs and qubits_of(traits) > settings.max_qubits, f"has {settings.max_qubits} qubits"),
    )
    return next((words for missing, words in wants if missing), "")


def _only_a_problem(request: Mapping[str, Any]) -> bool:
    nothing_asked = request["mode"] == "estimate" and not request["observables"]
    # Without a problem as well it is refused whatever the pool.
    return nothing_asked and request["problem"] is not None


def _check_identity(request: Mapping[str, Any]) -> list[Problem]:
    problems = [
        Problem("SB-1107", f"$.{name}", hint="set it")
        for name in ("tenant", "principal", "circuit_id")
        if not request[name]
    ]
    job_id, key = request["job_id"], request["idempotency_key"]
    try:
        route_of(job_id)
    except ValueError as error:
        return [*problems, Problem("SB-1109", "$.job_id", actual=job_id, detail=str(error))]
    if key:
        session, unique = request["session_id"], request["unique_key"]
        wanted = derive_job_id(request["tenant"], session=session, unique_key=unique, idempotency_key=key)
        if wanted != job_id:
            problems.append(Problem("SB-1109", "$.job_id", limit=wanted, actual=job_id))
    elif request["unique_key"]:
        # Elsewhere its rival would not be seen.
        route = affine_route(request["tenant"], request["session_id"] or request["unique_key"])
        if not job_id.startswith(f"{route:08x}"):
            problems.append(Problem("SB-1109", "$.job_id", limit=f"{route:08x}…", actual=job_id))
    return problems


def _check_lengths(request: Mapping[str, Any], limits: LimitsConfig) -> list[Problem]:
    problems = []
    # Nearly every request passes: one pass at C speed instead of a comparison a field.
    if max(map(len, _texts_of(request))) > limits.max_field:
        problems = [
            Problem(
                "SB-1105", f"$.{name}", limit=f"{limits.max_field} characters", actual=str(len(request[name]))
            )
            for name in _TEXT_FIELDS
            if len(request[name]) > limits.max_field
        ]
    for name in ("tags", "options", "sdk_versions"):
        if len(request[name]) > limits.max_tags:
            actual = str(len(request[name]))
            problems.append(
                Problem("SB-1105", f"$.{name}", limit=f"{limits.max_tags} entries", actual=actual)
            )
    return problems


def check_numbers(request: Mapping[str, Any], limits: LimitsConfig) -> list[Problem]:
    """Return what is wrong with shots, points and the shape of what is asked for."""
    problems = []
    if not 0 <= request["shots"] <= limits.max_shots:
        problems.append(
            Problem("SB-1103", "$.shots", limit=f"0 to {limits.max_shots}", actual=str(request["shots"]))
        )
    if not 1 <= request["points"] <= limits.max_points:
        problems.append(
            Problem("SB-1305", "$.points", limit=f"1 to {limits.max_points}", actual=str(request["points"]))
        )
    if request["mode"] == "estimate" and not request["observables"] and request["problem"] is None:
        problems.append(Problem("SB-1107", "$.observables", hint="estimation needs observables"))
    seed = request["seed"]
    if seed is not None and not 0 <= seed < 2**31:
        problems.append(Problem("SB-1108", "$.seed", limit="0 to 2147483647", actual=str(seed)))
    return problems


def check_times(request: Mapping[str, Any], now_ms: int) -> list[Problem]:
    """Return what is wrong with deadline and not-before."""
    problems = []
    deadline, not_before = request["deadline_ms"], request["not_before_ms"]
    if deadline is not None and deadline <= now_ms:
        late = f"{(now_ms - deadline) / 1000:.3f} s ago"
        problems.append(Problem("SB-1104", "$.deadline", limit="in the future", actual=late))
    for name, value in (("deadline", deadline), ("not_before", not_before)):
        if value is not None and value > MAX_YEAR_MS:
            problems.append(Problem("SB-1108", f"$.{name}", limit="before year 10000", actual=str(value)))
    if deadline is not None and not_before is not None and deadline <= not_before:
        problems.append(Problem("SB-1104", "$.deadline", limit="after not_before", actual=str(deadline)))
    return problems
