"""What a job does on cheap pools before it may go to its own: pre-screen, green run, baseline. Pure.

The stages are attempts of the same job. While they run, ``stages`` among its extras are those that are left
and ``then`` is where it goes after them; its pool is that of the first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from sys import intern
from typing import Any

from shotbus.broker.dispatcher.admission import check_pool, solves_problems
from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.kept import MOST_BYTES, as_bytes, as_text, compared, opened
from shotbus.broker.dispatcher.messages import Submitted
from shotbus.broker.dispatcher.reuse import forget_place
from shotbus.broker.dispatcher.shard import Shard
from shotbus.broker.dispatcher.states import Cause, Phase
from shotbus.broker.machine import Now
from shotbus.broker.policy.config import Span
from shotbus.schemas.errors import Problem
from shotbus.schemas.quantities import quantity

Stage = Mapping[str, str]
#: What was tried on one pool says nothing about the next.
_OF_ONE_POOL = frozenset(
    {"stages", "then", "first_failed_ms", "tried", "failed", "overrides", "unsure", "asked"}
)
_NOTHING: Mapping[str, Any] = {}


def unmet(shard: Shard, event: Submitted) -> list[Problem]:
    """Return which demands of its rule a submission cannot meet."""
    return plan(shard, event)[1]


def plan(shard: Shard, event: Submitted) -> tuple[list[Stage], list[Problem]]:
    """Return what comes before a submission's pool, and which demands nothing here can meet."""
    decision = event.decision
    if decision is None or not (decision.prescreen or decision.requires):
        return [], []
    stages: list[Stage] = []
    problems: list[Problem] = []
    if (screen := decision.prescreen) is not None:
        told = {
            "kind": "prescreen",
            "pool": screen.pool,
            "quantity": screen.quantity,
            "keep": str(screen.keep),
        }
        stages.append(told)
    for kind in ("green_run", "baseline"):
        if kind not in decision.requires:
            continue
        pool = _pool_for(shard, event, kind, [stage["pool"] for stage in stages])
        if pool is None:
            problems.append(
                Problem("SB-1155", "$", limit=f"{kind}: a cheap pool that can take it", actual="none")
            )
        elif pool != event.pool:
            stages.append({"kind": kind, "pool": pool})
    if "budget" in decision.requires and not _has_money(shard, event):
        actual = f"none for {event.request['tenant']}"
        problems.append(Problem("SB-1155", "$.tenant", limit="budget: one of money", actual=actual))
    return stages, problems


def _has_money(shard: Shard, event: Submitted) -> bool:
    return shard.funds.has_money(event.request["tenant"], event.request["experiment"], event.pool)


def begin(shard: Shard, job: Job, event: Submitted) -> None:
    """Send a new job to its first stage, if it has any."""
    stages, _ = plan(shard, event)
    if not stages:
        return
    extras, opens_ms = job.extras or {}, event.decision.not_before_ms if event.decision else 0
    then = {
        "pool": job.pool,
        "cache_key": job.cache_key,
        "not_before_ms": opens_ms,
        "history": extras.get("history", ""),
    }
    job.keep(stages=stages, then=then)
    # Its own pool may be closed: that is no reason for the others to wait.
    job.not_before_ms = event.request["not_before_ms"] or 0
    job.pool, job.cache_key = intern(stages[0]["pool"]), ""
    forget_place(job)
    job.cost = shard.run_seconds(job, job.pool)


def stages_here(job: Job) -> list[Stage]:
    """Return the stages that a job does where it is."""
    extras = job.extras or _NOTHING
    if "stages" not in extras or "fallback_from" in extras:
        return []
    return [stage for stage in extras["stages"] if stage["pool"] == job.pool]


