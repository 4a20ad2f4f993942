"""Circuit breakers: a pool whose backend fails is left alone, then tried again with a few probes. Pure.

What counts as the backend's fault is :data:`BLAMED`. Not counted are a job's own faults (INVALID,
CONSTRAINT), waiting (THROTTLED, NOT_STARTED), wishes (REVOKED, CANCELLED_BY_PROVIDER), a bad answer
(UNSTABLE) and dead children (CRASHED, POISON): a circuit that kills its worker must not close a pool to
everybody else.
For the same reason the error rate is averaged over tenants, and what a job may have brought about itself
(:data:`SUSPECT`) counts only when it happens to two tenants.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NamedTuple

from shotbus.broker.config import BreakerConfig
from shotbus.broker.dispatcher.error_window import Count, ErrorWindow, Share

#: Error classes that speak against the backend. LOST is a worker that fell silent, with its host or bus.
BLAMED = frozenset({"TRANSIENT", "INTERNAL", "TIMEOUT", "LOST", "UNKNOWN_OUTCOME", "BACKEND_DOWN"})
#: Of these, those that a circuit can provoke: one that never ends, one that takes its worker's host down.
SUSPECT = frozenset({"INTERNAL", "TIMEOUT", "LOST"})


class Gate(Enum):
    """Whether work flows."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"

    __hash__ = object.__hash__


class Push(Enum):
    """What moves a breaker."""

    TRIP = "trip"
    COOL = "cool"
    FAIL = "fail"
    RECOVER = "recover"

    __hash__ = object.__hash__


#: (gate, push) -> gate. A push that is not here changes nothing.
TABLE: dict[tuple[Gate, Push], Gate] = {
    (Gate.CLOSED, Push.TRIP): Gate.OPEN,
    (Gate.OPEN, Push.COOL): Gate.HALF_OPEN,
    (Gate.HALF_OPEN, Push.TRIP): Gate.OPEN,
    (Gate.HALF_OPEN, Push.FAIL): Gate.OPEN,
    (Gate.HALF_OPEN, Push.RECOVER): Gate.CLOSED,
}


class Report(NamedTuple):
    """How one attempt of a bundle ended, and whose it was; an empty class is success."""

    tenant: str
    error_class: str


class BreakerView(NamedTuple):
    """What routing and displays see; ``retry_seconds`` of time seen until probes may go, 0 when they may."""

    gate: Gate
    reason: str
    retry_seconds: float


class Breaker:
    """The breaker of one pool.

    Args:
        settings: thresholds and pauses.

    """

    def __init__(self, settings: BreakerConfig) -> None:
        self._settings = settings
        self._window = ErrorWindow(settings.window_seconds)
        self.gate = Gate.CLOSED
        self.reason = ""
        #: Openings in a row without a recovery between them; the pause grows with it.
        self._streak = 0
        self._until = 0.0
        self._probes: dict[str, float] = {}
        self._passed = 0

    def advance(self, seen: float) -> bool:
        """Let time pass; return whether the gate changed."""
        return self.gate is Gate.OPEN and seen >= self._until and self._move(Push.COOL, "", seen)

    def room(self, seen: float) -> int | None:
        """Return how many bundles may go now: None is no limit, half open it is the probes that are left."""
        if self.gate is Gate.CLOSED:
            return None
        if self.gate is Gate.OPEN:
            return 0
        # A probe that nobody answers for must not keep the gate half open for ever.
        patience = max(self._settings.pause_seconds, self._settings.window_seconds)
        self._probes = {name: sent for name, sent in self._probes.items() if seen - sent < patience}
        return max(0, self._settings.probes - self._passed - len(self._probes))

    def sent(self, bundle_id: str, seen: float) -> None:
        """Note a bundle that was forwarded; half open, it is a probe."""
        if self.gate is Gate.HALF_OPEN:
            self._probes[bundle_id] = seen

    def observe(self, bundle_id: str, reports: Iterable[Report], seen: float) -> bool:
        """Take the end of a bundle's attempts; return whether the gate changed.

        One report stands for a bundle in which every attempt succeeded.
        """
        shares, down = _shares(reports)
        was_probe = self._probes.pop(bundle_id, None) is not None
        if down and self.gate is not Gate.OPEN:
            return self._move(Push.TRIP, "BACKEND_DOWN", seen)
        if self.gate is Gate.HALF_OPEN:
            return was_probe and bool(shares) and self._probed(any(map(any, shares.values())), seen)
        if self.gate is Gate.OPEN:
            return False
        for tenant, share in shares.items():
            self._window.add(tenant, share, seen)
        return any(map(any, shares.values())) and self._judge(seen)

    def view(self, seen: float) -> BreakerView:
        """Return what is known."""
        waits = max(0.0, self._until - seen) if self.gate is Gate.OPEN else 0.0
        return BreakerView(self.gate, self.reason, waits)

    def snapshot(self) -> bytes | None:
        """Return its row; None for one that is closed, which needs none."""
        if self.gate is Gate.CLOSED:
            return None
        return json.dumps({"streak": self._streak, "reason": self.reason}).encode()

    def restore(self, row: bytes, seen: float) -> None:
        """Take a row back: open, with a full pause, since its probes' answers are lost."""
        told = json.loads(row)
        self.gate, self.reason = Gate.OPEN, str(told["reason"])
        self._streak = max(1, int(told["streak"]))
        self._until = seen + self._pause()

    def _judge(self, seen: float) -> bool:
        calls, rate = self._window.rate(seen)
        if calls < self._settings.min_calls or rate <= self._settings.error_rate:
            return False
        reason = f"{rate:.0%} of {calls:g} bundles failed in {self._settings.window_seconds:g} s"
        return self._move(Push.TRIP, reason, seen)

    def _probed(self, failed: bool, seen: float) -> bool:
        if failed:
            return self._move(Push.FAIL, "a probe failed", seen)
        self._passed += 1
        return self._passed >= self._settings.probes and self._move(Push.RECOVER, "", seen)

    def _move(self, push: Push, reason: str, seen: float) -> bool:
        reached = TABLE.get((self.gate, push))
        if reached is None:
            return False
        self.gate = reached
        self._probes, self._passed = {}, 0
        if reached is Gate.OPEN:
            self.reason = reason
            self._streak += 1
            self._until = seen + self._pause()
            self._window.clear()
        elif reached is Gate.CLOSED:
            self.reason, self._streak = "", 0
        return True

    def _pause(self) -> float:
        settings = self._settings
        # Enough doublings for any cap; more would overflow a float.
        grown = settings.pause_seconds * settings.pause_factor ** min(self._streak - 1, 64)
        return min(settings.pause_cap, grown)


