"""When an earlier answer to the same question is enough, or counts towards a new one. Pure.

Shots of one piece of work add up because each run draws its own: an unseeded job's seed follows from its
id, and a result is only added to when the new seed is none of those that are in it already. A job with a
seed of its own asks for exactly the shots of that seed, so it neither tops up nor is it topped up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.messages import Submitted
from shotbus.broker.dispatcher.reuse import age_ms, taken_from, top_up, topped_up
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import Problem, ShotbusError
from shotbus.schemas.jsonbytes import with_member
from shotbus.schemas.pub import Counts, Estimates, unpack_result

#: A larger record is not sent along with a job; its shots are taken again.
PRIOR_BYTES = 262_144
#: Runs that one result may be made of.
MAX_RUNS = 64


class Prior(NamedTuple):
    """An earlier result that counts: whose it is, and how many shots of each point are still missing."""

    job_id: str
    missing: int


def check_reuse(request: Mapping[str, Any]) -> list[Problem]:
    """Return why a request cannot be answered with earlier shots or estimates, although it asks for it."""
    problems, tolerance = [], request["tolerance"]
    if request["top_up"] and (request["mode"] != "sample" or request["seed"] is not None):
        hint = "shots of one seed do not add up, estimates take a tolerance"
        problems.append(Problem("SB-1108", "$.top_up", limit="a sampling job without a seed", hint=hint))
    if tolerance is not None and request["mode"] != "estimate":
        hint = "counts are topped up"
        problems.append(Problem("SB-1108", "$.tolerance", limit="an estimation job", hint=hint))
    return problems


def asks_for_earlier(request: Mapping[str, Any]) -> bool:
    """Tell whether an earlier answer may be enough, or count."""
    return request["top_up"] or request["tolerance"] is not None


def enough(event: Submitted, job: Job, now_ms: int) -> dict[str, Any] | None:
    """Return what a job takes from an earlier result that came with its request; None when it has to run.

    Where earlier shots count it is told to run the missing ones only.
    """
    if event.cached is not None:
        cached = taken_from(event.cached, "cache", now_ms)
        source = json.dumps(
            {"job_id": event.cached["job_id"], "age_ms": cached["age_ms"]}, separators=(",", ":")
        )
        # What the cache holds was run: it is taken from nobody, and has no such member yet.
        return cached | {"provenance": with_member(cached["provenance"], "reused", source)}
    if event.earlier is None:
        return None
    told = reused(event.request, event.earlier, now_ms)
    if told is None:
        top_up(job, prior_of(event.request, event.earlier, job.seed, now_ms))
    return told


def reused(request: Mapping[str, Any], result: Mapping[str, Any], now_ms: int) -> dict[str, Any] | None:
    """Return what a job takes from an earlier result that is enough; None when it is not.

    Args:
        request: says how many shots, or which standard error, would do.
        result: an earlier ``circuit_result`` of the same work on the same target.
        now_ms: wall time.

    """
    payload = _payload(request, result, now_ms)
    if isinstance(payload, Counts) and request["top_up"]:
        shots = payload.least_shots
        return _named(result, "top_up", now_ms, shots=shots) if shots >= request["shots"] else None
    if isinstance(payload, Estimates) and request["tolerance"] is not None:
        largest = float(payload.stds.max(initial=0.0))
        enough = largest <= request["tolerance"]
        return _named(result, "tolerance", now_ms, largest_std=largest) if enough else None
    return None


def prior_of(request: Mapping[str, Any], result: Mapping[str, Any], seed: int, now_ms: int) -> Prior | None:
    """Return which shots a job need not run again, when it would run with ``seed``; None for all of them.

    ``result`` is an earlier ``circuit_result`` of the same work on the same target, ``now_ms`` wall time.
    """
    if not request["top_up"] or len(result["payload"]) + len(result["provenance"]) > PRIOR_BYTES:
        return None
    payload = _payload(request, result, now_ms)
    if not isinstance(payload, Counts) or not 1 <= payload.least_shots < request["shots"]:
        return None
    seeds = seeds_of(result)
    if seed in seeds or len(seeds) >= MAX_RUNS:
        return None
    return Prior(result["job_id"], request["shots"] - payload.least_shots)


def read_result(raw: bytes | None) -> Mapping[str, Any] | None:
    """Decode what a store holds; None when there is nothing, or nothing that can be read."""
    if raw is None:
        return None
    try:
        return decode(raw, "circuit_result")[1]
    except ShotbusError:
        return None


def seeds_of(result: Mapping[str, Any]) -> Sequence[int]:
    """Return the seeds of all runs whose shots are in a result."""
    return [*topped_up(result).get("seeds", ()), result["seed"]]


def _payload(request: Mapping[str, Any], result: Mapping[str, Any], now_ms: int) -> Counts | Estimates | None:
    """Unpack an earlier answer that is the tenant's own, of the same points and young enough."""
    oldest = request["max_result_age_ms"]
    if result["tenant"] != request["tenant"] or result["points"] != request["points"]:
        return None
    if oldest is not None and age_ms(result, now_ms) > oldest:
        return None
    try:
        return unpack_result(result["payload"])
    except ShotbusError:
        return None


def _named(result: Mapping[str, Any], answered_by: str, now_ms: int, **why: float) -> dict[str, Any]:
    """Take an earlier answer and name it in the provenance."""
    told = taken_from(result, answered_by, now_ms)
    known = json.loads(result["provenance"] or b"{}")
    known["reused"] = {"job_id": result["job_id"], "age_ms": told["age_ms"], **why}
    return told | {"provenance": json.dumps(known, separators=(",", ":")).encode()}
