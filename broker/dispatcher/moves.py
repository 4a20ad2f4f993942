"""Moves to other pools after the door: what speaks against one, and what a job has to do before it. Pure.

``gates`` among a job's extras are the demands of the rules that name a pool, by pool, as they were at the
door: whichever way a job goes later, they hold. A role and an approval bar the way; a budget of money must be
there when the job moves; a green run or a baseline that the job has not passed is done first, as a stage.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shotbus.broker.dispatcher.admission import solves_problems
from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.shard import Shard
from shotbus.broker.dispatcher.traits import PROBLEM

#: The demands that a run on a cheap pool meets, in the order in which they are met.
STAGES = ("green_run", "baseline")
_CLOSED = {"role": "asks for a role that its submitter has not", "approval": "asks for a person's approval"}
_NOTHING: Mapping[str, Any] = {}


def barred(shard: Shard, job: Job, pool: str) -> str:
    """Return why a job may not be moved to a pool; empty when it may, by way of stages or at once."""
    extras = job.extras or _NOTHING
    open_stages = [stage["kind"] for stage in extras.get("stages", ())]
    if "green_run" in open_stages and shard.pool(pool).kind == "hardware":
        return "is for jobs that have passed their green run"
    for demand in extras.get("gates", _NOTHING).get(pool, ()):
        if why := _unmet(shard, job, pool, demand, open_stages):
            return why
    return shard.unfit(job, pool)


def _unmet(shard: Shard, job: Job, pool: str, demand: str, open_stages: Sequence[str]) -> str:
    if demand == "budget":
        covered = shard.funds.has_money(job.tenant, job.experiment, pool)
        return "" if covered else "asks for a budget of money, and there is none"
    if demand not in STAGES:
        return _CLOSED[demand]
    if demand in _passed(job):
        return ""
    if demand in open_stages:
        return f"asks for a {demand}, which the job has not passed"
    return "" if _place(shard, job, pool, demand) else f"asks for a {demand} that no pool can do"


def way(shard: Shard, job: Job, pool: str) -> str:
    """Return where a job goes that is moved to a pool, if that is not :func:`barred`: there, or to a stage.

    What is left to do is kept with the job; so is ``fallback_from``, which holds from the pool on.
    """
    demands = (job.extras or _NOTHING).get("gates", _NOTHING).get(pool, ())
    wanted = [kind for kind in STAGES if kind in demands and kind not in _passed(job)]
    places = [(kind, _place(shard, job, pool, kind)) for kind in wanted]
    stages = [{"kind": kind, "pool": place} for kind, place in places if place != pool]
    if not stages:
        return pool
    then = {"pool": pool, "cache_key": "", "not_before_ms": 0, "history": ""}
    before = (job.extras or _NOTHING).get("fallback_from", "")
    job.forget("fallback_from")
    job.keep(stages=stages, then={**then, "fallback_from": before} if before else then)
    return stages[0]["pool"]


def first_pool(job: Job) -> str:
    """Return the pool that a job was routed to first."""
    extras = job.extras or _NOTHING
    then = extras.get("then", _NOTHING)
    own: str = then.get("fallback_from") or then.get("pool") or job.pool
    return extras.get("fallback_from") or own


def passed_over(job: Job) -> dict[str, Any]:
    """Take the pools that did not take a job since this was asked last, with why, as terms of an event."""
    found = (job.extras or _NOTHING).get("passed_over")
    job.forget("passed_over")
    return {"passed_over": found} if found else {}


def approved(job: Job) -> None:
    """Note that a person has let a job go: that holds on whatever way it goes from here."""
    gates: Mapping[str, Sequence[str]] = (job.extras or _NOTHING).get("gates", _NOTHING)
    if gates:
        job.keep(gates={pool: [one for one in names if one != "approval"] for pool, names in gates.items()})


def _passed(job: Job) -> Sequence[str]:
    passed: Sequence[str] = (job.extras or _NOTHING).get("passed", ())
    return passed


def _place(shard: Shard, job: Job, pool: str, kind: str) -> str:
    """Return where a stage runs: the pool itself when that is cheap, else the first that takes the job."""
    return next(_places(shard, job, pool, kind), "")


def _places(shard: Shard, job: Job, pool: str, kind: str) -> Iterator[str]:
    pools = shard.config.pools
    if kind == "baseline" and job.traits & PROBLEM:
        yield from (name for name in pools if solves_problems(pools, name) and _takes(shard, job, name))
    # Where it is, it has waited or failed: another one is better.
    for name in (pool, *sorted(pools, key=lambda one: (shard.is_paid(one), one == job.pool))):
        if name in pools and pools[name].kind == "simulator" and _takes(shard, job, name):
            yield name


def _takes(shard: Shard, job: Job, pool: str) -> bool:
    gates = (job.extras or _NOTHING).get("gates", _NOTHING).get(pool, ())
    return not any(name in _CLOSED for name in gates) and not shard.unfit(job, pool)
