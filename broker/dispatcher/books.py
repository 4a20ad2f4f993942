"""State of one dispatcher shard, and what is asked of it: pools, jobs, rows that changed. Pure.

What changes jobs is in :mod:`shotbus.broker.dispatcher.shard`, which builds on this.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from shotbus.broker.audit import AuditChain
from shotbus.broker.config import Config, PoolConfig
from shotbus.broker.dispatcher.admission import lacks
from shotbus.broker.dispatcher.beside import is_companion
from shotbus.broker.dispatcher.broadcasts import Broadcasts
from shotbus.broker.dispatcher.bundles import Bundle, BundleBook
from shotbus.broker.dispatcher.concurrency import Concurrency
from shotbus.broker.dispatcher.counters import Counters
from shotbus.broker.dispatcher.done import ENTRIES_A_PAGE, DoneLog
from shotbus.broker.dispatcher.funds import Funds
from shotbus.broker.dispatcher.guard import Guard
from shotbus.broker.dispatcher.histories import Measured
from shotbus.broker.dispatcher.hours import Hours
from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.jobbook import JobBook
from shotbus.broker.dispatcher.patience import Patience
from shotbus.broker.dispatcher.reloaded import Reloaded
from shotbus.broker.dispatcher.reports import Reports
from shotbus.broker.dispatcher.routing import Router
from shotbus.broker.dispatcher.sharing import Sharing
from shotbus.broker.dispatcher.speeds import Speeds
from shotbus.broker.dispatcher.standing import Standing
from shotbus.broker.dispatcher.states import Cause
from shotbus.broker.dispatcher.stranded import Stranded
from shotbus.broker.dispatcher.timetable import Timetable
from shotbus.broker.dispatcher.waiting import WaitingQueue
from shotbus.broker.machine import Emit, Now
from shotbus.broker.policy.windows import Window

if TYPE_CHECKING:
    # companions.py calls the shard: imported for real this would be a circle.
    from shotbus.broker.dispatcher.companions import Companions

#: Among the extras of a job of a measured family that was sent: since when it has been in its pool's hands,
#: from the queue on. A delay that is none of the pool's ends that.
SINCE = "since_us"
_UNKNOWN_POOL = PoolConfig()
_NOTHING: Mapping[str, float] = MappingProxyType({})


class Books:
    """Everything that one shard of the dispatcher knows.

    Args:
        number: its partition on every topic partitioned by route.
        partitions: how many shards there are.
        config: classes, pools, limits, retry.

    """

    def __init__(self, number: int, partitions: int, config: Config) -> None:
        self.number, self.partitions, self.config = number, partitions, config
        self._weights = {name: entry.weight for name, entry in config.classes.items()}
        self.jobs = JobBook()
        #: What the shards of this process know, itself included: some limits count in all of them together.
        self.neighbours: Mapping[int, Books] = {number: self}
        #: Jobs with workers, where that is limited.
        self.running = Concurrency(config.limits.concurrency, number, partitions)
        self.queues: dict[str, WaitingQueue] = {}
        for pool in sorted(config.pools):
            self.queue_of(pool)
        #: Jobs that were cancelled in flight: their rows keep the worker's credit occupied.
        self.ghosts: dict[str, Job] = {}
        self.bundles = BundleBook()
        self.done = DoneLog(
            retention_s=int(config.broker.retention_days * 86_400),
            max_pages=max(1, config.broker.remembered_jobs // ENTRIES_A_PAGE),
        )
        self.reports = Reports(number, partitions)
        self.agenda = Timetable()
        self.patience = Patience()
        #: Waiting jobs that could go elsewhere, should their pool take no work.
        self.stranded = Stranded()
        self.standing = Standing()
        #: Wishes about many jobs that are carried out a step at a time.
        self.broadcasts = Broadcasts()
        self.funds = Funds(number, partitions, config)
        #: Jobs whose submission waits for the Treasury's word.
        self.asking: dict[str, None] = {}
        self.audit = AuditChain(f"dispatcher-{number}", number)
        self.sharing = Sharing()
        #: Live jobs by the mark of their tenant and unique key.
        self.uniques: dict[str, str] = {}
        #: By pool, the jobs whose provider must be asked what became of them, the longest due first.
        self.lookups: dict[str, dict[str, None]] = {}
        self.router = Router(config)
        #: By circuit, the jobs that wait until it has been inspected.
        self.validating: dict[str, dict[str, None]] = {}
        #: Jobs for which an earlier result is looked for.
        self.recalling: dict[str, None] = {}
        self.windows = {name: Window.compile(entry) for name, entry in config.windows.items()}
        self.measured = Measured()
        self.router.history = self.measured.view
        #: The policy that came while the broker ran, over the configured one.
        self.reloaded = Reloaded(config, self.router.policy.version)
        self.hours = Hours(config, self.windows)
        self.speeds = Speeds({name: pool.seconds_per_point for name, pool in config.pools.items()})
        self.guard = Guard(config, self.windows, partitions, self.speeds)
        self.guard.aloft_by = lambda seen: self.bundles.aloft(self.point_seconds, seen)
        self.counters = Counters()
        #: Taken a moment ago: what waits for answers has to be asked for again.
        self.fresh = False
        self._touched: dict[bytes, None] = {}
        #: What runs beside jobs; set by whoever puts the parts together, before the first event.
        self.beside: Companions

    # --- policy ---

    def reconfigure(self, config: Config) -> None:
        """Go on with another policy; pools, classes and limits are the same."""
        self.config = config
        self.windows = {name: Window.compile(entry) for name, entry in config.windows.items()}
        self.router.reconfigure(config)
        self.hours = Hours(config, self.windows)
        self.guard.reconfigure(config, self.windows)
        self.funds.reconfigure(config)

    def take_policy(self, row: bytes | None) -> None:
        """Take back the policy that came while the broker ran; a newer file goes before it."""
        config = self.reloaded.restore(row)
        if config is not None:
            self.reconfigure(config)

    # --- rows ---

    def audited(self, control: Mapping[str, Any], target: str, now: Now, **change: Any) -> Emit:
        """Return the audit entry of a control record that was obeyed; ``change``: before and after."""
        self.touch(AuditChain.KEY)
        # What is about a pool or the policy is no tenant's.
        who = "/".join(filter(None, (control["tenant"], control["principal"])))
        action, reason = control["command"], control["reason"]
        return self.audit.add(action, target, now, principal=who, reason=reason, **change)

    def touch(self, *keys: bytes) -> None:
        """Note that rows changed."""
        self._touched.update(dict.fromkeys(keys))

    def take_touched(self) -> list[bytes]:
        """Return the keys whose rows changed since the last call, in order."""
        keys, self._touched = list(self._touched), {}
        return keys + self.funds.allowance.touched() if self.funds.allowance is not None else keys

    def pool(self, name: str) -> PoolConfig:
        """Return a pool's settings, defaults for one that is no longer configured."""
        return self.config.pools.get(name, _UNKNOWN_POOL)

    def is_paid(self, name: str) -> bool:
        """Tell whether running there costs: then nothing is sent twice on a guess."""
        return self.pool(name).paid

    def is_open(self, name: str) -> bool:
        """Tell whether a pool gets work now, as far as anybody has decided about it."""
        if name not in self.config.pools or self.standing.is_paused(name):
            return False
        health = self.guard.health(name)
        return health is None or health.flows

    def unfit(self, job: Job, pool: str) -> str:
        """Return why a pool may not have a job; empty when it may."""
        told = lacks(job.traits, pool, self.config)
        if told or not job.extras:
            return told
        data_class = job.extras.get("data_class", "")
        if data_class and not self.router.policy.admits(pool, data_class):
            return f"may not see {data_class} data"
        if dear := self.dear(job, pool):
            return dear
        return "is never free for it while its window is open" if self.hours.never(job, pool) else ""

    def dear(self, job: Job, pool: str) -> str:
        """Return by how much an attempt on a pool costs more than the job may; empty when it does not.

        The estimate is that of the policy; what earlier attempts were billed for counts too.
        """
        if not job.extras or "max_cost" not in job.extras:
            return ""
        seconds = self.run_seconds(job, pool)
        price = self.funds.price(job, pool, seconds=seconds, opens=self.opens_session(job, pool))
        most, spent = job.extras["max_cost"], job.extras.get("spent", _NOTHING).get("cost", 0.0)
        told = f"costs {price:g}" + (f" after {spent:g}" if spent else "")
        return f"{told}, at most {most:g} asked" if price + spent > most else ""

    def opens_session(self, job: Job, pool: str) -> bool:
        """Tell whether a job would open its session on a pool."""
        return bool(job.session_id) and self.router.sessions.pool(job.tenant, job.session_id) != pool

    def opens_ms(self, window: str, now: Now) -> int | None:
        """Return when a named window is open next, wall time; None for one that is not configured."""
        found = self.windows.get(window)
        return found.next_open_ms(now.wall_ms) if found else None

    # --- jobs ---

    def live(self, job_id: str) -> Job:
        """Return a job that is known to be live."""
        job = self.jobs.get(job_id)
        assert job is not None, "its id was kept only while it lived"
        return job

    def key(self, job: Job) -> int:
        """Return the key by which queue and timetable know a job."""
        assert job.key >= 0, "only live jobs are asked for"
        return job.key

    def queue_of(self, pool: str) -> WaitingQueue:
        """Return a pool's queue; jobs of a pool that is no longer configured wait for it."""
        queue = self.queues.get(pool)
        if queue is None:
            queue = self.queues[pool] = WaitingQueue(
                self._weights,
                self.config.fairness,
                pool=pool,
                limits=self.running,
                session_of=lambda key: self.jobs.text(key, "session_id"),
            )
        return queue

    def point_seconds(self, pool: str, work: int) -> float:
        """Return what a point of a class of work takes on a pool now.

        As measured of the class, else of all classes together, else as configured.
        """
        known = self.speeds.of(pool, work)
        return self.pool(pool).seconds_per_point if known is None else known.mean

    def run_seconds(self, job: Job, pool: str) -> float:
        """Return what a job takes on a pool by what a point takes there now."""
        return job.points * self.point_seconds(pool, job.work)

    def waiting_seconds(self, pool: str) -> float:
        """Return what a pool's waiting jobs take by what a point takes there now.

        Their costs say what was known when each of them was admitted.
        """
        return self.queue_of(pool).load.seconds(partial(self.point_seconds, pool))

    def learn(self, job: Job, now: Now, answer: Mapping[str, Any], cost: float) -> None:
        """Have the history of a job's family learn from an answer of the pool where the job is.

        ``cost`` is that of the attempt alone; of what the job took before it, what it took there counts.
        """
        if not self.is_measured(job):
            return
        extras = job.extras or {}
        here = extras.get("spent", {}).get("cost", 0.0) - extras.get("brought", 0.0)
        since_us = extras.get(SINCE)
        # A job that an earlier version sent does not know when it came.
        seconds = None if since_us is None else max(0.0, now.wall_ms / 1e3 - since_us / 1e6)
        told = {**answer, "cost": max(0.0, cost + here)}
        self.touch(self.measured.observe(job.family, job.pool, success=True, seconds=seconds, answer=told))

    def learn_failure(self, job: Job, pool: str) -> None:
        """Have the history of a job's family learn that a pool did not answer it, wherever the job is now."""
        if self.is_measured(job):
            self.touch(self.measured.observe(job.family, pool, success=False))

    def is_measured(self, job: Job) -> bool:
        """Tell whether a history is kept of a job's family."""
        return job.family in self.config.families and not is_companion(job)

    def note(self, job: Job, cause: Cause, detail: str = "", **terms: Any) -> None:
        """Tell a job's change of state with the terms of the decision, and have its row written."""
        self.touch(job.job_id.encode())
        self.reports.note(job, cause, detail, terms)

    def is_wanted_late(self, job: Job) -> bool:
        """Tell whether an attempt is still wanted although its job has been answered: it is paid for."""
        return job.job_id in self.ghosts and "late" in (job.extras or {})

    def awaited(self, bundle: Bundle, job_id: str) -> Job | None:
        """Return the job of an attempt that is still wanted although the job has been answered."""
        ghost = self.ghosts.get(job_id)
        wanted = ghost is not None and ghost.bundle_id == bundle.bundle_id and self.is_wanted_late(ghost)
        return ghost if wanted else None
