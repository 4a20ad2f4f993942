"""Builds what the dispatcher publishes: results, refusals, locations, events. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from shotbus.broker.bus.base import Headers
from shotbus.broker.dispatcher.attempted import with_history
from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.states import WORDS, Cause, Phase
from shotbus.broker.machine import Emit, Now
from shotbus.broker.stages import ENDED_BY, Timings
from shotbus.schemas.errors import MAX_PROBLEMS, Problem
from shotbus.schemas.ids import keyed_partition
from shotbus.schemas.outcomes import ABOUT_A_POOL, ABOUT_A_SUBMISSION, LATE_HEADER, REFUSED

# Thousands of jobs may change in a micro-batch; with the longest names an event has 2.5 KB,
# and a record of ``events`` at most 4 MiB.
EVENTS_A_RECORD = 1_000
# Terms of decisions are ASCII.
TERMS_A_RECORD = 1_048_576
_NOWHERE: Mapping[str, Any] = MappingProxyType(
    {"sub_status": "", "outcome": "", "finished_ms": 0, "shard": -1, "jobs": 0, "in_flight": 0}
)
# Looked up three times a job; an Enum's value is a function call.
_CAUSES = {cause: (cause.value, ENDED_BY.get(cause.value, "")) for cause in Cause}
_NOT_WAITING: Mapping[str, Any] = MappingProxyType({})
_OF_NO_JOB: Mapping[str, Any] = MappingProxyType(
    {
        "job_id": "",
        "state": ABOUT_A_POOL,
        "sub_status": "",
        "attempt": 0,
        "tenant": "",
        "sweep_id": "",
        "traceparent": "",
        "stage": "",
    }
)
# What is refused may be refused for the length of its names.
_LONGEST_NAME = 256


class Reports:
    """Builder for one shard.

    Args:
        shard: partition of this shard on every topic that is partitioned by route.
        partitions: partitions of those topics.

    """

    def __init__(self, shard: int, partitions: int) -> None:
        self._shard, self._partitions = shard, partitions
        self._events: list[dict[str, Any]] = []

    def home(self, sweep_id: str) -> int:
        """Return the partition of ``results`` that a job's submitter tails."""
        return keyed_partition(sweep_id, self._partitions) if sweep_id else self._shard

    def result(self, job: Job, outcome: str, now: Now, answer: Mapping[str, Any]) -> Emit:
        """Return the terminal result; ``answer`` overrides what a job without an answer has."""
        rule, _, version = job.rule.partition("@")
        timings = _timings(job, answer.get("timings", b""))
        if job.extras:
            answer = with_history(job, answer)
        fields = {
            "job_id": job.job_id,
            "tenant": job.tenant,
            "sweep_id": job.sweep_id,
            "shard_index": job.shard_index,
            "outcome": outcome,
            "executed_on": "",
            "pool": job.pool,
            "attempt": job.attempt,
            "points": job.points,
            "shots": 0,
            "seed": job.seed,
            "circuit_id": job.circuit_id,
            "experiment": job.experiment,
            "intent": job.intent,
            "payload": b"",
            "problems": (),
            "bytes_in": job.bytes_in,
            "provenance": b"",
            "cache_key": job.cache_key,
            "request_topic": job.reference.topic,
            "request_partition": job.reference.partition,
            "request_offset": job.reference.offset,
            "submitted_us": job.submitted_us,
            "accepted_us": job.accepted_us,
            "finished_us": now.wall_ms * 1000,
            "traceparent": job.traceparent,
            "rule": rule,
            "policy_version": version,
            **answer,
            "timings": timings,
        }
        headers = _headers(job.job_id, job.tenant, job.sweep_id, job.traceparent)
        if answer.get("late"):
            headers = (*headers, LATE_HEADER)
        return Emit(
            "results", self.home(job.sweep_id), job.job_id.encode(), "circuit_result", fields, headers
        )

    def refusal(
        self,
        request: Mapping[str, Any],
        problems: Sequence[Problem],
        now: Now,
        *,
        retry_after_ms: int = 0,
        traceparent: str = "",
    ) -> Emit:
        """Return the answer to a submission that was not accepted.

        Its header ``payload`` tells submissions under one id apart: whoever reused an idempotency key is
        refused under the id of the job that has it.
        """
        fields = {
            "job_id": request["job_id"],
            "tenant": request["tenant"],
            "sweep_id": request["sweep_id"],
            "shard_index": request["shard_index"],
            "problems": [problem.as_record() for problem in problems],
            "retry_after_ms": retry_after_ms,
            "refused_us": now.wall_ms * 1000,
        }
        headers = _headers(request["job_id"], request["tenant"], request["sweep_id"], traceparent)
        headers = (*headers, ("payload", request["payload_hash"].hex().encode()))
        key = request["job_id"].encode()
        return Emit("results", self.home(request["sweep_id"]), key, "refusal", fields, headers)

    def located(
        self,
        job_id: str,
        now: Now,
        *,
        phase: Phase | None = None,
        outcome: str = "",
        finished_ms: int = 0,
        correlation: str = "",
        partition: int | None = None,
        waits: Mapping[str, Any] = _NOT_WAITING,
    ) -> Emit:
        """Return where a job is: live (``phase``), finished (``outcome``), or not known.

        ``waits``: position, interval of its end, pool and reason of one that waits.
        """
        words = WORDS[phase] if phase else None
        fields = {
            **_NOWHERE,
            **waits,
            "job_id": job_id,
            "correlation": correlation,
            "status": words.status if words else ("FINISHED" if outcome else "UNKNOWN"),
            "sub_status": words.sub_status if words else "",
            "outcome": outcome,
            "finished_ms": finished_ms,
            "at_us": now.wall_ms * 1000,
        }
        place = self._shard if partition is None else partition
        return Emit("results", place, job_id.encode(), "located", fields, (("job-id", job_id.encode()),))

    def counted(
        self, name: str, now: Now, status: str, jobs: int, in_flight: int, *, correlation: str
    ) -> Emit:
        """Return how many jobs of a sweep or a pool this shard has, and how many are with a worker."""
        told = {"job_id": name, "correlation": correlation, "status": status, "at_us": now.wall_ms * 1000}
        fields = {**_NOWHERE, **told, "shard": self._shard, "jobs": jobs, "in_flight": in_flight}
        return Emit("results", self._shard, name.encode(), "located", fields)

    def told(self, name: str, now: Now, text: str, *, correlation: str) -> Emit:
        """Return what this shard was asked for, as JSON."""
        about = {"job_id": name, "correlation": correlation, "status": "TOLD", "at_us": now.wall_ms * 1000}
        fields = {**_NOWHERE, **about, "shard": self._shard, "told": text}
        return Emit("results", self._shard, name.encode(), "located", fields)

    def changed(
        self, name: str, now: Now, *, changed: int, problems: Sequence[str], correlation: str
    ) -> Emit:
        """Return how many jobs of this shard a command changed, and why not the others."""
        told = {"job_id": name, "correlation": correlation, "status": "CHANGED", "at_us": now.wall_ms * 1000}
        fields = {**_NOWHERE, **told, "shard": self._shard, "changed": changed, "problems": problems}
        return Emit("results", self._shard, name.encode(), "located", fields)

    def note(self, job: Job, cause: Cause, detail: str = "", terms: Mapping[str, Any] = _NOT_WAITING) -> None:
        """Add a state change to this micro-batch's event record; ``terms`` say why, as JSON may."""
        words = WORDS[job.phase] if job.phase else ("", "")
        name, stage = _CAUSES[cause]
        if job.extras and (main := job.extras.get("companion_of")):
            # First, so that readers know it by the beginning: it is nobody's job.
            terms = {"companion_of": main, "role": job.extras["role"], **terms}
        self._events.append(
            {
                "job_id": job.job_id,
                "state": words[0],
                "sub_status": words[1],
                "cause": detail or name,
                "attempt": job.attempt,
                "pool": job.pool,
                "tenant": job.tenant,
                "sweep_id": job.sweep_id,
                "traceparent": job.traceparent,
                "stage": stage,
                "detail": json.dumps(terms, separators=(",", ":")) if terms else "",
            }
        )

    def about_pool(self, pool: str, cause: str, terms: Mapping[str, Any]) -> None:
        """Add what was decided about a pool: an event of no job."""
        self._events.append(
            {
                **_OF_NO_JOB,
                "cause": cause,
                "pool": pool,
                "detail": json.dumps(terms, separators=(",", ":")) if terms else "",
            }
        )

    def turned_away(
        self,
        request: Mapping[str, Any],
        problems: Sequence[Problem],
        *,
        retry_after_ms: int,
        traceparent: str,
    ) -> None:
        """Add that a submission was refused at the door: an event of no job, its id may be another's."""
        terms = {
            "job_id": request["job_id"][:_LONGEST_NAME],
            "payload": request["payload_hash"].hex(),
            "problems": records_of(problems),
            **({"retry_after_ms": retry_after_ms} if retry_after_ms else {}),
        }
        self._events.append(
            {
                **_OF_NO_JOB,
                "state": ABOUT_A_SUBMISSION,
                "sub_status": REFUSED,
                "cause": Cause.REFUSE.value,
                "pool": "",
                "tenant": request["tenant"][:_LONGEST_NAME],
                "sweep_id": request["sweep_id"][:_LONGEST_NAME],
                "traceparent": traceparent,
                "detail": json.dumps(terms, separators=(",", ":")),
            }
        )

    def flush(self, now: Now, next_sequence: Callable[[Now], int]) -> list[Emit]:
        """Return the micro-batch's event record, when anything happened; several when there is much."""
        events, self._events = self._events, []
        return [self._batch(some, next_sequence(now), now) for some in _cut(events)]

    def _batch(self, events: Sequence[Mapping[str, Any]], sequence: int, now: Now) -> Emit:
        fields = {
            "shard": self._shard,
            "sequence": sequence,
            "at_us": now.wall_ms * 1000,
            "events": events,
        }
        return Emit("events", self._shard, None, "event_batch", fields)


