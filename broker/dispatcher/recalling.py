"""A job that cannot run looks for an earlier result of the same work: what becomes of it then. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shotbus.broker.dispatcher.answers import problems_of
from shotbus.broker.dispatcher.endings import Failure, end_failed, expire, taken_back
from shotbus.broker.dispatcher.fallback import Fallback, is_overdue
from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.messages import Recalled
from shotbus.broker.dispatcher.moves import first_pool
from shotbus.broker.dispatcher.reuse import age_ms, taken_from
from shotbus.broker.dispatcher.shard import Shard
from shotbus.broker.dispatcher.states import Cause, Phase
from shotbus.broker.machine import Now
from shotbus.broker.quality import gates_of
from shotbus.broker.quality_judge import failures
from shotbus.schemas.errors import ShotbusError

#: So many problems of the failure that began it are kept with the job.
_KEPT_PROBLEMS = 3


class Recalling:
    """Takes the answers to a shard's :class:`~shotbus.broker.dispatcher.messages.Recall` commands."""

    def __init__(self, shard: Shard) -> None:
        self._shard, self._fallback = shard, Fallback(shard)

    def recalled(self, event: Recalled, now: Now) -> list[Any]:
        """End a job with the result that was found, or go on with its chain; repetitions change nothing."""
        job = self._shard.jobs.get(event.job_id)
        if job is None or not _asks(job, now):
            return []
        found, most_ms = event.found, 1000 * (job.extras or {}).get("recall_s", 0.0)
        if found is None or found["tenant"] != job.tenant:
            return self._next(job, "no earlier result", now)
        age = age_ms(found, now.wall_ms)
        if age > most_ms:
            return self._next(job, f"the newest result is {age / 1000:.3f} s old", now)
        if missed := _missed(job, found):
            return self._next(job, f"the newest result fails the quality gate: {missed}", now)
        return self._answer(job, found, now)

    def _answer(self, job: Job, found: Mapping[str, Any], now: Now) -> list[Any]:
        told = taken_from(found, "cache", now.wall_ms)
        told["fallback_from"] = first_pool(job)
        terms = {"from_job": found["job_id"], "age_ms": told["age_ms"]}
        back: list[Any] = []
        if is_overdue(job, now):
            terms["why"] = "its deadline has passed"
            # A worker may still have it in hand.
            back = taken_back(self._shard, job)
        return self._shard.end(job, Cause.FALL_BACK, "succeeded_by_fallback", now, told, **terms) + back

    def _next(self, job: Job, why: str, now: Now) -> list[Any]:
        if is_overdue(job, now):
            return expire(self._shard, job, now, looked=why)
        job.forget("overdue")
        if (job.extras or {}).get("fallback_from") == job.pool:
            # It may still run where it was sent to: that would be no fallback.
            job.forget("fallback_from")
        commands = self._fallback.step(job, now, why)
        if commands is not None:
            return commands
        extras = job.extras or {}
        if "waited" in extras and "failure" not in extras:
            # Nothing is wrong with its pool but that it is slow.
            job.forget("fallback_from")
            self._shard.requeue(job, Cause.REROUTE, now, why=why)
            return []
        return end_failed(self._shard, job, _first_failure(job), now)


def _asks(job: Job, now: Now) -> bool:
    """Tell whether a job waits for what is found: aside, or past its deadline in a worker's hand."""
    return job.phase is Phase.FALLING_BACK or (job.phase is Phase.FORWARDED and is_overdue(job, now))


def remember_failure(job: Job, failure: Failure) -> None:
    """Keep with a job that looks for an earlier result why it does, in case there is none."""
    if job.phase is Phase.FALLING_BACK:
        kept = [failure.outcome, list(failure.problems)[:_KEPT_PROBLEMS], failure.buried_as]
        job.keep(failure=kept)


def _missed(job: Job, found: Mapping[str, Any]) -> str:
    """Return which gate of a job an earlier result fails, empty for none: that job may have had others."""
    gates, _ = gates_of((job.extras or {}).get("quality", {}))
    try:
        problems = failures(gates, found["payload"]) if gates else []
    except ShotbusError as error:
        problems = list(error.problems)
    return str(problems[0]) if problems else ""


def _first_failure(job: Job) -> Failure:
    kept = (job.extras or {}).get("failure")
    return Failure(*kept) if kept else Failure("failed", problems_of("SB-1154"))
