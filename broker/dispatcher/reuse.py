"""What a job's answer may be filed under, decided as it comes in and again as it comes out. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.keys import anywhere
from shotbus.broker.dispatcher.messages import Submitted
from shotbus.broker.policy.decision import Decision

_NOTHING: Mapping[str, Any] = {}


def wants_history(request: Mapping[str, Any], decision: Decision | None) -> bool:
    """Tell whether a request, or the policy's word about it, may ask for results of the same work."""
    if request["top_up"] or request["tolerance"] is not None:
        return True
    if decision is not None and decision.action == "cache":
        return True
    chain = request["fallback"] or (() if decision is None else decision.fallback)
    return any(str(step).startswith("cache:") for step in chain)


def remember(job: Job, event: Submitted) -> None:
    """Note what an accepted job's answer will be filed under."""
    if event.history_key:
        job.keep(history=event.history_key)
    if event.calibration:
        job.keep(calibration=event.calibration)


def top_up(job: Job, prior: tuple[str, int] | None) -> None:
    """Have a job run only what an earlier one's result is short of: that job's id and the missing shots."""
    if prior is not None:
        job.keep(top_up=list(prior))


def forget_place(job: Job) -> None:
    """Let a job that runs elsewhere now run all its shots, and be found wherever its answer comes from."""
    if job.extras and "history" in job.extras:
        job.keep(history=anywhere(job.extras["history"]))
        job.forget("top_up")


def filed(job: Job, outcome: Mapping[str, Any], now_ms: int) -> Mapping[str, Any]:
    """Return under which keys the answer of an attempt is filed, and what it says of shots it was given.

    A device that was calibrated anew meanwhile has not given the answer that was asked for.
    """
    extras, calibration = job.extras or _NOTHING, outcome["calibration_id"]
    if not extras and not calibration:
        return _NOTHING
    history, told = extras.get("history", ""), dict[str, Any]()
    if calibration and calibration != extras.get("calibration", ""):
        history, told["cache_key"] = anywhere(history), ""
    if extras.get("overrides"):
        history = anywhere(history)
    if "top_up" in extras and (since := _topped_up(outcome, job.job_id).get("oldest_us")):
        # Older shots are in it than whoever finds it under the cache key may take for its age.
        told |= {"answered_by": "top_up", "age_ms": max(0, now_ms - since // 1000), "cache_key": ""}
    return {**told, "history_key": history}


def age_ms(result: Mapping[str, Any], now_ms: int) -> int:
    """Return how old the oldest part of a result is, milliseconds of wall time; never negative."""
    return max(0, now_ms - oldest_us(result) // 1000)


def oldest_us(result: Mapping[str, Any]) -> int:
    """Return when the oldest part of a result was finished, wall time: earlier shots may be part of it."""
    finished: int = result["finished_us"]
    return min(finished, int(topped_up(result).get("oldest_us", finished)))


def topped_up(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a result's provenance says of the earlier shots in it; nothing for most."""
    return _topped_up(result, result["job_id"]) if result["answered_by"] == "top_up" else _NOTHING


def _topped_up(told: Mapping[str, Any], job_id: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(told["provenance"] or b"{}").get("top_up", {}).get(job_id, {})
    return found


def taken_from(result: Mapping[str, Any], answered_by: str, now_ms: int) -> dict[str, Any]:
    """Return what a result takes from an earlier one: its numbers, its provenance and its age."""
    names = ("executed_on", "provenance", "payload", "seed")
    told = {name: result[name] for name in names} | {"shots": 0}
    return told | {"answered_by": answered_by, "age_ms": age_ms(result, now_ms)}
