"""How a live job is called off, or given up when nothing else can be done for it. Pure.

It is called off at once where nobody has it, by its worker's word where it may cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from shotbus.broker.dispatcher.beside import is_companion
from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.messages import Bury, Revoke
from shotbus.broker.dispatcher.moves import passed_over
from shotbus.broker.dispatcher.shard import Shard
from shotbus.broker.dispatcher.states import AT_HAND, Cause, Phase
from shotbus.broker.machine import Now
from shotbus.schemas.errors import Problem

_NO_TERMS: Mapping[str, Any] = MappingProxyType({})
_OUTCOMES = {Cause.CANCEL: "cancelled", Cause.SUPERSEDE: "superseded"}
_IN_HAND = "its worker had not begun it"
_CODES = {Cause.CANCEL: "SB-4002", Cause.SUPERSEDE: "SB-4009"}


class Failure(NamedTuple):
    """How a job ends that nothing else can be done for.

    ``buried_as``: the class of its dead letter. ``why``: what was decided from, in words.
    """

    outcome: str
    problems: Sequence[Mapping[str, Any]]
    buried_as: str = ""
    why: str = ""


def end_failed(shard: Shard, job: Job, failure: Failure, now: Now) -> list[Any]:
    """End a job without an answer, unless one is being prepared beside it."""
    if job.extras and "companions" in job.extras and shard.beside.hold(job, failure, now):
        return []
    answer, codes = {"problems": list(failure.problems)}, [one["code"] for one in failure.problems]
    terms = {"codes": codes, "why": failure.why, **passed_over(job)}
    commands = shard.end(job, Cause.FAIL, failure.outcome, now, answer, **terms)
    if failure.outcome == "dead_lettered" and job.phase is Phase.ERROR and not is_companion(job):
        problem = Problem.from_record(failure.problems[0])
        commands.append(
            Bury(job.reference, job.job_id, failure.buried_as, problem, job.attempt, pool=job.pool)
        )
    return commands


def give_up(shard: Shard, job: Job, cause: Cause, now: Now, *, by: str = "", **terms: Any) -> list[Any]:
    """Call a job off: ``cause`` is CANCEL or SUPERSEDE (``by`` the newer job); ``terms`` say who wished it.

    What waits ends at once. What runs on a free pool ends at once too, and its worker is told to stop. What
    a paid pool may have goes on as CANCELLING until the worker, or the provider, says how it ended: only
    then is it known whether it was paid for.
    """
    if job.phase in AT_HAND:
        return end_called_off(shard, job, cause, now, by=by, where="it was waiting", terms=terms)
    if job.phase in (Phase.CANCELLING, Phase.RECONCILING, Phase.LOOKING_UP):
        return _wish(shard, job, cause, by, terms)
    assert job.phase in (Phase.FORWARDED, Phase.RUNNING)
    revoke = taken_back(shard, job)
    if not shard.is_paid(job.pool):
        where = "its worker was told to stop"
        return [*end_called_off(shard, job, cause, now, by=by, where=where, terms=terms), *revoke]
    _wish(shard, job, cause, by, {**terms, "worker": shard.bundles.holder(job)})
    return revoke


def expire(shard: Shard, job: Job, now: Now, **terms: Any) -> list[Any]:
    """End a job whose deadline has passed before it began; a worker that has it in hand never begins it.

    On a pool that costs nothing has been submitted: for that its worker waits until its claim is recorded.
    """
    revoke = taken_back(shard, job) if job.phase is Phase.FORWARDED else []
    return [*_expired(shard, job, Problem("SB-4003"), now, **terms), *revoke]


def expire_in_hand(shard: Shard, job: Job, problems: Sequence[Mapping[str, Any]], now: Now) -> list[Any]:
    """End a job that its worker did not begin for its deadline; ``problems`` are what it reported.

    The worker's clock decides, also when ours says that there is time left: sent again, the job would come
    back until ours says so too.
    """
    told = Problem.from_record(problems[0]).actual if problems else ""
    problem = Problem("SB-4003", "$", actual=told, detail=_IN_HAND)
    return _expired(shard, job, problem, now, where=_IN_HAND, by_its_clock=told)


def _expired(shard: Shard, job: Job, problem: Problem, now: Now, **terms: Any) -> list[Any]:
    told, terms = {"problems": [problem.as_record()]}, {"deadline_ms": job.deadline_ms, **terms}
    return shard.end(job, Cause.EXPIRE, "expired", now, told, **terms)


def end_called_off(
    shard: Shard,
    job: Job,
    cause: Cause,
    now: Now,
    *,
    by: str = "",
    where: str = "",
    told: Cause | None = None,
    terms: Mapping[str, Any] = _NO_TERMS,
) -> list[Any]:
    """End a job that was called off.

    ``told`` says why where ``cause`` only says how; ``where`` how far it had come; ``terms`` who wished it.
    """
    why = told or cause
    problem = Problem(_CODES[why], "$", actual=by, detail=where)
    answer = {"problems": [problem.as_record()]}
    told_by = {"newer": by} if by else {}
    return shard.end(
        job, cause, _OUTCOMES[why], now, answer, where=where, **told_by, **last_failure(job), **terms
    )


def last_failure(job: Job) -> dict[str, Any]:
    """Return, as terms of its end, how a job failed last and which pools did not take it since, with why."""
    failed = (job.extras or {}).get("failed")
    return {**({"failed": failed} if failed else {}), **passed_over(job)}


def called_off(job: Job) -> tuple[Cause, str] | None:
    """Return how a job was called off while it could not be ended, and for which newer job."""
    wish = (job.extras or {}).get("called_off")
    return (Cause(wish[0]), wish[1]) if wish else None


def _wish(shard: Shard, job: Job, cause: Cause, by: str, terms: Mapping[str, Any]) -> list[Any]:
    if cause is Cause.SUPERSEDE and job.extras and "unique" in job.extras:
        # Its successor has the key, over a restore as well.
        job.forget("unique")
        shard.touch(job.job_id.encode())
    if called_off(job) is None:
        job.keep(called_off=[cause.value, by])
        job.move(Cause.REVOKE)
        shard.note(job, Cause.REVOKE, wish=cause.value, **({"newer": by} if by else {}), **terms)
    return []


def taken_back(shard: Shard, job: Job) -> list[Any]:
    """Return what tells a job's worker, if one has it, to stop; to be asked before the job ends."""
    bundle = shard.bundles.get(job.bundle_id)
    if bundle is None or not shard.bundles.carries(job):
        return []
    return [Revoke(bundle.pool, bundle.worker, bundle.bundle_id, (job.job_id,))]