class Breakers:
    """The breakers of one shard; pools that never failed cost a lookup.

    Args:
        settings: by pool; others have the defaults.

    """

    def __init__(self, settings: Mapping[str, BreakerConfig]) -> None:
        self._settings = settings
        self._breakers: dict[str, Breaker] = {}

    def observe(self, pool: str, bundle_id: str, reports: Iterable[Report], seen: float) -> bool:
        """Take the end of a bundle's attempts; return whether the pool's row changed."""
        return self._of(pool).observe(bundle_id, reports, seen)

    def sent(self, pool: str, bundle_id: str, seen: float) -> None:
        """Note a bundle that was forwarded."""
        breaker = self._breakers.get(pool)
        if breaker is not None:
            breaker.sent(bundle_id, seen)

    def room(self, pool: str, seen: float) -> int | None:
        """Return how many bundles may go to a pool now, None without a limit."""
        breaker = self._breakers.get(pool)
        return None if breaker is None else breaker.room(seen)

    def advance(self, seen: float) -> list[str]:
        """Let time pass; return the pools whose rows changed, in order of name."""
        return [pool for pool in sorted(self._breakers) if self._breakers[pool].advance(seen)]

    def next_due(self, seen: float) -> float | None:
        """Return the seconds of time seen until the next pause is over."""
        opened = [one.view(seen).retry_seconds for one in self._breakers.values() if one.gate is Gate.OPEN]
        return min(opened, default=None)

    def view(self, pool: str, seen: float) -> BreakerView:
        """Return what is known of a pool's breaker."""
        breaker = self._breakers.get(pool)
        return BreakerView(Gate.CLOSED, "", 0.0) if breaker is None else breaker.view(seen)

    def snapshot(self, pool: str) -> bytes | None:
        """Return a pool's row; None when it needs none."""
        breaker = self._breakers.get(pool)
        return None if breaker is None else breaker.snapshot()

    def restore(self, pool: str, row: bytes, seen: float) -> None:
        """Take a pool's row back."""
        self._of(pool).restore(row, seen)

    def _of(self, pool: str) -> Breaker:
        breaker = self._breakers.get(pool)
        if breaker is None:
            breaker = self._breakers[pool] = Breaker(self._settings.get(pool) or BreakerConfig())
        return breaker


def _shares(reports: Iterable[Report]) -> tuple[dict[str, Share], bool]:
    """Return the shares of blamed attempts by tenant, and whether the backend was said to be down.

    Attempts that say nothing about the backend are left out.
    """
    counts: dict[str, Count] = {}
    down = False
    for tenant, error_class in reports:
        if error_class and error_class not in BLAMED:
            continue
        down = down or error_class == "BACKEND_DOWN"
        suspect = error_class in SUSPECT
        counts.setdefault(tenant, Count()).add(1, bool(error_class) and not suspect, suspect)
    shares = {name: Share(one.certain / one.calls, one.suspect / one.calls) for name, one in counts.items()}
    return shares, down
