"""The dispatcher's machine: admit, queue fairly, forward against credits, judge outcomes. Pure.

Invariants, checked by the property tests at every step: a live job is in exactly one of queue, timer
or bundle; a job ends once; nothing is forwarded without a credit; what the ledger holds rebuilds it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from shotbus.broker.config import Config, PoolConfig
from shotbus.broker.dispatcher.admission import check_pool, check_request
from shotbus.broker.dispatcher.agenda import Agenda
from shotbus.broker.dispatcher.answers import (
    answer,
    answered,
    drawn_seed,
    fingerprint,
    from_cache,
    is_job_id,
    owner_mark,
    problems_of,
)
from shotbus.broker.dispatcher.bundles import Bundle, BundleBook, bundle_id_of
from shotbus.broker.dispatcher.done import ENTRIES_A_PAGE, DoneLog, is_done_key
from shotbus.broker.dispatcher.fairqueue import FairQueue
from shotbus.broker.dispatcher.job import Job, Seat, decode_row, encode_row
from shotbus.broker.dispatcher.messages import (
    Bury,
    Commanded,
    Credit,
    Dispatch,
    Forward,
    ForwardedItem,
    Relay,
    Reported,
    Submitted,
)
from shotbus.broker.dispatcher.packing import pack
from shotbus.broker.dispatcher.reports import Reports
from shotbus.broker.dispatcher.retry import Verdict, decide
from shotbus.broker.dispatcher.standing import SEQUENCE_KEY, Standing, is_standing_key
from shotbus.broker.dispatcher.states import TERMINAL, WITH_A_WORKER, Cause, Phase
from shotbus.broker.machine import Now
from shotbus.broker.stages import Timings
from shotbus.schemas.codec import decode, encode
from shotbus.schemas.errors import Problem
from shotbus.schemas.ids import partition_of

# While work waits for credits, another shard or a new worker may free one at any time.
_HUNGRY_SECONDS = 0.02
_SEATLESS = Seat()
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


class Dispatcher:
    """One shard of the dispatcher.

    Args:
        shard: its number, which is its partition on every topic partitioned by route.
        partitions: how many shards there are.
        config: classes, pools, limits, retry.

    """

    def __init__(self, shard: int, partitions: int, config: Config) -> None:
        self._shard, self._partitions, self._config = shard, partitions, config
        self._weights = {name: entry.weight for name, entry in config.classes.items()}
        self._queues: dict[str, FairQueue[Job]] = {
            pool: FairQueue(self._weights) for pool in sorted(config.pools)
        }
        self._jobs: dict[str, Job] = {}
        #: Jobs that were cancelled in flight: their rows keep the worker's credit occupied.
        self._ghosts: dict[str, Job] = {}
        self._bundles = BundleBook()
        self._done = DoneLog(
            retention_s=int(config.broker.retention_days * 86_400),
            max_pages=max(1, config.broker.remembered_jobs // ENTRIES_A_PAGE),
        )
        self._reports = Reports(shard, partitions)
        self._agenda = Agenda(self._jobs)
        self._standing = Standing()
        self._touched: dict[bytes, None] = {}
        self._speed = {name: pool.seconds_per_point for name, pool in config.pools.items()}
        self._counters = Counters()
        self._handlers: dict[type, Callable[[Any, Now], list[Any]]] = {
            Submitted: self._submitted,
            Reported: self._reported,
            Commanded: self._commanded,
            Dispatch: self._dispatch,
        }

    # --- the machine's contract ---

    def handle(self, event: Any, now: Now) -> Sequence[Any]:
        """Take one event; see :class:`shotbus.broker.machine.Machine`."""
        return self._handlers[type(event)](event, now)

    def touched(self) -> list[bytes]:
        """Return the keys whose rows changed."""
        keys, self._touched = list(self._touched), {}
        return keys

    def snapshot(self, key: bytes) -> bytes | None:
        """Return a key's row."""
        if is_done_key(key):
            page = self._done.snapshot(key)
            return None if page is None else encode("ledger_page", {"kind": "done", "data": page})
        if is_standing_key(key):
            return self._standing.snapshot(key)
        job = self._jobs.get(key.decode()) or self._ghosts.get(key.decode())
        if job is None:
            return None
        job.persisted = True
        bundle = self._bundles.get(job.bundle_id)
        return encode_row(job, bundle.seat() if bundle else _SEATLESS)

    def restore(self, key: bytes, snapshot: bytes) -> None:
        """Take a row back."""
        if is_done_key(key):
            self._done.restore(key, decode(snapshot, "ledger_page")[1]["data"])
        elif is_standing_key(key):
            self._standing.restore(key, snapshot)
        else:
            self._restore_job(*decode_row(snapshot))

    def restored(self, now: Now) -> None:
        """Give every lease a full period."""
        longest = max((pool.lease_seconds for pool in self._config.pools.values()), default=0.0)
        self._bundles.renew_all(now.seen + longest)
        # The ledger gives rows back by key; everything else relies on the order of admission.
        ordered = sorted(self._jobs.values(), key=lambda job: job.order)
        self._jobs.clear()
        self._jobs.update((job.job_id, job) for job in ordered)

    def wake_at(self, now: Now) -> float | None:
        """Return the seconds until something could become due."""
        waits = [] if (lapse := self._bundles.next_lapse(now)) is None else [lapse]
        if (next_ms := self._agenda.next_ms()) is not None:
            waits.append((next_ms - now.wall_ms) / 1000)
        if any(queue.length for pool, queue in self._queues.items() if not self._standing.is_paused(pool)):
            waits.append(_HUNGRY_SECONDS)
        return max(0.0, min(waits)) if waits else None

    # --- what the edge and the displays read ---

    @property
    def live(self) -> Mapping[str, Job]:
        """The live jobs by id."""
        return self._jobs

    @property
    def paused(self) -> frozenset[str]:
        """The pools that get no work."""
        return self._standing.paused

    @property
    def oldest_us(self) -> int | None:
        """Acceptance (wall time, microseconds) of the oldest live job: they are kept in that order."""
        oldest = next(iter(self._jobs.values()), None)
        return oldest.accepted_us if oldest else None

    def take_counters(self) -> Counters:
        """Return what happened since the last call."""
        counters, self._counters = self._counters, Counters()
        return counters

    def load(self) -> Mapping[tuple[str, str], int]:
        """Return bundles in flight by (pool, worker)."""
        return self._bundles.load()

    def waiting(self) -> dict[str, tuple[int, float]]:
        """Return (jobs, estimated backend seconds) waiting by pool."""
        return {pool: (queue.length, queue.seconds) for pool, queue in self._queues.items()}

    def low_offsets(self) -> dict[tuple[str, int], int]:
        """Return the oldest request offset that a live job still references, by partition."""
        lows: dict[tuple[str, int], int] = {}
        for job in self._jobs.values():
            place = (job.reference.topic, job.reference.partition)
            lows[place] = min(lows.get(place, job.reference.offset), job.reference.offset)
        return lows

    # --- admission ---

    def _submitted(self, event: Submitted, now: Now) -> list[Any]:
        request = event.request
        known = self._repeated(event, now)
        if known is not None:
            return known
        problems = [*event.contradictions, *check_request(request, self._config, now_ms=now.wall_ms)]
        if not event.reference.topic.endswith(f"requests.{request['priority']}"):
            limit = f"the class of its topic, {event.reference.topic}"
            problems.append(Problem("SB-1101", "$.priority", limit=limit, actual=request["priority"]))
        if not problems and partition_of(request["job_id"], self._partitions) != self._shard:
            if not event.relayed:
                return [Relay(event.reference, partition_of(request["job_id"], self._partitions))]
            problems = [Problem("SB-1109", "$.job_id", detail="relayed to a shard that is not its own")]
        problems += check_pool(request, event.pool, self._config)
        if problems:
            return [self._reports.refusal(request, problems, now, traceparent=event.traceparent)]
        most = self._config.limits.max_waiting // self._partitions
        if len(self._jobs) >= most:
            full = [Problem("SB-1111", "$", limit=str(most), actual=str(len(self._jobs)))]
            return [
                self._reports.refusal(request, full, now, retry_after_ms=5_000, traceparent=event.traceparent)
            ]
        return self._accept(event, now)

    def _repeated(self, event: Submitted, now: Now) -> list[Any] | None:
        """Recognise a job id that is live or finished; None for a new one."""
        job_id, payload = event.request["job_id"], event.request["payload_hash"]
        live = self._jobs.get(job_id)
        done = None if live else self._done.find(job_id)
        if live is None and done is None:
            return None
        self._counters.dedup_hits += 1
        tenant = event.request["tenant"]
        if live:
            same = (live.payload_hash, live.tenant) == (payload, tenant)
        else:
            same = done is not None and done.payload == fingerprint(tenant, payload)
        if not same:
            problem = Problem("SB-1106", "$.idempotency_key", hint="use a new key for a new payload")
            return [self._reports.refusal(event.request, [problem], now, traceparent=event.traceparent)]
        if done is None:
            return []
        home = self._reports.home(event.request["sweep_id"])
        located = self._reports.located(
            job_id, now, outcome=done.outcome, finished_ms=done.finished_ms, partition=home
        )
        return [located]

    def _accept(self, event: Submitted, now: Now) -> list[Any]:
        job = Job(event.request, event.reference, event.pool)
        seed = event.request["seed"]
        job.seed = drawn_seed(job.job_id) if seed is None else seed
        job.cost = job.points * self._speed[job.pool]
        job.bytes_in, job.traceparent, job.cache_key = event.size, event.traceparent, event.cache_key
        job.accepted_us = now.wall_ms * 1000
        job.admit_us = 1000 * max(0, now.wall_ms - event.published_ms)
        self._jobs[job.job_id] = job
        self._counters.accepted[job.priority] = self._counters.accepted.get(job.priority, 0) + 1
        if self._standing.wanted_gone(job):
            return self._end(job, Cause.CANCEL, "cancelled", now, {"problems": problems_of("SB-4002")})
        if event.cached is not None:
            return self._end(job, Cause.CACHE_HIT, "served_from_cache", now, from_cache(event.cached))
        if job.not_before_ms > now.wall_ms:
            job.move(Cause.ACCEPT_LATER)
            self._agenda.later(job)
        else:
            job.move(Cause.ACCEPT)
            self._enqueue(job, job.accepted_us)
        self._agenda.watch(job)
        self._note(job, Cause.ACCEPT if job.phase is Phase.WAITING else Cause.ACCEPT_LATER)
        return []

    def excuse(self, event: Submitted, now: Now) -> list[Any]:
        """Refuse a request that could not be handled; a job that is known gets an answer of its own."""
        job_id = event.request["job_id"]
        if job_id in self._jobs or self._done.find(job_id):
            return []
        problem = Problem("SB-9001", "$", detail="the request could not be handled and is a dead letter now")
        return [self._reports.refusal(event.request, [problem], now, traceparent=event.traceparent)]

    # --- outcomes ---

    def _reported(self, event: Reported, now: Now) -> list[Any]:
        outcome = event.outcome
        bundle = self._bundles.get(outcome["bundle_id"])
        if bundle is None or (bundle.started and bundle.lease_id != outcome["lease_id"]):
            self._counters.fenced += max(1, len(outcome["items"]))
            return []
        settings = self._config.pools.get(bundle.pool, _UNKNOWN_POOL)
        first = not bundle.started
        self._bundles.claim(bundle, outcome["worker"], outcome["lease_id"], now.seen + settings.lease_seconds)
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
            job = self._jobs.get(job_id)
            if job is None or job.bundle_id != bundle.bundle_id:
                self._touched[job_id.encode()] = None
                continue
            job.move(Cause.START)
            self._note(job, Cause.START)

    def _judge(
        self, bundle: Bundle, outcome: Mapping[str, Any], item: Mapping[str, Any], now: Now
    ) -> list[Any]:
        """Judge one attempt: the fencing token must be the one in flight."""
        job_id = item["job_id"]
        job = self._jobs.get(job_id)
        if bundle.open.get(job_id) != item["attempt"]:
            self._counters.fenced += 1
            return []
        self._bundles.close(bundle, job_id)
        if job is None or job.bundle_id != bundle.bundle_id:
            self._exorcise(bundle, job_id)
            self._counters.fenced += 1
            return []
        if not item["error_class"]:
            return self._end(job, Cause.SUCCEED, "succeeded", now, answer(outcome, item))
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
            policy=self._config.retry,
        )
        job.failures += verdict.charged
        job.deaths += verdict.death
        if verdict.delay_ms is not None:
            return self._retry(job, error_class, verdict.delay_ms, now)
        return self._give_up(job, error_class, problems, verdict, now)

    def _retry(self, job: Job, error_class: str, delay_ms: int, now: Now) -> list[Any]:
        self._counters.retries[error_class] = self._counters.retries.get(error_class, 0) + 1
        job.move(Cause.RETRY)
        job.bundle_id = ""
        job.not_before_ms = now.wall_ms + delay_ms
        self._agenda.later(job)
        # The deadline may have passed, unheeded, while the job ran.
        self._agenda.watch(job)
        self._note(job, Cause.RETRY, f"retry after {error_class}")
        return []

    def _give_up(
        self, job: Job, error_class: str, problems: Sequence[Mapping[str, Any]], verdict: Verdict, now: Now
    ) -> list[Any]:
        records = [dict(problem) for problem in problems] or problems_of("SB-5001")
        commands = self._end(job, Cause.FAIL, verdict.outcome, now, {"problems": records})
        if verdict.outcome == "dead_lettered":
            buried_as = "POISON" if verdict.death else error_class
            problem = Problem.from_record(records[0])
            commands.append(Bury(job.reference, job.job_id, buried_as, problem, job.attempt))
        return commands

    def _measure(self, bundle: Bundle, items: Sequence[Mapping[str, Any]]) -> None:
        """Learn how long a point takes; the estimate is what fairness and bundles are counted in."""
        for item in items[:1]:
            job = self._jobs.get(item["job_id"])
            if job is None or item["error_class"]:
                continue
            spent = Timings.unpack(item["timings"]).seconds("execute")
            if 0 < spent < math.inf and bundle.open.get(job.job_id) == item["attempt"]:
                known = self._speed.get(bundle.pool, spent / job.points)
                self._speed[bundle.pool] = known + 0.1 * (spent / job.points - known)

    # --- control ---

    def _commanded(self, event: Commanded, now: Now) -> list[Any]:
        control = event.control
        command, name = control["command"], control["name"]
        if command == "cancel":
            return self._cancel(control, now)
        if command == "locate":
            return [self._locate(control, now)]
        if command in ("pause", "drain", "resume") and name in self._queues:
            self._touched[self._standing.set_paused(name, paused=command != "resume")] = None
        return []

    def _cancel(self, control: Mapping[str, Any], now: Now) -> list[Any]:
        """Cancel what is here and remember the wish for what is still on its way."""
        name, tenant = control["name"], control["tenant"]
        if not self._can_exist(control["target"], name):
            return []
        if control["target"] == "job":
            found = [job for job in [self._jobs.get(name)] if job is not None]
            expected = not found and self._done.find(name) is None
        else:
            found = [job for job in self._jobs.values() if job.sweep_id == name]
            expected = True
        if expected:
            self._touched |= dict.fromkeys(self._standing.intend(name, tenant, now))
        commands: list[Any] = []
        for job in found:
            if job.tenant == tenant:
                commands += self._end(
                    job, Cause.CANCEL, "cancelled", now, {"problems": problems_of("SB-4002")}
                )
        return commands

    def _can_exist(self, target: str, name: str) -> bool:
        """Tell whether an admitted request could bear this name; a job without a sweep has an empty one."""
        if target == "job":
            return is_job_id(name)
        return target == "sweep" and 0 < len(name) <= self._config.limits.max_field

    def _locate(self, control: Mapping[str, Any], now: Now) -> Any:
        """Answer where a job is, or how much of a sweep or a pool is here."""
        name, tenant, correlation = control["name"], control["tenant"], control["correlation"]
        if control["target"] == "job":
            return self._locate_job(name, tenant, now, correlation)
        count = self._count_pool(name) if control["target"] == "pool" else self._count_sweep(name, tenant)
        return self._reports.counted(name, now, *count, correlation=correlation)

    def _locate_job(self, job_id: str, tenant: str, now: Now, correlation: str) -> Any:
        """Answer where a job is; another tenant's is not known."""
        job, done = self._jobs.get(job_id), self._done.find(job_id)
        if job is not None and job.tenant == tenant:
            return self._reports.located(job_id, now, phase=job.phase, correlation=correlation)
        if job is None and done is not None and done.owner == owner_mark(tenant):
            return self._reports.located(
                job_id, now, outcome=done.outcome, finished_ms=done.finished_ms, correlation=correlation
            )
        return self._reports.located(job_id, now, correlation=correlation)

    def _count_sweep(self, sweep_id: str, tenant: str) -> tuple[str, int, int]:
        if not self._can_exist("sweep", sweep_id):
            return "UNKNOWN", 0, 0
        mine = [job for job in self._jobs.values() if job.sweep_id == sweep_id and job.tenant == tenant]
        return "LIVE" if mine else "UNKNOWN", len(mine), sum(job.phase in WITH_A_WORKER for job in mine)

    def _count_pool(self, pool: str) -> tuple[str, int, int]:
        if pool not in self._queues:
            return "UNKNOWN", 0, 0
        word = "PAUSED" if self._standing.is_paused(pool) else "READY"
        return word, self._queues[pool].length, self._bundles.attempts(pool)

    # --- time and dispatch ---

    def _dispatch(self, event: Dispatch, now: Now) -> list[Any]:
        commands = self._expire_leases(now)
        commands += self._expire_deadlines(now)
        self._wake_due(now)
        self._touched |= dict.fromkeys(self._standing.forget(now))
        for pool in sorted(event.credits):
            if pool in self._config.pools and not self._standing.is_paused(pool):
                commands += self._forward_pool(pool, event.credits[pool], now)
        told = self._reports.flush(now, self._standing.next_sequence)
        if told:
            self._touched[SEQUENCE_KEY] = None
        return commands + told

    def _expire_leases(self, now: Now) -> list[Any]:
        commands: list[Any] = []
        for bundle in self._bundles.lapsed(now):
            error_class = "LOST" if bundle.started else "NOT_STARTED"
            self._bundles.drop(bundle)
            for job_id in bundle.open:
                self._exorcise(bundle, job_id)
                job = self._jobs.get(job_id)
                if job is not None and job.bundle_id == bundle.bundle_id:
                    commands += self._failed(job, error_class, problems_of("SB-5002"), now)
        return commands

    def _expire_deadlines(self, now: Now) -> list[Any]:
        """End the jobs that did not leave the queue in time."""
        commands: list[Any] = []
        for job in self._agenda.late(now.wall_ms):
            commands += self._end(job, Cause.EXPIRE, "expired", now, {"problems": problems_of("SB-4003")})
        return commands

    def _wake_due(self, now: Now) -> None:
        for job in self._agenda.due(now.wall_ms):
            job.move(Cause.DUE)
            self._enqueue(job, now.wall_ms * 1000)
            self._note(job, Cause.DUE)

    def _forward_pool(self, pool: str, free: Sequence[Credit], now: Now) -> list[Any]:
        packed = pack(self._queues[pool], self._config.pools[pool], free)
        return [self._send(pool, credit, jobs, now) for credit, jobs in packed]

    def _send(self, pool: str, credit: Credit, jobs: list[Job], now: Now) -> Forward:
        settings = self._config.pools[pool]
        for job in jobs:
            job.attempt += 1
            job.leave_queue(now.wall_ms * 1000)
            job.move(Cause.FORWARD)
        bundle = Bundle(
            bundle_id_of(jobs),
            pool,
            credit.worker,
            credit.partition,
            now.wall_ms + int(settings.start_seconds * 1000),
            lease_until=now.seen + settings.start_seconds,
        )
        for job in jobs:
            job.bundle_id = bundle.bundle_id
            bundle.open[job.job_id] = job.attempt
            self._note(job, Cause.FORWARD)
        self._bundles.add(bundle)
        items = tuple(
            ForwardedItem(job.job_id, job.attempt, job.seed, job.traceparent, job.reference) for job in jobs
        )
        lease_ms = int(settings.lease_seconds * 1000)
        return Forward(
            bundle.bundle_id, pool, credit.partition, bundle.start_by_ms, lease_ms, now.wall_ms * 1000, items
        )

    # --- bookkeeping ---

    def _enqueue(self, job: Job, at_us: int) -> None:
        job.queued_us = at_us
        self._queues[job.pool].push(job)

    def _end(self, job: Job, cause: Cause, outcome: str, now: Now, answer: Mapping[str, Any]) -> list[Any]:
        """Finish a job: the one place where a terminal result is made."""
        if job.phase is Phase.WAITING:
            self._queues[job.pool].remove(job)
            job.leave_queue(now.wall_ms * 1000)
        elif self._bundles.carries(job):
            self._ghosts[job.job_id] = job
        job.move(cause)
        assert job.phase in TERMINAL
        del self._jobs[job.job_id]
        self._counters.ended.append((job.priority, max(0.0, now.wall_ms / 1e3 - job.submitted_us / 1e6)))
        key = job.job_id.encode()
        if job.persisted:
            self._touched[key] = None
        else:
            self._touched.pop(key, None)
        mark = fingerprint(job.tenant, job.payload_hash)
        for page in self._done.add(job.job_id, mark, outcome, now.wall_ms, owner=owner_mark(job.tenant)):
            self._touched[page] = None
        self._reports.note(job, cause, outcome)
        return [self._reports.result(job, outcome, now, answer)]

    def _note(self, job: Job, cause: Cause, detail: str = "") -> None:
        self._touched[job.job_id.encode()] = None
        self._reports.note(job, cause, detail)

    def _exorcise(self, bundle: Bundle, job_id: str) -> None:
        """Let go of the row of an attempt that ended after its job."""
        ghost = self._ghosts.get(job_id)
        if ghost is not None and ghost.bundle_id == bundle.bundle_id:
            del self._ghosts[job_id]
            self._touched[job_id.encode()] = None

    def _restore_job(self, job: Job, seat: Seat) -> None:
        if job.phase in TERMINAL:
            self._ghosts[job.job_id] = job
            self._bundles.restore(job, seat)
            return
        self._jobs[job.job_id] = job
        if job.pool not in self._queues:
            # The pool is no longer configured: its jobs wait for it, or for cancellation.
            self._queues[job.pool] = FairQueue(self._weights)
        if job.phase in WITH_A_WORKER:
            self._bundles.restore(job, seat)
        elif job.phase is Phase.WAITING:
            self._queues[job.pool].push(job)
        else:
            self._agenda.later(job)
        self._agenda.watch(job)
