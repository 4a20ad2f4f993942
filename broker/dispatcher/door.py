"""The way in: what is said of a submission, and how an accepted job begins. Pure."""

from __future__ import annotations

from typing import Any

from shotbus.broker.dispatcher.admission import check_pool, check_request
from shotbus.broker.dispatcher.answers import drawn_seed, fingerprint, from_cache, problems_of
from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.messages import Relay, Submitted
from shotbus.broker.dispatcher.shard import Shard
from shotbus.broker.dispatcher.states import Cause, Phase
from shotbus.broker.machine import Now
from shotbus.schemas.errors import Problem
from shotbus.schemas.ids import partition_of


class Door:
    """Admits requests to a shard."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    def submitted(self, event: Submitted, now: Now) -> list[Any]:
        """Take a request: accept, refuse, relay it, or recognise it."""
        request = event.request
        known = self._repeated(event, now)
        if known is not None:
            return known
        problems = [
            *event.contradictions,
            *check_request(request, self._shard.config, now_ms=now.wall_ms),
        ]
        if not event.reference.topic.endswith(f"requests.{request['priority']}"):
            limit = f"the class of its topic, {event.reference.topic}"
            problems.append(Problem("SB-1101", "$.priority", limit=limit, actual=request["priority"]))
        if not problems and partition_of(request["job_id"], self._shard.partitions) != self._shard.number:
            if not event.relayed:
                return [Relay(event.reference, partition_of(request["job_id"], self._shard.partitions))]
            problems = [Problem("SB-1109", "$.job_id", detail="relayed to a shard that is not its own")]
        problems += check_pool(request, event.pool, self._shard.config)
        if problems:
            return [self._shard.reports.refusal(request, problems, now, traceparent=event.traceparent)]
        most = self._shard.config.limits.max_waiting // self._shard.partitions
        if len(self._shard.jobs) >= most:
            full = [Problem("SB-1111", "$", limit=str(most), actual=str(len(self._shard.jobs)))]
            return [
                self._shard.reports.refusal(
                    request, full, now, retry_after_ms=5_000, traceparent=event.traceparent
                )
            ]
        return self._accept(event, now)

    def _repeated(self, event: Submitted, now: Now) -> list[Any] | None:
        """Recognise a job id that is live or finished; None for a new one."""
        job_id, payload = event.request["job_id"], event.request["payload_hash"]
        live = self._shard.jobs.get(job_id)
        done = None if live else self._shard.done.find(job_id)
        if live is None and done is None:
            return None
        self._shard.counters.dedup_hits += 1
        tenant = event.request["tenant"]
        if live:
            same = (live.payload_hash, live.tenant) == (payload, tenant)
        else:
            same = done is not None and done.payload == fingerprint(tenant, payload)
        if not same:
            problem = Problem("SB-1106", "$.idempotency_key", hint="use a new key for a new payload")
            return [self._shard.reports.refusal(event.request, [problem], now, traceparent=event.traceparent)]
        if done is None:
            return []
        home = self._shard.reports.home(event.request["sweep_id"])
        located = self._shard.reports.located(
            job_id, now, outcome=done.outcome, finished_ms=done.finished_ms, partition=home
        )
        return [located]

    def _accept(self, event: Submitted, now: Now) -> list[Any]:
        job = Job(event.request, event.reference, event.pool)
        seed = event.request["seed"]
        job.seed = drawn_seed(job.job_id) if seed is None else seed
        job.cost = job.points * self._shard.speed[job.pool]
        job.bytes_in, job.traceparent, job.cache_key = event.size, event.traceparent, event.cache_key
        job.accepted_us = now.wall_ms * 1000
        job.admit_us = 1000 * max(0, now.wall_ms - event.published_ms)
        self._shard.accept(job)
        if self._shard.standing.wanted_gone(job):
            return self._shard.end(job, Cause.CANCEL, "cancelled", now, {"problems": problems_of("SB-4002")})
        if event.cached is not None:
            return self._shard.end(job, Cause.CACHE_HIT, "served_from_cache", now, from_cache(event.cached))
        if job.not_before_ms > now.wall_ms:
            job.move(Cause.ACCEPT_LATER)
            self._shard.agenda.later(job)
        else:
            job.move(Cause.ACCEPT)
            self._shard.enqueue(job, job.accepted_us)
        self._shard.agenda.watch(job)
        self._shard.note(job, Cause.ACCEPT if job.phase is Phase.WAITING else Cause.ACCEPT_LATER)
        return []

    def excuse(self, event: Submitted, now: Now) -> list[Any]:
        """Refuse a request that could not be handled; a job that is known gets an answer of its own."""
        job_id = event.request["job_id"]
        if job_id in self._shard.jobs or self._shard.done.find(job_id):
            return []
        problem = Problem("SB-9001", "$", detail="the request could not be handled and is a dead letter now")
        return [self._shard.reports.refusal(event.request, [problem], now, traceparent=event.traceparent)]
