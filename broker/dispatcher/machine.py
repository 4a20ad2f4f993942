"""The dispatcher's machine: admit, queue fairly, forward against credits, judge outcomes. Pure.

Invariants, checked by the property tests at every step: a live job is in exactly one of queue, timer
or bundle; a job ends once; nothing is forwarded without a credit; what the ledger holds rebuilds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from shotbus.broker.audit import AuditChain
from shotbus.broker.config import Config
from shotbus.broker.dispatcher.broadcasts import is_broadcast_key
from shotbus.broker.dispatcher.companions import Companions
from shotbus.broker.dispatcher.counters import Counters
from shotbus.broker.dispatcher.desk import Desk
from shotbus.broker.dispatcher.done import is_done_key
from shotbus.broker.dispatcher.door import Door
from shotbus.broker.dispatcher.floor import Floor
from shotbus.broker.dispatcher.guard import is_guard_key
from shotbus.broker.dispatcher.histories import is_history_key
from shotbus.broker.dispatcher.job import Job, Seat
from shotbus.broker.dispatcher.judge import Judge
from shotbus.broker.dispatcher.messages import (
    Commanded,
    Dispatch,
    Learnt,
    Placed,
    Recalled,
    Reported,
    Submitted,
    Told,
)
from shotbus.broker.dispatcher.places import is_place_key
from shotbus.broker.dispatcher.recalling import Recalling
from shotbus.broker.dispatcher.reloaded import is_reloaded_key
from shotbus.broker.dispatcher.restoring import Restoring
from shotbus.broker.dispatcher.rows import encode_row
from shotbus.broker.dispatcher.sessions import is_session_key
from shotbus.broker.dispatcher.setback import SetBack
from shotbus.broker.dispatcher.shard import Shard
from shotbus.broker.dispatcher.speeds import is_speed_key
from shotbus.broker.dispatcher.standing import is_standing_key
from shotbus.broker.machine import Now
from shotbus.broker.treasury.allowance import is_allowance_key
from shotbus.schemas.codec import decode, encode

# While work waits for credits, another shard or a new worker may free one at any time.
_HUNGRY_SECONDS = 0.02
_SEATLESS = Seat()


class _Keeper(NamedTuple):
    """Who keeps rows of its own in the ledger: which keys, and how they are written and taken back."""

    has: Callable[[bytes], bool]
    snapshot: Callable[[bytes], bytes | None]
    restore: Callable[[bytes, bytes | None], None]


class Parts(NamedTuple):
    """What a dispatcher is made of."""

    shard: type[Shard] = Shard
    door: type[Door] = Door
    judge: type[Judge] = Judge
    desk: type[Desk] = Desk
    floor: type[Floor] = Floor


class Dispatcher:
    """One shard of the dispatcher.

    Args:
        shard: its number, which is its partition on every topic partitioned by route.
        partitions: how many shards there are.
        config: classes, pools, limits, retry.

    """

    #: Its parts; tests plant bugs by exchanging one.
    parts: ClassVar[Parts] = Parts()

    def __init__(self, shard: int, partitions: int, config: Config) -> None:
        parts = self.parts
        self.shard = parts.shard(shard, partitions, config)
        self.shard.beside = Companions(self.shard)
        self._door = parts.door(self.shard)
        judge = parts.judge(self.shard)
        self._restoring, self._set_back = Restoring(self.shard), SetBack(self.shard)
        self._keepers = self._kept()
        self._handlers: dict[type, Callable[[Any, Now], list[Any]]] = {
            Submitted: self._door.submitted,
            Learnt: self._door.learnt,
            Told: self._door.told,
            Placed: self._placed,
            Recalled: Recalling(self.shard).recalled,
            Reported: judge.reported,
            Commanded: parts.desk(self.shard).commanded,
            Dispatch: parts.floor(self.shard, self._door, judge).dispatch,
        }

    # --- the machine's contract ---

    def handle(self, event: Any, now: Now) -> Sequence[Any]:
        """Take one event; see :class:`shotbus.broker.machine.Machine`."""
        self._set_back.heed(now)
        return self._handlers[type(event)](event, now)

    def _placed(self, event: Placed, now: Now) -> list[Any]:
        """Take what another shard said; what follows from it is said when the micro-batch ends."""
        self.shard.running.hear(event.fields, now)
        return []

    def touched(self) -> list[bytes]:
        """Return the keys whose rows changed."""
        return self.shard.take_touched()

    def snapshot(self, key: bytes) -> bytes | None:
        """Return a key's row."""
        shard = self.shard
        # A job's key is its id; whatever else is kept has a path.
        if b"/" in key:
            return next(keeper for keeper in self._keepers if keeper.has(key)).snapshot(key)
        job = shard.jobs.get(key.decode())
        if job is None:
            ghost = shard.ghosts.get(key.decode())
            return None if ghost is None else self._row(ghost)
        row = self._row(job)
        shard.park(job)
        return row

    def _done_page(self, key: bytes) -> bytes | None:
        page = self.shard.done.snapshot(key)
        return None if page is None else encode("ledger_page", {"kind": "done", "data": page})

    def _row(self, job: Job) -> bytes:
        job.persisted = True
        bundle = self.shard.bundles.get(job.bundle_id)
        return encode_row(job, bundle.seat() if bundle else _SEATLESS)

    def restore(self, key: bytes, snapshot: bytes) -> None:
        """Take a row back."""
        self.restore_row(key, snapshot)

    def restore_row(self, key: bytes, row: bytes | None) -> None:
        """Let a row replace what was taken for its key; None takes that away."""
        if b"/" in key:
            next(keeper for keeper in self._keepers if keeper.has(key)).restore(key, row)
        else:
            self._restoring.take(key.decode(), row)

    def _kept(self) -> tuple[_Keeper, ...]:
        """Return who keeps which rows besides the jobs'."""
        shard = self.shard
        audit, funds, guard, places = shard.audit, shard.funds, shard.guard, shard.running.places
        sessions = shard.router.sessions
        return (
            _Keeper(is_done_key, self._done_page, self._take_done_page),
            _Keeper(is_standing_key, shard.standing.snapshot, shard.standing.restore),
            _Keeper(is_broadcast_key, shard.broadcasts.snapshot, shard.broadcasts.restore),
            _Keeper(AuditChain.KEY.__eq__, lambda _: audit.snapshot(), lambda _, row: audit.restore(row)),
            _Keeper(is_guard_key, guard.snapshot, guard.restore),
            _Keeper(is_allowance_key, funds.snapshot, funds.restore),
            _Keeper(is_place_key, places.snapshot, places.restore),
            _Keeper(is_session_key, sessions.snapshot, sessions.restore),
            _Keeper(is_history_key, shard.measured.snapshot, shard.measured.restore),
            _Keeper(is_speed_key, shard.speeds.snapshot, shard.speeds.restore),
            _Keeper(is_reloaded_key, shard.reloaded.snapshot, lambda _, row: shard.take_policy(row)),
        )

    def _take_done_page(self, key: bytes, row: bytes | None) -> None:
        if row is None:
            self.shard.done.discard(key)
        else:
            self.shard.done.restore(key, decode(row, "ledger_page")[1]["data"])

    def settling(self) -> Iterator[None]:
        """Give the jobs their places; see :class:`shotbus.broker.machine.SettlesInParts`."""
        return self._restoring.settling()

    def restored(self, now: Now) -> None:
        """Give every job its place and every lease a full period."""
        self._restoring.settle(now)

    def wake_at(self, now: Now) -> float | None:
        """Return the seconds until something could become due."""
        shard = self.shard
        if shard.broadcasts:
            return 0.0
        waits = [] if (lapse := shard.bundles.next_lapse(now)) is None else [lapse]
        if (next_ms := shard.agenda.next_ms()) is not None:
            waits.append((next_ms - now.wall_ms) / 1000)
        if (next_ms := shard.patience.next_ms()) is not None:
            waits.append((next_ms - now.wall_ms) / 1000)
        if (next_ms := shard.beside.next_ms()) is not None:
            waits.append((next_ms - now.wall_ms) / 1000)
        working = [pool for pool in shard.queues if not shard.standing.is_paused(pool)]
        if any(shard.queues[pool].length or shard.lookups.get(pool) for pool in working):
            waits.append(_HUNGRY_SECONDS)
        if shard.funds.allowance is not None and (due := shard.funds.allowance.wake_at(now)) is not None:
            waits.append(due)
        if (due := shard.guard.next_due(now)) is not None:
            waits.append(due)
        return max(0.0, min(waits)) if waits else None

    def excuse(self, event: Submitted, now: Now) -> list[Any]:
        """Refuse a request that could not be handled; see :meth:`Door.excuse`."""
        return self._door.excuse(event, now)

    # --- what the edge and the displays read ---

    @property
    def live(self) -> Mapping[str, Job]:
        """The live jobs by id, to look at."""
        jobs = map(self.shard.jobs.peek, self.shard.jobs)
        return {job.job_id: job for job in sorted(jobs, key=lambda job: job.order)}

    @property
    def paused(self) -> frozenset[str]:
        """The pools that get no work."""
        return self.shard.standing.paused

    def oldest_us(self, priority: str | None = None) -> int | None:
        """Return the acceptance (wall time, microseconds) of the oldest live job, of a class or of all."""
        return self.shard.jobs.oldest_us(priority)

    def take_counters(self) -> Counters:
        """Return what happened since the last call."""
        counters, self.shard.counters = self.shard.counters, Counters()
        counters.forecasts = self.shard.guard.forecasts.take_told()
        return counters

    def load(self) -> Mapping[tuple[str, str], int]:
        """Return bundles in flight by (pool, worker)."""
        return self.shard.bundles.load()

    def waiting(self) -> dict[str, tuple[int, float]]:
        """Return (jobs, estimated backend seconds) waiting by pool."""
        return {pool: (queue.length, queue.seconds) for pool, queue in self.shard.queues.items()}

    def low_offsets(self) -> dict[tuple[str, int], int]:
        """Return an offset below which no live job refers to a request, by partition."""
        return self.shard.jobs.low_offsets()