class Staging:
    """Takes the answers of stages."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    def passed(self, job: Job, told: Mapping[str, Any], now: Now) -> list[Any]:
        """Go on after a stage succeeded, or end a job that was screened out with the cheap answer."""
        here, terms = stages_here(job), dict[str, Any]()
        answer = opened(told["payload"])
        for stage in here:
            terms[stage["kind"]] = job.pool
            if stage["kind"] != "prescreen":
                continue
            value = quantity(stage["quantity"], answer)
            terms |= {"quantity": stage["quantity"], "value": value, "keep": stage["keep"]}
            # What cannot be looked at is no reason to withhold the real answer.
            if value is not None and not Span(stage["keep"]).holds(value):
                return self._screened_out(job, told, terms, now)
        self._go_on(job, here, told, terms, now)
        return []

    def _screened_out(self, job: Job, told: Mapping[str, Any], terms: dict[str, Any], now: Now) -> list[Any]:
        instead_of = (job.extras or _NOTHING)["then"]["pool"]
        known = json.loads(told["provenance"] or b"{}")
        known["prescreen"] = {**terms, "instead_of": instead_of}
        words = json.dumps(known, separators=(",", ":")).encode()
        told = {**told, **costs(job, told), "answered_by": "prescreen", "provenance": words}
        return self._shard.end(job, Cause.SUCCEED, "succeeded", now, told, instead_of=instead_of, **terms)

    def _go_on(
        self, job: Job, here: Sequence[Stage], told: Mapping[str, Any], terms: dict[str, Any], now: Now
    ) -> None:
        """Send a job to its next stage, or to its own pool."""
        shard, extras = self._shard, job.extras or _NOTHING
        left, then = [stage for stage in extras["stages"] if stage not in here], extras["then"]
        # Another submission than the stage's, should both pools be one provider's.
        more = {"staged": job.attempt, "token": extras.get("token", 0) + 1, "spent": costs(job, told)}
        more["passed"] = [*extras.get("passed", ()), *(stage["kind"] for stage in here)]
        if any(stage["kind"] == "baseline" for stage in here) and len(told["payload"]) <= MOST_BYTES:
            more["baseline"] = as_text(told["payload"])
        if left:
            more |= {"stages": left, "then": then}
        elif "fallback_from" in then:
            more["fallback_from"] = then["fallback_from"]
        job.forget(*_OF_ONE_POOL)
        job.keep(**more)
        job.failures = 0
        if left:
            shard.requeue(job, Cause.REROUTE, now, pool=left[0]["pool"], **terms)
            return
        opens_ms = then["not_before_ms"]
        if opens_ms > now.wall_ms:
            shard.move_to(job, then["pool"], now)
            shard.put_off(job, Cause.DEFER, opens_ms, now, **terms)
        else:
            shard.requeue(job, Cause.REROUTE, now, pool=then["pool"], **terms)
        job.cache_key = then["cache_key"]
        if job.phase is Phase.WAITING:
            # From here on others may share its result.
            shard.sharing.lead(job.cache_key, job.job_id)
        if then["history"]:
            job.keep(history=then["history"])


def afterwards(job: Job, told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a final answer says of what came before it: what that cost, how far it is from them."""
    extras = job.extras or _NOTHING
    if "spent" not in extras:
        return {}
    more: dict[str, Any] = dict(costs(job, told))
    if "baseline" in extras:
        more |= compared(told["payload"], as_bytes(extras["baseline"]), job.traits)
    return more


def costs(job: Job, told: Mapping[str, Any]) -> dict[str, float]:
    """Add what stages and billed failures before took to what an attempt took."""
    before = (job.extras or _NOTHING).get("spent", _NOTHING)
    return {
        name: before.get(name, 0.0) + max(0.0, told.get(name, 0.0)) for name in ("cost", "backend_seconds")
    }


def _pool_for(shard: Shard, event: Submitted, kind: str, planned: Sequence[str]) -> str | None:
    """Return where a stage runs: its own pool when that is cheap already, a planned one, else the first."""
    return next(iter(_pools_for(shard, event, kind, planned)), None)


def _pools_for(shard: Shard, event: Submitted, kind: str, planned: Sequence[str]) -> Iterator[str]:
    pools, request = shard.config.pools, event.request
    if kind == "baseline" and request["problem"] is not None:
        yield from (name for name in pools if solves_problems(pools, name) and _takes(shard, event, name))
    names = [event.pool, *planned, *sorted(pools, key=shard.is_paid)]
    for name in names:
        if name in pools and pools[name].kind == "simulator" and _takes(shard, event, name):
            yield name


def _takes(shard: Shard, event: Submitted, pool: str) -> bool:
    size = {"qubits": event.facts.qubits, "depth": event.facts.depth_bound} if event.facts else {}
    roles, wanted = event.request["roles"], shard.pool(pool).access.roles
    if check_pool(event.request, pool, shard.config, **size) or (wanted and not set(wanted) & set(roles)):
        return False
    return shard.router.policy.admits(pool, event.request["data_class"])
