"""A request as the door would see it, and what the door says of it: the door's own functions. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from shotbus.broker.config import Config
from shotbus.broker.dispatcher.admission import check_pool, check_request
from shotbus.broker.dispatcher.wishes import check_names
from shotbus.broker.policy.decision import Decision
from shotbus.broker.policy.facts import Asked
from shotbus.broker.policy.inforce import InForce
from shotbus.broker.policy.policy import Policy
from shotbus.broker.quality import OWN, never_met
from shotbus.cli.requestfile import RequestFile
from shotbus.schemas.errors import Problem
from shotbus.schemas.ids import job_id
from shotbus.schemas.openqasm import CircuitFacts

_DEFAULT_SHOTS = 1_024
_NOBODY = "0" * 32
_INTENTS = ("explore", "test", "benchmark", "production")
#: What stands in an envelope as the request says it.
_SAME = (
    *("tenant", "priority", "intent", "data_class", "experiment", "backend", "window", "points", "value"),
    *("value_per_second", "confidence", "max_cost", "tolerance", "top_up", "speculate"),
    *("unique_key", "unique_policy"),
)
#: What nobody says who only asks.
_UNSAID: Mapping[str, Any] = {
    **dict.fromkeys(("idempotency_key", "sweep_id", "rerun_of", "template"), ""),
    **dict.fromkeys(("seed", "precision", "max_result_age_ms")),
    "code_commit": "",
    "sdk_versions": {},
    "circuit_id": "unknown",
}


def envelope(
    request: RequestFile,
    circuit: CircuitFacts | None,
    *,
    has_circuit: bool,
    now_ms: int,
    problems: list[Problem],
) -> dict[str, Any]:
    """Return the request's fields as the door decodes them; times that are none are added to ``problems``.

    ``circuit`` None: it has none, or one that is refused.
    """
    family, _, version = request.family.partition("@")
    estimates = bool(request.observables) or not has_circuit
    shots = request.shots if request.shots is not None else 0 if estimates else _DEFAULT_SHOTS
    return {
        **_UNSAID,
        **{name: getattr(request, name) for name in _SAME},
        "principal": request.principal or "whoever asks",
        "job_id": _job_id(request),
        "session_id": request.session,
        "options": request.options | {f"{OWN}{name}": text for name, text in request.quality.items()},
        "family": family,
        "family_version": version,
        "mode": "estimate" if estimates else "sample",
        "shots": shots,
        "observables": request.observables,
        "expected": {"observables": len(request.observables), "registers": _registers(circuit)},
        "problem": {} if request.problem else None,
        "deadline_ms": _when("deadline", request.deadline, now_ms, problems),
        "not_before_ms": _when("not_before", request.not_before, now_ms, problems),
        "roles": list(request.roles),
        "tags": list(request.tags),
        "fallback": list(request.fallback),
    }


def _job_id(request: RequestFile) -> str:
    """Return an id that such a request may have: with a session or a key its route is that of others."""
    if not (request.session or request.unique_key):
        return _NOBODY
    return job_id(request.tenant, session=request.session, unique_key=request.unique_key, entropy=bytes(12))


def _registers(circuit: CircuitFacts | None) -> list[dict[str, Any]]:
    return [{"name": name, "width": width} for name, width in circuit.registers] if circuit else []


def _when(name: str, seconds: float | None, now_ms: int, problems: list[Problem]) -> int | None:
    if seconds is None:
        return None
    if not math.isfinite(seconds):
        problems.append(Problem("SB-1108", f"$.{name}", limit="seconds from now", actual=str(seconds)))
        return None
    return now_ms + int(seconds * 1000)


def wrong(
    fields: Mapping[str, Any], flags: Mapping[str, float], config: Config, now_ms: int
) -> list[Problem]:
    """Return what is refused whatever the pool, and names that nothing there has."""
    problems = check_request(fields, config, now_ms=now_ms)
    if fields["intent"] not in _INTENTS:
        problems.append(Problem("SB-1108", "$.intent", limit=", ".join(_INTENTS), actual=fields["intent"]))
    problems += check_names(fields, config)
    for name, value in flags.items():
        limit = ", ".join(config.flags) or "no flag is configured"
        if name not in config.flags:
            problems.append(Problem("SB-2002", "--flag", limit=limit, actual=name))
        elif not 0 <= value <= 100:
            problems.append(Problem("SB-2002", "--flag", limit="0 to 100", actual=f"{name}={value}"))
    return problems


def asked_of(
    fields: Mapping[str, Any], request: RequestFile, circuit: CircuitFacts | None, force: InForce
) -> Asked:
    """Return the job as routing sees it."""
    looked_at = circuit if force.config.inspection.mode != "off" else None
    session_pool = request.session_pool or force.session_pool
    return Asked.of(fields, looked_at, session_pool=session_pool, satisfied=request.satisfied)


def decide(
    asked: Asked, fields: Mapping[str, Any], force: InForce, flags: Mapping[str, float], now_ms: int
) -> Decision:
    """Return what becomes of the job: the policy's word, and the refusal of a pool that cannot take it."""
    switched = {**force.flags, **flags}
    policy = Policy.compile(force.config)
    found = policy.decide(asked, force.views, flags=switched, history=force.history, now_ms=now_ms)
    problems = _unfit(found, asked, fields, force.config)
    return replace(found, action="refuse", problems=tuple(problems)) if problems else found


def _unfit(decision: Decision, asked: Asked, fields: Mapping[str, Any], config: Config) -> Sequence[Problem]:
    if decision.refused:
        return ()
    circuit = asked.circuit
    if unmet := never_met(decision.quality, fields):
        return unmet
    size = {"qubits": circuit.qubits, "depth": circuit.depth_bound} if circuit else {}
    return check_pool(fields, decision.pool, config, **size) if decision.pool else ()
