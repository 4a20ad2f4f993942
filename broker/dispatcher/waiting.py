"""The waiting jobs of one pool: classes by weight or strictly, tenants evenly, the earliest due first. Pure.

Start-time fair queueing on two levels (Goyal, Vin and Chen, 1996): each class and each tenant has a
virtual time that advances by cost over weight; the smallest goes next. Unlike deficit round robin it needs no
quantum, so a job's cost may span six orders of magnitude without a scan. Who leaves keeps the virtual time
reached, else a tenant with one costly job at a time would always be the newest. Queues of several shards
that share their clocks (:meth:`WaitingQueue.use`) are fair as one.

Jobs are known by key, 28 bytes each; see :mod:`shotbus.broker.dispatcher.sortedrun`.

*Ageing.* The first job of a tenant's line that has waited a step is moved one class up and served there as a
job of its tenant, at the cost of that class; after another step it goes on upwards. Only one job of a line is
up at a time, the next one follows when that one is served. So each tenant's oldest work reaches the best
class in a bounded time, even where classes are strict, and a great old backlog does not crowd out the class
that it enters.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import NamedTuple, Protocol

from shotbus.broker.config import FairnessConfig
from shotbus.broker.dispatcher.clocks import Clocks
from shotbus.broker.dispatcher.concurrency import Concurrency
from shotbus.broker.dispatcher.lanes import Line, PriorityClass, SessionOf
from shotbus.broker.dispatcher.load import Load
from shotbus.broker.dispatcher.sortedrun import PLACE_BITS, Entry, rank_of


class Waits(Protocol):
    """What the queue needs to know of a job; it must say the same until it is taken out again."""

    @property
    def tenant(self) -> str: ...
    @property
    def session_id(self) -> str: ...
    @property
    def priority(self) -> str: ...
    @property
    def cost(self) -> float: ...
    @property
    def due_ms(self) -> int: ...
    @property
    def order(self) -> int: ...


class Position(NamedTuple):
    """What is probably served before a job: jobs and seconds of work, of everybody."""

    jobs: int
    seconds: float


class Front(NamedTuple):
    """The next job of one class; ``virtual`` of the class, ``tenant`` of whose it is.

    Where classes are strict the virtual time is always 0 and the weight infinite. ``due`` and ``order`` are
    when it is due, wall milliseconds, and its order of admission; ``lines``: tenants among whom its class is
    shared in this queue.
    """

    name: str
    rank: int
    weight: float
    virtual: float
    tenant: float
    due: int
    order: int
    lines: int


class _Guest(NamedTuple):
    """A job that has risen: its own class, the one it is in, the one it came from, and how often it rose."""

    own: str
    at: str
    below: str
    steps: int


def _no_session(_: int) -> str:
    return ""


_DEFAULT = FairnessConfig()


class WaitingQueue:
    """Waiting jobs of one pool.

    Args:
        weights: by class; a class that is not here has the least. The greater weight is the better class.
        fairness: mode and ageing.
        pool: its name, for the limits.
        limits: how many jobs may be with workers; the queue counts those it gives away.
        session_of: returns the session of a key; only asked where sessions are limited.

    """

    def __init__(
        self,
        weights: Mapping[str, float],
        fairness: FairnessConfig = _DEFAULT,
        *,
        pool: str = "",
        limits: Concurrency | None = None,
        session_of: SessionOf = _no_session,
    ) -> None:
        self._clocks = Clocks()
        self._classes = {
            name: PriorityClass(name, weight, self._clocks.of(name)) for name, weight in weights.items()
        }
        self._strict = fairness.mode == "strict"
        self._step_ms = int(fairness.ageing_seconds * 1000)
        self._pool, self._session_of = pool, session_of
        self._limits = limits or None
        if self._limits:
            self._limits.listen(self.freed)
        self._ranked: list[PriorityClass] = []
        self._rank()
        self._guests: dict[int, _Guest] = {}
        #: The job that is up, by the class it came from and its tenant.
        self._risen: dict[tuple[str, str], int] = {}
        self.length = 0
        self.seconds = 0.0
        #: Points of what waits, counted by whoever puts jobs in and takes them out: in them costs of
        #: different times, each as it was estimated then, can be compared.
        self.load = Load()

    # --- in and out ---

    def push(self, job: Waits, key: int) -> None:
        """Add a waiting job under its key."""
        own = self._class(job.priority)
        entry = _entry(job, key)
        self._enter(own, job.tenant, job.session_id, entry)
        self._count(own, 1, entry.cost)

    def remove(self, job: Waits, key: int) -> None:
        """Take a waiting job out, before anything of it changes. Raises KeyError when it is not here."""
        line, at = self._find(job, key)
        entry = _entry(job, key)
        line.remove(entry.first, entry.second, key, job.session_id)
        if not line:
            at.drop(job.tenant)
        self._count(self._class(job.priority), -1, -entry.cost)
        self._settle(job.tenant, key)

    def pop(self, now_ms: int) -> int | None:
        """Take the key of the job whose turn it is, None when nothing may go; ``now_ms`` is wall time."""
        if self._step_ms:
            self._age(now_ms)
        if not self.length or (self._limits and self._limits.backend_is_full(self._pool)):
            return None
        while (at := self._next_class()) is not None:
            taken = self._take(at)
            if taken is not None:
                return self._serve(at, *taken)
            if at.offered:
                return None
        return None

    def freed(self, tenant: str, session: str) -> None:
        """Learn that a tenant has one job less with workers: what stood aside for it may take part again."""
        for at in self._ranked:
            line = at.lines.get(tenant)
            if line is not None:
                line.offer(session)
                if not line.ticket:
                    self._offer(at, tenant, line)

    def took(self, job: Waits, seconds: float) -> None:
        """Learn what a job took that this queue has given, seconds on the backend.

        An estimate is corrected by itself at most, so that one run that hangs does not shut out its class.
        """
        beyond = max(-job.cost, min(job.cost, seconds - job.cost))
        self._class(job.priority).clock.correct(job.tenant, beyond)

    # --- one queue among several ---

    def use(self, clocks: Clocks) -> None:
        """Have this queue move other clocks from now on, together with whoever else uses them."""
        for at in self._ranked:
            clock = clocks.of(at.name)
            if at.offered:
                clocks.enter(clock)
            at.use(clock)
        self._clocks = clocks

    def claim(self, now_ms: int) -> tuple[Front, ...]:
        """Return what could be served next of each class, the better first; nothing when nothing may go.

        As :meth:`pop` does, this lets jobs rise and lines stand aside whose time that is; it takes nothing.
        """
        if self._step_ms:
            self._age(now_ms)
        if not self.length or (self._limits and self._limits.backend_is_full(self._pool)):
            return ()
        fronts = (self._front(at) for at in self._ranked if at.offered)
        return tuple(front for front in fronts if front is not None)

    def _front(self, at: PriorityClass) -> Front | None:
        turn = self._turn(at)
        if turn is None:
            return None
        _, line, session = turn
        head = line.head(session)
        assert head is not None, "a line that takes part has a job"
        virtual = 0.0 if self._strict else at.clock.virtual
        weight = math.inf if self._strict else at.weight
        return Front(
            at.name, at.rank, weight, virtual, line.clock.virtual, head.first, head.second, at.offered
        )

    # --- what the displays read ---

    def __iter__(self) -> Iterator[int]:
        """Yield the keys of what waits."""
        for at in self._ranked:
            for line in at.lines.values():
                yield from line

    def heads(self) -> Iterator[int]:
        """Yield the keys of what waits, about in the order in which it is served; costs what is taken.

        Better classes go first, in a class the tenants in turn. Nothing may change while this is read.
        """
        for at in self._ranked:
            begun: deque[Iterator[int]] = deque()
            for line in at.lines.values():
                keys = iter(line)
                yield from islice(keys, 1)
                begun.append(keys)
            while begun:
                keys = begun.popleft()
                if (key := next(keys, None)) is not None:
                    yield key
                    begun.append(keys)

    def depths(self) -> dict[str, tuple[int, float]]:
        """Return (jobs, seconds) waiting by class."""
        return {at.name: (at.jobs, at.seconds) for at in self._ranked}

    def best_rank(self) -> int | None:
        """Return the rank of the best class of which something waits, 0 for the best; None for none."""
        return next((at.rank for at in self._ranked if at.jobs), None)

    def tenants(self) -> dict[tuple[str, str], tuple[int, float]]:
        """Return (jobs, seconds) waiting by (class, tenant); what has risen counts where it is served."""
        lines = ((at, tenant, line) for at in self._ranked for tenant, line in at.lines.items())
        return {(at.name, tenant): (len(line), line.cost) for at, tenant, line in lines}

    def position(self, job: Waits, key: int) -> Position:
        """Estimate what is served before a waiting job, as if service were a fluid.

        Let V be the seconds before it in its tenant's line. While these are served, every other tenant of the
        class gets as much, or its backlog B if that is less: ``T = V + sum(min(B, V))``. While the class gets
        T, another one of weight w gets ``min(backlog, T * w / own weight)``; where classes are strict a
        better one gets its whole backlog and a worse one nothing. Jobs are counted in the same proportions.
        What is still to come, and jobs that stand aside for a limit, are not considered. Costs the number of
        tenants of the class and of blocks of the line. Raises KeyError for a job that does not wait here.
        """
        line, at = self._find(job, key)
        entry = _entry(job, key)
        own_jobs, own = line.ahead(entry.first, entry.second, key)
        jobs, seconds = float(own_jobs), own
        for other in at.lines.values():
            if other is not line:
                share = _part(other.cost, own)
                jobs += share * len(other)
                seconds += share * other.cost
        more_jobs, more = 0.0, 0.0
        for other_class in self._ranked:
            if other_class is not at:
                share = self._share(other_class, at, seconds)
                more_jobs += share * other_class.jobs
                more += share * other_class.seconds
        return Position(round(jobs + more_jobs), seconds + more)

    def _share(self, other: PriorityClass, at: PriorityClass, seconds: float) -> float:
        if self._strict:
            return 1.0 if other.rank < at.rank else 0.0
        return _part(other.seconds, seconds * other.weight / at.weight)

    # --- classes and lines ---

    def _class(self, name: str) -> PriorityClass:
        found = self._classes.get(name)
        if found is None:
            weight = min((one.weight for one in self._classes.values()), default=1.0)
            found = self._classes[name] = PriorityClass(name, weight, self._clocks.of(name))
            self._rank()
        return found

    def _rank(self) -> None:
        self._ranked = sorted(self._classes.values(), key=lambda one: -one.weight)
        for rank, one in enumerate(self._ranked):
            one.rank = rank

    def _count(self, own: PriorityClass, jobs: int, seconds: float) -> None:
        own.count(jobs, seconds)
        self.length += jobs
        self.seconds = max(0.0, self.seconds + seconds) if self.length else 0.0

    def _enter(self, at: PriorityClass, tenant: str, session: str, entry: Entry) -> None:
        line = at.lines.get(tenant)
        if line is None:
            line = at.open(tenant)
            if self._step_ms and at.rank:
                at.watch(self._ripe_ms(entry), tenant, line)
        line.insert(entry, session)
        if not line.ticket:
            self._offer(at, tenant, line)

    def _offer(self, at: PriorityClass, tenant: str, line: Line) -> None:
        self._clocks.enter(at.clock)
        at.offer(tenant, line)

    def _find(self, job: Waits, key: int) -> tuple[Line, PriorityClass]:
        guest = self._guests.get(key)
        at = self._class(guest.at if guest else job.priority)
        return at.lines[job.tenant], at

    def _next_class(self) -> PriorityClass | None:
        waiting = [one for one in self._ranked if one.offered]
        if not waiting:
            return None
        return waiting[0] if self._strict else min(waiting, key=lambda one: one.clock.virtual)

    def _turn(self, at: PriorityClass) -> tuple[str, Line, str] | None:
        """Return whose turn it is in a class; lines in which nothing may go are set aside."""
        while (turn := at.next_line()) is not None:
            tenant, line = turn
            blocked = self._limits is not None and self._limits.tenant_is_full(tenant)
            session = None if blocked else line.turn(self._limits, tenant, self._session_of)
            if session is not None:
                return tenant, line, session
            if not blocked and len(line.run):
                # So many jobs of full sessions stand before the others that the look goes on next time.
                return None
            at.set_aside(line)
        return None

    def _take(self, at: PriorityClass) -> tuple[str, Entry] | None:
        """Take the next job of a class."""
        turn = self._turn(at)
        if turn is None:
            return None
        tenant, line, session = turn
        entry = line.take(session)
        at.charge(tenant, line, entry.cost)
        return tenant, entry

    def _serve(self, at: PriorityClass, tenant: str, entry: Entry) -> int:
        self._clocks.charge(at.clock, entry.cost, at.weight)
        guest = self._guests.get(entry.key)
        self._count(self._classes[guest.own] if guest else at, -1, -entry.cost)
        self._settle(tenant, entry.key)
        if self._limits:
            session = self._session_of(entry.key) if self._limits.sessions else ""
            self._limits.take(tenant, session, self._pool)
        return entry.key

    # --- ageing ---

    def _ripe_ms(self, entry: Entry) -> int:
        """Return when a job may rise, (once more): its order begins with its time of acceptance."""
        guest = self._guests.get(entry.key)
        return (entry.second >> PLACE_BITS) + self._step_ms * (1 + (guest.steps if guest else 0))

    def _age(self, now_ms: int) -> None:
        for at in self._ranked:
            if at.ages and at.ages[0][0] <= now_ms:
                for tenant, line in at.ripe(now_ms):
                    self._look_at(at, tenant, line, now_ms)

    def _look_at(self, at: PriorityClass, tenant: str, line: Line, now_ms: int) -> None:
        """Let a line's first job rise if it is old enough and no other one of the line is up."""
        if (at.name, tenant) in self._risen:
            line.waits = True
            return
        first = line.run.first()
        ripe_ms = now_ms + self._step_ms if first is None else self._ripe_ms(first)
        if first is None or ripe_ms > now_ms:
            at.watch(ripe_ms, tenant, line)
            return
        line.waits = True
        entry = line.run.pop()
        if not line:
            at.drop(tenant)
        self._rise(entry, tenant, at)

    def _rise(self, entry: Entry, tenant: str, at: PriorityClass) -> None:
        former, above = self._guests.get(entry.key), self._ranked[at.rank - 1]
        self._settle(tenant, entry.key)
        own, steps = (former.own, former.steps) if former else (at.name, 0)
        self._guests[entry.key] = _Guest(own, above.name, at.name, steps + 1)
        self._risen[at.name, tenant] = entry.key
        session = self._session_of(entry.key) if self._limits and self._limits.sessions else ""
        self._enter(above, tenant, session, entry)

    def _settle(self, tenant: str, key: int) -> None:
        """Let the next one of its line rise when a job that had risen has gone."""
        guest = self._guests.pop(key, None) if self._guests else None
        if guest is None:
            return
        del self._risen[guest.below, tenant]
        below = self._classes[guest.below]
        line = below.lines.get(tenant)
        if line is not None and line.waits:
            line.waits = False
            below.watch(0, tenant, line)


def _entry(job: Waits, key: int) -> Entry:
    return Entry(max(0, job.due_ms), rank_of(job.order), key, job.cost)


def _part(backlog: float, served: float) -> float:
    """Return which part of a backlog is served while ``served`` seconds are available for it."""
    if served <= 0:
        return 0.0
    return 1.0 if backlog <= served else served / backlog