def records_of(problems: Sequence[Problem]) -> list[dict[str, str]]:
    """Return problems as terms of an event, without the fields that say nothing."""
    told = [problem.as_record() for problem in problems[:MAX_PROBLEMS]]
    return [{name: text for name, text in one.items() if text} for one in told]


def _cut(events: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Divide events into what a record holds: so many, with so much to say."""
    start = said = 0
    for end, event in enumerate(events):
        length = len(event["detail"])
        if end - start == EVENTS_A_RECORD or (end > start and said + length > TERMS_A_RECORD):
            yield events[start:end]
            start, said = end, 0
        said += length
    if start < len(events):
        yield events[start:]


def _headers(job_id: str, tenant: str, sweep_id: str, traceparent: str) -> Headers:
    return (
        ("job-id", job_id.encode()),
        ("tenant", tenant.encode()),
        ("sweep-id", sweep_id.encode()),
        ("traceparent", traceparent.encode()),
    )


def _timings(job: Job, worker: bytes) -> bytes:
    timings = Timings.unpack(worker)
    if job.prepare_us:
        timings.add("client-prepare", job.prepare_us / 1e6)
    if job.think_us:
        timings.add("think", job.think_us / 1e6)
    timings.add("admit", job.admit_us / 1e6, bytes_in=job.bytes_in)
    timings.add("queue", job.queue_us / 1e6)
    return timings.pack()
