"""A job out of a submission: what was asked, and what the policy says about it. Pure."""

from __future__ import annotations

from sys import intern

from shotbus.broker.dispatcher import staging
from shotbus.broker.dispatcher.answers import drawn_seed, unique_mark
from shotbus.broker.dispatcher.attempted import RERUN_OF
from shotbus.broker.dispatcher.job import Job, shared_chain
from shotbus.broker.dispatcher.messages import Submitted
from shotbus.broker.dispatcher.reuse import remember
from shotbus.broker.dispatcher.shard import Shard
from shotbus.broker.dispatcher.traits import circuits_of, traits_of
from shotbus.broker.machine import Now
from shotbus.broker.policy.decision import Decision
from shotbus.broker.policy.facts import PUBLIC
from shotbus.broker.policy.work import work_class
from shotbus.broker.quality import quality_of


def new_job(event: Submitted, now: Now) -> Job:
    """Return the job that a sound request asks for; its phase is set by its first move."""
    request = event.request
    job = Job(request, event.reference, event.pool)
    seed = request["seed"]
    job.seed = drawn_seed(job.job_id) if seed is None else seed
    job.bytes_in, job.traceparent = event.size, event.traceparent
    job.accepted_us = now.wall_ms * 1000
    job.admit_us = 1000 * max(0, now.wall_ms - event.published_ms)
    if request["unique_key"]:
        job.keep(unique=unique_mark(request))
    if request["options"] and (gate := quality_of(request["options"])):
        job.keep(quality=gate)
    if request["rerun_of"]:
        job.keep(**{RERUN_OF: request["rerun_of"]})
    if request["data_class"] not in PUBLIC:
        job.keep(data_class=request["data_class"])
    if request["max_cost"] is not None:
        job.keep(max_cost=request["max_cost"])
    return job


def route(shard: Shard, job: Job, event: Submitted) -> None:
    """Note where the policy sends a job, and what it says besides."""
    decision = event.decision
    job.pool = intern(event.pool)
    job.traits = traits_of(event.request, event.facts.qubits if event.facts else 0)
    job.work = work_class(event.facts, job.shots, circuits_of(job.traits))
    job.cost = shard.run_seconds(job, job.pool)
    job.cache_key = event.cache_key
    remember(job, event)
    if decision is None:
        return
    job.rule = intern(f"{decision.rule}@{decision.version}")
    if decision.fallback:
        job.chain = shared_chain(tuple(map(str, decision.fallback)))
    if decision.not_before_ms:
        job.not_before_ms = max(job.not_before_ms, decision.not_before_ms)
    if decision.windows:
        job.keep(windows=list(decision.windows))
    if decision.quality:
        job.keep(quality={**(job.extras or {}).get("quality", {}), **decision.quality})
    if decision.priority:
        shard.jobs.change_class(job, intern(decision.priority))
    _keep_ways(job, decision)
    _into_session(shard, job, sticky=decision.sticky)
    staging.begin(shard, job, event)
    if decision.shadow or event.request["speculate"]:
        shard.beside.plan(job, event)
    if gates := shard.router.gates(event.request, event.facts, decision, job.accepted_us // 1000):
        job.keep(gates=gates)


def _into_session(shard: Shard, job: Job, *, sticky: bool) -> None:
    """Have a job be its session's last one; the first on its pool opens it there."""
    if shard.opens_session(job, job.pool):
        shard.funds.opens(job, job.pool)
    shard.touch(*shard.router.sessions.went(job.tenant, job.session_id, job.pool, sticky=sticky))


def _keep_ways(job: Job, decision: Decision) -> None:
    """Keep with a job where else its rule would have it, and when it goes there of its own accord."""
    if decision.others:
        job.keep(others=list(decision.others))
    if decision.max_queue_seconds is not None and (decision.fallback or decision.others):
        # Without a step to take there is nothing that it could do when it has waited too long.
        job.keep(max_queue_ms=max(1, int(1000 * decision.max_queue_seconds)))
