"""What became of attempts: outcomes, lapsed leases, retries, the end of a job. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from shotbus.broker.dispatcher.answers import answer, answered, problems_of
from shotbus.broker.dispatcher.bundles import Bundle
from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.messages import Bury, Reported
from shotbus.broker.dispatcher.retry import Verdict, decide
from shotbus.broker.dispatcher.shard import Shard
from shotbus.broker.dispatcher.states import Cause
from shotbus.broker.machine import Now
from shotbus.broker.stages import Timings
from shotbus.schemas.errors import Problem


class Judge:
    """Judges the attempts of a shard."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    def reported(self, event: Reported, now: Now) -> list[Any]:
        """Take a worker's word about a bundle."""
        outcome = event.outcome
        bundle = self._shard.bundles.get(outcome["bundle_id"])
        if bundle is None or (bundle.started and bundle.lease_id != outcome["lease_id"]):
            self._shard.counters.fenced += max(1, len(outcome["items"]))
            return []
        settings = self._shard.pool(bundle.pool)
        first = not bundle.started
        self._shard.bundles.claim(
            bundle, outcome["worker"], outcome["lease_id"], now.seen + settings.lease_seconds
        )
        if first:
            self._started(bundle, answered(bundle, outcome))
        commands: list[Any] = []
        if outcome["kind"] == "finished":
            self._measure(bundle, outcome["items"])
            for item in outcome["items"]:
                commands += self._judge(bundle, outcome, item, now)
        return commands

    def _started(self, bundle: Bundle, answered: AbstractSet[str]) -> None:
        """Note the lease in every row, whatever the worker's first word was: it is what fences others.

        Jobs that this word already ends or sends back need none.
        """
        for job_id in bundle.open:
            if job_id in answered:
                continue
            job = self._shard.jobs.get(job_id)
            if job is None or job.bundle_id != bundle.bundle_id:
                self._shard.touch(job_id.encode())
                continue
            job.move(Cause.START)
            self._shard.note(job, Cause.START)

    def _judge(
        self, bundle: Bundle, outcome: Mapping[str, Any], item: Mapping[str, Any], now: Now
    ) -> list[Any]:
        """Judge one attempt: the fencing token must be the one in flight."""
        job_id = item["job_id"]
        job = self._shard.jobs.get(job_id)
        if bundle.open.get(job_id) != item["attempt"]:
            self._shard.counters.fenced += 1
            return []
        self._shard.bundles.close(bundle, job_id)
        if job is None or job.bundle_id != bundle.bundle_id:
            self._shard.exorcise(bundle, job_id)
            self._shard.counters.fenced += 1
            return []
        if not item["error_class"]:
            return self._shard.end(job, Cause.SUCCEED, "succeeded", now, answer(outcome, item))
        return self._failed(job, item["error_class"], item["problems"], now, item["retry_after_ms"])

    def _failed(
        self,
        job: Job,
        error_class: str,
        problems: Sequence[Mapping[str, Any]],
        now: Now,
        retry_after_ms: int = 0,
    ) -> list[Any]:
        verdict = decide(
            error_class,
            job=job.job_id,
            attempt=job.attempt,
            failures=job.failures,
            deaths=job.deaths,
            retry_after_ms=retry_after_ms,
            policy=self._shard.config.retry,
        )
        job.failures += verdict.charged
        job.deaths += verdict.death
        if verdict.delay_ms is not None:
            return self._retry(job, error_class, verdict.delay_ms, now)
        return self._give_up(job, error_class, problems, verdict, now)

    def _retry(self, job: Job, error_class: str, delay_ms: int, now: Now) -> list[Any]:
        self._shard.counters.retries[error_class] = self._shard.counters.retries.get(error_class, 0) + 1
        self._shard.put_off(job, Cause.RETRY, now.wall_ms + delay_ms, now, f"retry after {error_class}")
        return []

    def _give_up(
        self, job: Job, error_class: str, problems: Sequence[Mapping[str, Any]], verdict: Verdict, now: Now
    ) -> list[Any]:
        records = [dict(problem) for problem in problems] or problems_of("SB-5001")
        commands = self._shard.end(job, Cause.FAIL, verdict.outcome, now, {"problems": records})
        if verdict.outcome == "dead_lettered":
            buried_as = "POISON" if verdict.death else error_class
            problem = Problem.from_record(records[0])
            commands.append(Bury(job.reference, job.job_id, buried_as, problem, job.attempt))
        return commands

    def _measure(self, bundle: Bundle, items: Sequence[Mapping[str, Any]]) -> None:
        """Learn how long a point takes; the estimate is what fairness and bundles are counted in."""
        for item in items[:1]:
            job = self._shard.jobs.get(item["job_id"])
            if job is None or item["error_class"]:
                continue
            spent = Timings.unpack(item["timings"]).seconds("execute")
            if 0 < spent < math.inf and bundle.open.get(job.job_id) == item["attempt"]:
                known = self._shard.speed.get(bundle.pool, spent / job.points)
                self._shard.speed[bundle.pool] = known + 0.1 * (spent / job.points - known)

    def expire_leases(self, now: Now) -> list[Any]:
        """Take back what workers have had for too long."""
        commands: list[Any] = []
        for bundle in self._shard.bundles.lapsed(now):
            error_class = "LOST" if bundle.started else "NOT_STARTED"
            self._shard.bundles.drop(bundle)
            for job_id in bundle.open:
                self._shard.exorcise(bundle, job_id)
                job = self._shard.jobs.get(job_id)
                if job is not None and job.bundle_id == bundle.bundle_id:
                    commands += self._failed(job, error_class, problems_of("SB-5002"), now)
        return commands
