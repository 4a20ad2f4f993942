"""A live job as the dispatcher holds it. Pure.

Small on purpose: hundreds of thousands may wait. The request itself stays on the bus and is referenced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from sys import intern
from typing import Any, NamedTuple

from shotbus.broker.dispatcher.states import Cause, Phase, next_phase

#: A job that waited this long goes before every deadline that is later; an hour, milliseconds.
PATIENCE_MS = 3_600_000


class Reference(NamedTuple):
    """Where a request stands."""

    topic: str
    partition: int
    offset: int


class Job:
    """One live job. ``key`` belongs to the job book, ``persisted`` to the ledger."""

    __slots__ = (
        "accepted_us",
        "admit_us",
        "attempt",
        "bundle_id",
        "bytes_in",
        "cache_key",
        "chain",
        "circuit_id",
        "cost",
        "deadline_ms",
        "deaths",
        "experiment",
        "extras",
        "failures",
        "family",
        "intent",
        "job_id",
        "key",
        "not_before_ms",
        "payload_hash",
        "persisted",
        "phase",
        "points",
        "pool",
        "predicted_us",
        "prepare_us",
        "priority",
        "queue_us",
        "queued_us",
        "reference",
        "rule",
        "seed",
        "session_id",
        "shard_index",
        "shots",
        "submitted_us",
        "sweep_id",
        "tenant",
        "think_us",
        "traceparent",
        "traits",
        "work",
    )

    def __init__(self, fields: Mapping[str, Any], reference: Reference, pool: str) -> None:
        """Start from a request's or a row's fields; the phase is set by the first move."""
        self.job_id: str = fields["job_id"]
        self.payload_hash: bytes = fields["payload_hash"]
        # What many jobs have in common is held once: it would be a fifth of a waiting job.
        self.reference, self.pool = reference, intern(pool)
        self.tenant: str = intern(fields["tenant"])
        self.priority: str = intern(fields["priority"])
        self.points: int = fields["points"]
        self.shots: int = fields["shots"]
        self.sweep_id: str = intern(fields["sweep_id"])
        self.shard_index: int = fields["shard_index"]
        self.circuit_id: str = intern(fields["circuit_id"])
        self.experiment: str = intern(fields["experiment"])
        self.intent: str = intern(fields["intent"])
        self.session_id: str = intern(fields["session_id"])
        self.family: str = intern(fields["family"])
        self.submitted_us: int = fields["submitted_us"]
        self.deadline_ms: int = fields["deadline_ms"] or 0
        self.not_before_ms: int = fields["not_before_ms"] or 0
        self.prepare_us: int = fields["prepare_us" if "prepare_us" in fields else "client_prepare_us"]
        self.think_us: int = fields["think_us"]
        #: Fallback steps that are left, and the rule of the policy that gave them.
        self.chain: tuple[str, ...] = ()
        self.rule = ""
        #: What a pool must be able to do for it; see :mod:`shotbus.broker.dispatcher.traits`.
        self.traits = 0
        #: Its class of work; see :mod:`shotbus.broker.policy.work`.
        self.work = 0
        self.predicted_us = 0
        #: What few jobs have, as it stands in the row; None for most.
        self.extras: dict[str, Any] | None = None
        self.phase: Phase | None = None
        self.seed = 0
        self.cost = 0.0
        self.attempt = self.failures = self.deaths = 0
        self.bundle_id = self.cache_key = self.traceparent = ""
        self.accepted_us = self.bytes_in = 0
        self.admit_us = self.queued_us = self.queue_us = 0
        self.key = -1
        self.persisted = False

    @property
    def due_ms(self) -> int:
        """When it is due, wall time: its deadline, but never later than its patience ends.

        A job without a deadline would else wait for as long as others with one keep coming.
        """
        patient = self.accepted_us // 1000 + PATIENCE_MS
        return min(self.deadline_ms, patient) if self.deadline_ms else patient

    @property
    def order(self) -> int:
        """Order of admission, the same after a restore: acceptance time, then place on the bus."""
        return (self.accepted_us << 20) + (self.reference.offset & 0xFFFFF)

    def leave_queue(self, at_us: int) -> None:
        """Add the time since it was queued; clocks of two processes never make it negative."""
        self.queue_us += max(0, at_us - self.queued_us)
        self.queued_us = 0

    def keep(self, **facts: Any) -> None:
        """Put facts among its extras, as JSON may hold them."""
        self.extras = {**self.extras, **facts} if self.extras else facts

    def forget(self, *names: str) -> None:
        """Take facts out of its extras; those that are not there are no mistake."""
        if self.extras:
            self.extras = {name: fact for name, fact in self.extras.items() if name not in names} or None

    def move(self, cause: Cause) -> None:
        """Change phase along the table. Raises IllegalTransitionError."""
        self.phase = next_phase(self.phase, cause)


class Seat(NamedTuple):
    """The worker-side facts of a bundle that a row repeats for each of its jobs."""

    worker: str = ""
    lease_id: str = ""
    partition: int = 0
    start_by_ms: int = 0


@lru_cache(maxsize=1_024)
def shared_chain(chain: tuple[str, ...]) -> tuple[str, ...]:
    """Return the one copy of a chain that jobs which were routed alike have in common."""
    return chain


def job_of_row(fields: Mapping[str, Any]) -> tuple[Job, Seat]:
    """Return the job of a decoded ledger row, and where it sits."""
    topic = intern(fields["request_topic"])
    reference = Reference(topic, fields["request_partition"], fields["request_offset"])
    job = Job(fields, reference, fields["pool"])
    for name in ("attempt", "failures", "deaths", "bundle_id", "cost", "seed", "cache_key", "traceparent"):
        setattr(job, name, fields[name])
    names = ("accepted_us", "bytes_in", "admit_us", "queued_us", "queue_us", "traits", "predicted_us", "work")
    for name in names:
        setattr(job, name, fields[name])
    job.chain, job.rule = shared_chain(tuple(fields["chain"])), intern(fields["rule"])
    job.extras = json.loads(fields["extras"]) if fields["extras"] else None
    job.phase, job.persisted = Phase(fields["state"]), True
    return job, seat_of_row(fields)


def seat_of_row(fields: Mapping[str, Any]) -> Seat:
    """Return where the job of a decoded ledger row sits."""
    return Seat(fields["worker"], fields["lease_id"], fields["target_partition"], fields["start_by_ms"])
