"""Virtual times of a pool: how far its classes, and their tenants, have been served. Pure.

Queues that share them, one a shard, are fair as one: what any of them serves moves the times for all. A time
only ever rises. So a queue may keep its lines in a heap by the times they had, and look again at the first.

What is charged when a job goes is an estimate. What it took is told later (``correct``) and counted with the
next charge, so that a class whose jobs all take longer than they say gets no more than its share for it.
"""

from __future__ import annotations

# Times of tenants that have gone may lie about this often beside those ahead of ``now``.
_SLACK = 64


class TenantClock:
    """The virtual time of one tenant in one class, with the lines that it has in all queues."""

    __slots__ = ("lines", "offered", "owed", "virtual")

    def __init__(self, virtual: float) -> None:
        self.virtual = virtual
        #: Seconds that were served beyond what was charged, or short of it.
        self.owed = 0.0
        #: How many lines there are, and how many of them are not set aside.
        self.lines = self.offered = 0


class ClassClock:
    """The virtual time of one class, and those of its tenants."""

    __slots__ = ("_left", "_most_left", "_tenants", "now", "offered", "owed", "virtual")

    def __init__(self) -> None:
        #: Its own among the classes, and that of the service inside it.
        self.virtual = self.now = 0.0
        #: As of a tenant.
        self.owed = 0.0
        #: How many tenants have a line that is not set aside.
        self.offered = 0
        self._tenants: dict[str, TenantClock] = {}
        #: Virtual times of tenants that have no line, as far as they are ahead of ``now``.
        self._left: dict[str, float] = {}
        self._most_left = _SLACK

    def open(self, tenant: str) -> TenantClock:
        """Count a tenant's new line; with its first one it goes on where it left off, but not in the past."""
        clock = self._tenants.get(tenant)
        if clock is None:
            clock = TenantClock(max(self.now, self._left.pop(tenant, 0.0)))
            self._tenants[tenant] = clock
        clock.lines += 1
        return clock

    def drop(self, tenant: str) -> None:
        """Count a line out that is set aside; an idle class starts afresh."""
        clock = self._tenants[tenant]
        clock.lines -= 1
        if clock.lines:
            return
        del self._tenants[tenant]
        self._left[tenant] = clock.virtual
        if not self._tenants:
            self.now = max(self.now, *self._left.values())
        if not self._tenants or len(self._left) > self._most_left:
            self._left = {name: virtual for name, virtual in self._left.items() if virtual > self.now}
            self._most_left = 2 * len(self._left) + _SLACK

    def offer(self, clock: TenantClock) -> None:
        """Let a line take part; a tenant of whom nothing took part has saved nothing up."""
        if not clock.offered:
            clock.virtual = max(clock.virtual, self.now)
            self.offered += 1
        clock.offered += 1

    def set_aside(self, clock: TenantClock) -> None:
        """Let a line take part no longer."""
        clock.offered -= 1
        if not clock.offered:
            self.offered -= 1

    def charge(self, clock: TenantClock, cost: float) -> None:
        """Go on after a tenant whose line takes part was served."""
        # By its share of what was served, not only to the smallest tag: else an endless row of new tenants,
        # each with one job, would all enter before whoever has been here longer.
        cost, clock.owed = _settled(cost, clock.owed)
        self.now = max(clock.virtual, self.now + cost / self.offered)
        clock.virtual += cost

    def correct(self, tenant: str, seconds: float) -> None:
        """Count what was served beyond its charge, or short of it, with the next charge; see the module."""
        self.owed += seconds
        if (clock := self._tenants.get(tenant)) is not None:
            clock.owed += seconds


def _settled(cost: float, owed: float) -> tuple[float, float]:
    """Return what to charge for a cost, and what is owed after it: no time ever goes back."""
    whole = cost + owed
    return (whole, 0.0) if whole >= 0.0 else (0.0, whole)


class Clocks:
    """The virtual times of one pool, by class."""

    __slots__ = ("_classes", "now")

    def __init__(self) -> None:
        #: Virtual time of what was served last.
        self.now = 0.0
        self._classes: dict[str, ClassClock] = {}

    def of(self, name: str) -> ClassClock:
        """Return a class's clock."""
        found = self._classes.get(name)
        if found is None:
            found = self._classes[name] = ClassClock()
        return found

    def enter(self, clock: ClassClock) -> None:
        """Let a class of which nothing takes part yet begin with now: it has saved nothing up."""
        if not clock.offered:
            clock.virtual = max(clock.virtual, self.now)

    def charge(self, clock: ClassClock, cost: float, weight: float) -> None:
        """Go on after a class was served."""
        self.now = clock.virtual
        cost, clock.owed = _settled(cost, clock.owed)
        clock.virtual += cost / weight
