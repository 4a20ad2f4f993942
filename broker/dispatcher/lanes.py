"""What a fair queue is made of: lines of tenants in classes, with their virtual times. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

from shotbus.broker.dispatcher.clocks import ClassClock, TenantClock
from shotbus.broker.dispatcher.concurrency import Concurrency
from shotbus.broker.dispatcher.sortedrun import Entry, SortedRun

# Entries of lines that have gone may lie in a heap this often beside the others before it is rebuilt.
_SLACK = 64
# How many jobs of full sessions a turn puts aside at most; the next turn goes on.
_LOOKS = 2_048
SessionOf = Callable[[int], str]


class Line:
    """The waiting jobs of one tenant in one class, the earliest due first.

    Jobs whose session may have no more with workers are put aside, once, into a line of the session, which
    takes part again when the session has room. So nobody looks at the same blocked job twice.
    """

    __slots__ = ("_held", "_ready", "clock", "number", "run", "ticket", "waits")

    def __init__(self, clock: TenantClock, number: int) -> None:
        self.run = SortedRun()
        self.clock, self.number = clock, number
        #: Its place in the class's order; 0 while it is set aside.
        self.ticket = 0
        #: Its first job is old enough to rise, but another one of this line has risen and is not served yet.
        self.waits = False
        self._held: dict[str, SortedRun] = {}
        self._ready: list[tuple[int, int, str]] = []

    def __len__(self) -> int:
        return len(self.run) + sum(map(len, self._held.values()))

    @property
    def cost(self) -> float:
        """Sum of the costs, seconds."""
        return self.run.cost + sum(run.cost for run in self._held.values())

    def insert(self, entry: Entry, session: str) -> None:
        """Add a job; behind its session where that is put aside."""
        run = self._held.get(session) if self._held else None
        if run is None:
            self.run.insert(entry)
        else:
            run.insert(entry)
            self.offer(session)

    def remove(self, first: int, second: int, key: int, session: str) -> Entry:
        """Take a job out. Raises KeyError when it is not here."""
        run = self._held.get(session)
        if run is None or (first, second, key) not in run:
            return self.run.remove(first, second, key)
        entry = run.remove(first, second, key)
        self._after(session, run)
        return entry

    def turn(self, limits: Concurrency | None, tenant: str, session_of: SessionOf) -> str | None:
        """Return the session that was put aside whose first job is next, empty when no such job is.

        None when nothing may go, or nothing was found in a turn.
        """
        if limits is None or not limits.sessions:
            return ""
        for _ in range(_LOOKS):
            ready, first = self._first_ready(limits, tenant), self.run.first()
            if ready is not None and (first is None or ready[:2] < first[:2]):
                return ready[2]
            if first is None:
                return None
            session = session_of(first.key)
            if not limits.session_is_full(tenant, session):
                return ""
            self._held.setdefault(session, SortedRun()).insert(self.run.pop())
        return None

    def head(self, session: str) -> Entry | None:
        """Return the job that :meth:`take` would take, None when there is none."""
        return (self._held[session] if session else self.run).first()

    def take(self, session: str) -> Entry:
        """Take the next job; ``session`` is what :meth:`turn` has just said."""
        return self._take_held(session) if session else self.run.pop()

    def offer(self, session: str) -> None:
        """Let a session take part again with its first job."""
        run = self._held.get(session)
        first = run.first() if run is not None else None
        if first is not None:
            heapq.heappush(self._ready, (first.first, first.second, session))

    def ahead(self, first: int, second: int, key: int) -> tuple[int, float]:
        """Return (jobs, seconds) before a job. Raises KeyError when it is not here."""
        for run in self._held.values():
            if (first, second, key) in run:
                return run.ahead(first, second, key)
        return self.run.ahead(first, second, key)

    def __iter__(self) -> Iterator[int]:
        yield from self.run
        for run in self._held.values():
            yield from run

    def _first_ready(self, limits: Concurrency, tenant: str) -> tuple[int, int, str] | None:
        while self._ready:
            first, second, session = self._ready[0]
            run = self._held.get(session)
            head = run.first() if run is not None else None
            full = limits.session_is_full(tenant, session)
            if head is not None and head[:2] == (first, second) and not full:
                return self._ready[0]
            heapq.heappop(self._ready)
        return None

    def _take_held(self, session: str) -> Entry:
        heapq.heappop(self._ready)
        run = self._held[session]
        entry = run.pop()
        self._after(session, run)
        return entry

    def _after(self, session: str, run: SortedRun) -> None:
        if len(run):
            self.offer(session)
        else:
            del self._held[session]


class PriorityClass:
    """One class: its lines by tenant, in the order of their virtual times."""

    __slots__ = (
        "_numbers",
        "ages",
        "clock",
        "jobs",
        "lines",
        "name",
        "offered",
        "order",
        "rank",
        "seconds",
        "weight",
    )

    def __init__(self, name: str, weight: float, clock: ClassClock) -> None:
        self.name, self.weight, self.rank = name, weight, 0
        self.clock = clock
        self.lines: dict[str, Line] = {}
        #: How many lines are not set aside, and their order; entries of an old ticket are passed over. An
        #: entry has the time that its tenant had when it was made: not later than the one it has now.
        self.offered = 0
        self.order: list[tuple[float, int, str]] = []
        #: When the first job of a line may rise a class: (wall ms, number of the line, tenant).
        self.ages: list[tuple[int, int, str]] = []
        self._numbers = 0
        #: Waiting jobs *of* this class and their cost, wherever they are served.
        self.jobs, self.seconds = 0, 0.0

    def count(self, jobs: int, seconds: float) -> None:
        """Count waiting jobs of this class in or out."""
        self.jobs += jobs
        self.seconds = max(0.0, self.seconds + seconds) if self.jobs else 0.0

    def use(self, clock: ClassClock) -> None:
        """Move to other clocks with all lines."""
        for tenant, line in self.lines.items():
            other = clock.open(tenant)
            if line.ticket:
                self.clock.set_aside(line.clock)
                clock.offer(other)
            self.clock.drop(tenant)
            line.clock = other
        self.clock = clock
        self._rebuild()

    def open(self, tenant: str) -> Line:
        """Open a tenant's line."""
        self._numbers += 1
        line = Line(self.clock.open(tenant), self._numbers)
        self.lines[tenant] = line
        return line

    def offer(self, tenant: str, line: Line) -> None:
        """Let a line take part, again or for the first time."""
        self._numbers += 1
        line.ticket = self._numbers
        self.clock.offer(line.clock)
        self.offered += 1
        heapq.heappush(self.order, (line.clock.virtual, line.ticket, tenant))
        if len(self.order) > 2 * len(self.lines) + _SLACK:
            self._rebuild()

    def _rebuild(self) -> None:
        lines = self.lines.items()
        self.order = [(one.clock.virtual, one.ticket, name) for name, one in lines if one.ticket]
        heapq.heapify(self.order)

    def set_aside(self, line: Line) -> None:
        """Leave a line out until it is offered again."""
        line.ticket = 0
        self.offered -= 1
        self.clock.set_aside(line.clock)

    def next_line(self) -> tuple[str, Line] | None:
        """Return the tenant whose turn it is."""
        while self.order:
            virtual, ticket, tenant = self.order[0]
            line = self.lines.get(tenant)
            if line is None or line.ticket != ticket:
                heapq.heappop(self.order)
            elif line.clock.virtual != virtual:
                # Served meanwhile by another queue that shares the clocks.
                heapq.heapreplace(self.order, (line.clock.virtual, ticket, tenant))
            else:
                return tenant, line
        return None

    def charge(self, tenant: str, line: Line, cost: float) -> None:
        """Let the virtual times go on after the line whose turn it was gave a job."""
        self.clock.charge(line.clock, cost)
        heapq.heapreplace(self.order, (line.clock.virtual, line.ticket, tenant))
        if not line:
            self.drop(tenant)

    def drop(self, tenant: str) -> None:
        """Close an empty line."""
        line = self.lines.pop(tenant)
        if line.ticket:
            self.set_aside(line)
        self.clock.drop(tenant)

    def watch(self, ripe_ms: int, tenant: str, line: Line) -> None:
        """Look at a line's first job again when it may be old enough to rise."""
        heapq.heappush(self.ages, (ripe_ms, line.number, tenant))
        if len(self.ages) > 2 * len(self.lines) + _SLACK:
            self.ages = [age for age in self.ages if self._is_current(age)]
            heapq.heapify(self.ages)

    def ripe(self, now_ms: int) -> Iterator[tuple[str, Line]]:
        """Take the lines to be looked at now."""
        while self.ages and self.ages[0][0] <= now_ms:
            age = heapq.heappop(self.ages)
            if self._is_current(age):
                yield age[2], self.lines[age[2]]

    def _is_current(self, age: tuple[int, int, str]) -> bool:
        line = self.lines.get(age[2])
        return line is not None and line.number == age[1]
