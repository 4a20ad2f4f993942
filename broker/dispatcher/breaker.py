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
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from shotbus.broker.config import BreakerConfig
from shotbus.broker.dispatcher.error_window import Count, ErrorWindow, Share, rate_of

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


class _Probe(NamedTuple):
    sent: float
    by: int


class Breaker:
    """The breaker of one pool, for all who send there (``by``) and have their time in common.

    Args:
        settings: thresholds and pauses.

    """

    def __init__(self, settings: BreakerConfig) -> None:
        self._settings = settings
        self._windows: dict[int, ErrorWindow] = {}
        self.gate = Gate.CLOSED
        self.reason = ""
        #: Openings in a row without a recovery between them; the pause grows with it.
        self._streak = 0
        self._until = 0.0
        self._probes: dict[str, _Probe] = {}
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
        self._probes = {name: one for name, one in self._probes.items() if seen - one.sent < patience}
        return max(0, self._settings.probes - self._passed - len(self._probes))

    def sent(self, bundle_id: str, seen: float, by: int = 0) -> None:
        """Note a bundle that was forwarded; half open, it is a probe."""
        if self.gate is Gate.HALF_OPEN:
            self._probes[bundle_id] = _Probe(seen, by)

    def observe(self, bundle_id: str, reports: Iterable[Report], seen: float, by: int = 0) -> bool:
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
        if shares:
            window = self._windows.get(by)
            if window is None:
                window = self._windows[by] = ErrorWindow(self._settings.window_seconds)
            for tenant, share in shares.items():
                window.add(tenant, share, seen)
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

    def forget(self, by: int) -> None:
        """Forget what one of them has seen, and its probes, whose answers others will hear."""
        self._windows.pop(by, None)
        self._probes = {name: one for name, one in self._probes.items() if one.by != by}

    def restore(self, row: bytes, seen: float) -> bool:
        """Take a row back; return whether the gate changed.

        Open, with a full pause, since its probes' answers are lost; unless it is open already, or tried.
        """
        told = json.loads(row)
        self._streak = max(1, self._streak, int(told["streak"]))
        if self.gate is not Gate.CLOSED:
            return False
        self.gate, self.reason = Gate.OPEN, str(told["reason"])
        self._until = seen + self._pause()
        return True

    def _judge(self, seen: float) -> bool:
        calls, rate = rate_of(self._windows.values(), seen)
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
            self._windows.clear()
        elif reached is Gate.CLOSED:
            self.reason, self._streak = "", 0
        return True

    def _pause(self) -> float:
        settings = self._settings
        # Enough doublings for any cap; more would overflow a float.
        grown = settings.pause_seconds * settings.pause_factor ** min(self._streak - 1, 64)
        return min(settings.pause_cap, grown)


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
