"""Builds requests: everything a job is, checked before anything is published. Pure.

A request either comes out whole or raises with every problem found; nothing is half-submitted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from shotbus.broker.config import Config
from shotbus.broker.dispatcher.admission import check_request, solves_problems
from shotbus.broker.dispatcher.earlier import check_reuse
from shotbus.producers.coerce import bindings_of, check_numbers_alone, observables_of
from shotbus.producers.program import Program, program_of
from shotbus.producers.wishes import Wishes, check_wishes, is_number, is_whole
from shotbus.schemas.errors import Problem, ShotbusError
from shotbus.schemas.ids import job_id as make_job_id
from shotbus.schemas.payload import payload_hash
from shotbus.schemas.pub import (
    EMPTY_BINDINGS,
    Bindings,
    PauliSums,
    ProblemStatement,
    pack_bindings,
    pack_observables,
)

__all__ = [
    "DEFAULT_SHOTS",
    "Question",
    "Wishes",
    "build_request",
    "check_envelope",
    "is_solving",
    "mode_of",
    "question_of",
]

DEFAULT_SHOTS = 1_024
_NO_WISHES = Wishes()
_LEAST_PRECISION = 1e-9
#: Wishes that stand in a request as they are.
_SAME = (
    *("top_up", "tolerance", "unique_key", "unique_policy", "window", "data_class", "value_per_second"),
    *("confidence", "speculate", "max_cost"),
)


@dataclass(frozen=True, slots=True)
class Question:
    """A checked PUB: ``observables`` None samples; ``shots`` 0 is exact."""

    program: Program
    bindings: Bindings
    observables: PauliSums | None
    shots: int
    precision: float | None
    mode: str


def mode_of(observables: Any, *, solving: bool) -> str:
    """Return whether the answer is counts (``sample``) or values (``estimate``)."""
    return "sample" if observables is None and not solving else "estimate"


def is_solving(problem: ProblemStatement | None, backend: Any, config: Config) -> bool:
    """Tell whether a job asks a classical solver for the answer to its problem.

    Only then may it leave bindings and observables out: any other pool runs the circuit, and there the
    problem is an addition to a job that is whole without it.
    """
    return problem is not None and isinstance(backend, str) and solves_problems(config.pools, backend)


def question_of(
    circuit: Any,
    bindings: Any,
    *,
    shots: int | None,
    observables: Any,
    precision: float | None,
    solving: bool = False,
) -> Question:
    """Check a PUB as callers pass it; ``solving``: see :func:`is_solving`.

    Raises ShotbusError with every problem of every part.
    """
    problems: list[Problem] = []
    program = _collect(problems, program_of, circuit)
    sums = _collect(problems, observables_of, observables)
    checked = _bindings(problems, program, bindings, solving=solving)
    mode = mode_of(observables, solving=solving)
    count = _collect(problems, _shots, shots, precision, mode == "estimate")
    if program and (sums is not None or mode == "sample"):
        problems += _check_fit(program, sums)
    if problems or program is None or checked is None or count is None:
        raise ShotbusError(problems)
    return Question(program, checked, sums, count, precision, mode)


def _bindings(
    problems: list[Problem], program: Program | None, given: Any, *, solving: bool
) -> Bindings | None:
    if solving and given is None:
        # A classical solver answers the problem; the circuit's parameters stay free.
        return EMPTY_BINDINGS
    if program is None:
        _collect(problems, check_numbers_alone, given)
        return None
    checked: Bindings | None = _collect(problems, bindings_of, given, program.parameters, program.aliases)
    return checked


def _collect(problems: list[Problem], work: Any, *arguments: Any) -> Any:
    try:
        return work(*arguments)
    except ShotbusError as error:
        problems += error.problems
        return None


def _shots(shots: Any, precision: Any, estimating: bool) -> int:
    least = 0 if estimating else 1
    if precision is not None and not (
        is_number(precision) and (precision == 0 or precision >= _LEAST_PRECISION)
    ):
        limit = f"0 (exact), or {_LEAST_PRECISION} or more"
        raise ShotbusError([Problem("SB-1108", "$.precision", limit=limit, actual=str(precision))])
    if shots is None:
        if not estimating:
            return DEFAULT_SHOTS
        return math.ceil(1 / precision**2) if precision else 0
    if not is_whole(shots) or shots < least:
        hint = "sampling needs at least one shot; exact mode needs observables"
        limit = f"a whole number, {least} or more"
        raise ShotbusError([Problem("SB-1103", "$.shots", limit=limit, actual=str(shots), hint=hint)])
    return int(shots)


def _check_fit(program: Program, observables: PauliSums | None) -> list[Problem]:
    facts = program.facts
    if observables is None:
        if facts.measurements:
            return []
        return [Problem("SB-1218", "$.circuit", hint="add measurements, or pass observables")]
    if observables.qubits != facts.qubits:
        actual = f"{observables.qubits} qubits"
        return [Problem("SB-1402", "$.observables", limit=f"{facts.qubits} qubits", actual=actual)]
    return []


def _check_size(question: Question, wishes: Wishes, config: Config) -> list[Problem]:
    """Return problems for a circuit that is too wide or too deep for the pool that would run it."""
    pool = wishes.backend or config.routing.default
    settings = config.pools.get(pool)
    if settings is None or settings.kind == "none":
        return []
    facts, problems = question.program.facts, []
    if facts.qubits > settings.max_qubits:
        limit = f"{settings.max_qubits} qubits on {pool}"
        problems.append(Problem("SB-1116", "$.circuit", limit=limit, actual=f"{facts.qubits} qubits"))
    if facts.depth_bound > settings.max_depth:
        limit = f"{settings.max_depth} layers on {pool}"
        problems.append(Problem("SB-1117", "$.circuit", limit=limit, actual=f"{facts.depth_bound} layers"))
    return problems


def build_request(
    question: Question,
    wishes: Wishes,
    *,
    config: Config,
    origin: Mapping[str, Any],
    entropy: bytes,
    now_us: int,
) -> dict[str, Any]:
    """Return the fields of a ``circuit_request``.

    Args:
        question: checked PUB.
        wishes: the rest.
        config: classes and limits that the dispatcher will apply too.
        origin: ``code_commit`` and ``sdk_versions``.
        entropy: 12 random bytes, the job id's when there is no idempotency key.
        now_us: wall time, microseconds.

    Raises:
        ShotbusError: every problem at once.

    """
    if check_wishes(wishes):
        raise ShotbusError(check_envelope(wishes, config, shots=question.shots or 1, now_ms=now_us // 1000))
    bindings = pack_bindings(question.bindings)
    observables = pack_observables(question.observables) if question.observables else b""
    fields = _plain(wishes) | {
        "job_id": _job_id(wishes, entropy),
        "circuit_id": question.program.circuit_id,
        "template": question.program.template,
        "points": question.bindings.points,
        "bindings": bindings,
        "mode": question.mode,
        "shots": question.shots,
        "precision": question.precision,
        "observables": observables,
        "expected": _expected(question),
        "submitted_us": now_us,
        **origin,
    }
    fields["payload_hash"] = payload_hash(fields)
    problems = check_request(fields, config, now_ms=now_us // 1000) + check_reuse(fields)
    problems += _check_size(question, wishes, config)
    most, size = config.limits.max_circuit_bytes, len(question.program.text.encode())
    if size > most:
        problems.append(Problem("SB-1201", "$.circuit", limit=f"{most} bytes", actual=f"{size} bytes"))
    if problems:
        raise ShotbusError(problems)
    return fields


def check_envelope(wishes: Wishes, config: Config, *, shots: Any, now_ms: int) -> list[Problem]:
    """Return what is wrong with a request besides its circuit, bindings and observables.

    For a submission whose PUB is wrong too, so that everything is said at once.
    """
    problems = check_wishes(wishes)
    # What is of the wrong kind has been said; the rest is checked beside it.
    sound = replace(
        wishes, **{name: getattr(_NO_WISHES, name) for name in (one.path[2:] for one in problems)}
    )
    told = int(shots) if is_whole(shots) else 1
    blank: dict[str, Any] = {
        "job_id": _job_id(sound, bytes(12)),
        "circuit_id": "unknown",
        "template": "",
        "points": 1,
        "mode": "sample",
        "shots": told,
        "sdk_versions": {},
        "code_commit": "",
    }
    found = check_request(_plain(sound) | blank, config, now_ms=now_ms)
    # A negative number of shots has been reported with the PUB.
    return problems + [one for one in found if one.code != "SB-1103" or told > 0]


def _job_id(wishes: Wishes, entropy: bytes) -> str:
    return make_job_id(
        wishes.tenant,
        session=wishes.session,
        unique_key=wishes.unique_key,
        idempotency_key=wishes.idempotency_key,
        entropy=entropy,
    )


def _plain(wishes: Wishes) -> dict[str, Any]:
    problem = wishes.problem
    return {
        "tenant": wishes.tenant,
        "principal": wishes.principal,
        "session_id": wishes.session,
        "idempotency_key": wishes.idempotency_key,
        "priority": wishes.priority,
        "experiment": wishes.experiment,
        "intent": wishes.intent,
        "family": wishes.family,
        "family_version": wishes.family_version,
        "seed": wishes.seed,
        "backend": wishes.backend,
        "not_before_ms": wishes.not_before_ms,
        "deadline_ms": wishes.deadline_ms,
        "max_result_age_ms": wishes.max_result_age_ms,
        "sweep_id": wishes.sweep_id,
        "shard_index": wishes.shard_index,
        "options": dict(wishes.options),
        "value": wishes.value,
        "tags": list(wishes.tags),
        "rerun_of": wishes.rerun_of,
        "fallback": list(wishes.fallback),
        "roles": list(wishes.roles),
        **{name: getattr(wishes, name) for name in _SAME},
        "problem": None
        if problem is None
        else {"kind": problem.kind, "version": problem.version, "payload": problem.payload},
    }


def _expected(question: Question) -> dict[str, Any]:
    registers = [{"name": name, "width": width} for name, width in question.program.facts.registers]
    count = question.observables.count if question.observables else 0
    return {"registers": registers, "observables": count, "shape": [question.bindings.points]}
