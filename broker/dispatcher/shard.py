"""State of one dispatcher shard, and the few ways in which jobs change in it. Pure.

Whoever decides (door, judge, desk, floor) changes jobs through these methods only, so that queue, timers,
bundles, ledger rows and events never disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shotbus.broker.config import Config, PoolConfig
from shotbus.broker.dispatcher.agenda import Agenda
from shotbus.broker.dispatcher.answers import fingerprint, owner_mark
from shotbus.broker.dispatcher.bundles import Bundle, BundleBook
from shotbus.broker.dispatcher.done import ENTRIES_A_PAGE, DoneLog
from shotbus.broker.dispatcher.fairqueue import FairQueue
from shotbus.broker.dispatcher.job import Job, Seat
from shotbus.broker.dispatcher.reports import Reports
from shotbus.broker.dispatcher.standing import Standing
from shotbus.broker.dispatcher.states import TERMINAL, WITH_A_WORKER, Cause, Phase
from shotbus.broker.machine import Now

_UNKNOWN_POOL = PoolConfig()


class Counters:
    """What happened since the last look; the edge turns it into metrics."""

    __slots__ = ("accepted", "dedup_hits", "ended", "fenced", "retries")

    def __init__(self) -> None:
        self.accepted: dict[str, int] = {}
        #: Class and seconds from submission to result of each job that ended.
        self.ended: list[tuple[str, float]] = []
        self.dedup_hits = 0
        self.fenced = 0
        self.retries: dict[str, int] = {}


class Shard:
    """One shard of the dispatcher.

    Args:
        number: its partition on every topic partitioned by route.
        partitions: how many shards there are.
        config: classes, pools, limits, retry.

    """

    def __init__(self, number: int, partitions: int, config: Config) -> None:
        self.number, self.partitions, self.config = number, partitions, config
        self._weights = {name: entry.weight for name, entry in config.classes.items()}
        self.queues: dict[str, FairQueue[Job]] = {
            pool: FairQueue(self._weights) for pool in sorted(config.pools)
        }
        self.jobs: dict[str, Job] = {}
        #: Jobs that were cancelled in flight: their rows keep the worker's credit occupied.
        self.ghosts: dict[str, Job] = {}
        self.bundles = BundleBook()
        self.done = DoneLog(
            retention_s=int(config.broker.retention_days * 86_400),
            max_pages=max(1, config.broker.remembered_jobs // ENTRIES_A_PAGE),
        )
        self.reports = Reports(number, partitions)
        self.agenda = Agenda(self.jobs)
        self.standing = Standing()
        self.speed = {name: pool.seconds_per_point for name, pool in config.pools.items()}
        self.counters = Counters()
        self._touched: dict[bytes, None] = {}

    # --- rows ---

    def touch(self, *keys: bytes) -> None:
        """Note that rows changed."""
        self._touched.update(dict.fromkeys(keys))

    def take_touched(self) -> list[bytes]:
        """Return the keys whose rows changed since the last call, in order."""
        keys, self._touched = list(self._touched), {}
        return keys

    def pool(self, name: str) -> PoolConfig:
        """Return a pool's settings, defaults for one that is no longer configured."""
        return self.config.pools.get(name, _UNKNOWN_POOL)

    # --- jobs ---

    def accept(self, job: Job) -> None:
        """Take a job in; it is not placed yet."""
        self.jobs[job.job_id] = job
        self.counters.accepted[job.priority] = self.counters.accepted.get(job.priority, 0) + 1

    def enqueue(self, job: Job, at_us: int) -> None:
        """Put a waiting job into its pool's queue."""
        job.queued_us = at_us
        self.queue_of(job.pool).push(job)

    def queue_of(self, pool: str) -> FairQueue[Job]:
        """Return a pool's queue; jobs of a pool that is no longer configured wait for it."""
        queue = self.queues.get(pool)
        if queue is None:
            queue = self.queues[pool] = FairQueue(self._weights)
        return queue

    def note(self, job: Job, cause: Cause, detail: str = "") -> None:
        """Tell a job's change of state, and have its row written."""
        self.touch(job.job_id.encode())
        self.reports.note(job, cause, detail)

    def end(self, job: Job, cause: Cause, outcome: str, now: Now, answer: Mapping[str, Any]) -> list[Any]:
        """Finish a job: the one place where a terminal result is made."""
        if job.phase is Phase.WAITING:
            self.queues[job.pool].remove(job)
            job.leave_queue(now.wall_ms * 1000)
        elif self.bundles.carries(job):
            self.ghosts[job.job_id] = job
        job.move(cause)
        assert job.phase in TERMINAL
        del self.jobs[job.job_id]
        self.counters.ended.append((job.priority, max(0.0, now.wall_ms / 1e3 - job.submitted_us / 1e6)))
        key = job.job_id.encode()
        if job.persisted:
            self.touch(key)
        else:
            self._touched.pop(key, None)
        mark = fingerprint(job.tenant, job.payload_hash)
        self.touch(*self.done.add(job.job_id, mark, outcome, now.wall_ms, owner=owner_mark(job.tenant)))
        self.reports.note(job, cause, outcome)
        return [self.reports.result(job, outcome, now, answer)]

    def exorcise(self, bundle: Bundle, job_id: str) -> None:
        """Let go of the row of an attempt that ended after its job."""
        ghost = self.ghosts.get(job_id)
        if ghost is not None and ghost.bundle_id == bundle.bundle_id:
            del self.ghosts[job_id]
            self.touch(job_id.encode())

    def restore_job(self, job: Job, seat: Seat) -> None:
        """Take a job back from its row."""
        if job.phase in TERMINAL:
            self.ghosts[job.job_id] = job
            self.bundles.restore(job, seat)
            return
        self.jobs[job.job_id] = job
        if job.phase in WITH_A_WORKER:
            self.bundles.restore(job, seat)
        elif job.phase is Phase.WAITING:
            self.queue_of(job.pool).push(job)
        else:
            self.agenda.later(job)
        self.agenda.watch(job)
