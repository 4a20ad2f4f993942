"""Parts: how the workers of a pool divide its provider's limits so that the sum is never exceeded. Pure.

All workers read ``pools``, one partition, in one order. Each claims a number of units there; what it holds
follows from the log: its claim counts once it has read it back, and only as far as the claims that others
had before it leave room. Of several workers the one whose record is last in the log has seen all others'
claims, hence the sum of what is held never passes the limit, however late each of them reads:

- a claim is lowered before the record that says so is written, and raised after it is read back;
- who has not read a record of its own for ``fence_seconds`` begins nothing; who has not been heard for
  ``silent_seconds``, which is longer, counts as gone. Silence is measured in time in which this worker's own
  records came back, so that a bus that was away for all makes nobody look gone;
- a superseded claim may have been compacted away before it was read, but then its successor stands in the
  same batch: until the next record of its own, a worker counts the highest claim of each other.

What a worker that died or lost the bus has running at the provider is no longer counted once it is silent.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from shotbus.broker.bucket import TokenBucket

# Advertisements this many silences old are history, whatever the clocks of two hosts say.
_ANCIENT = 6


class Limits(NamedTuple):
    """What a provider allows all workers of a pool together; 0 is no limit.

    ``burst`` bundles may begin at once, ``rate_per_second`` in the long run.
    """

    max_in_flight: int = 0
    rate_per_second: float = 0.0
    burst: int = 1

    @property
    def units(self) -> int:
        """Into how many parts the limits can be divided so that each allows something; 0 is no limit."""
        if self.max_in_flight and self.rate_per_second:
            return min(self.max_in_flight, self.burst)
        return self.max_in_flight or (self.burst if self.rate_per_second else 0)

    def runs(self, units: int) -> float:
        """Return how many bundles a holder of ``units`` may run at once."""
        return self.max_in_flight * units // self.units if self.max_in_flight else math.inf

    def needed(self, running: int) -> int:
        """Return the units that this many running bundles take."""
        return -(-running * self.units // self.max_in_flight) if self.max_in_flight else 0


class PartTimes(NamedTuple):
    """Seconds: see the module; a joiner holds nothing for the first ``settle`` of them."""

    silent: float = 10.0
    fence: float = 5.0
    settle: float = 2.0


@dataclass(slots=True)
class _Peer:
    claim: int
    highest: int
    ready: bool
    heard: float


class Parts:
    """One worker's view of who holds how many units.

    Args:
        me: this worker's name.
        units: what there is to hold.
        times: see :class:`PartTimes`.

    """

    def __init__(self, me: str, units: int, times: PartTimes) -> None:
        self._me, self._units, self._times = me, units, times
        self._peers: dict[str, _Peer] = {}
        #: Own records that have not come back: (sequence, claim, when it was written).
        self._pending: deque[tuple[int, int, float]] = deque()
        self._claim = 0
        self._valid_until = -math.inf
        self._last_echo: float | None = None
        #: Time in which own records came back; what silence is measured in.
        self._elapsed = 0.0

    def learn(self, name: str, claim: int, now: float, *, ready: bool, heard: float) -> None:
        """Take another worker's record; ``heard`` is when it was news, both in monotonic seconds."""
        if now - heard > _ANCIENT * self._times.silent:
            return
        peer = self._peers.get(name)
        highest = claim if peer is None else max(claim, peer.highest)
        self._peers[name] = _Peer(claim, highest, ready, self._elapsed)

    def gone(self, name: str) -> None:
        """Forget a worker that has left: it runs nothing any more."""
        self._peers.pop(name, None)

    def published(self, sequence: int, claim: int, now: float) -> None:
        """Note an own record just before it is written; sequences rise."""
        self._pending.append((sequence, claim, now))

    def echoed(self, sequence: int, now: float) -> None:
        """Note that an own record was read back."""
        written = None
        while self._pending and self._pending[0][0] <= sequence:
            number, claim, at = self._pending.popleft()
            if number == sequence:
                self._claim, written = claim, at
        if written is None:
            return  # of an earlier life
        self._valid_until = written + self._times.fence
        if self._last_echo is not None:
            self._elapsed += min(now - self._last_echo, self._times.settle)
        self._last_echo = now
        silent = self._times.silent
        self._peers = {n: one for n, one in self._peers.items() if self._elapsed - one.heard <= silent}
        for peer in self._peers.values():
            peer.highest = peer.claim

    def held(self, now: float) -> int:
        """Return the units this worker may use now."""
        if now >= self._valid_until:
            return 0
        others = sum(peer.highest for peer in self._peers.values())
        return max(0, min(self._claim, self._units - others, *(claim for _, claim, _ in self._pending)))

    def wish(self, needed: int, *, ready: bool = True) -> int:
        """Return the units to claim next: an even share as far as there is room, at least what is in use."""
        others = sum(peer.claim for peer in self._peers.values())
        return max(needed, min(self._share(), max(0, self._units - others))) if ready else needed

    def _share(self) -> int:
        """Return an even share; the first by name have one more, or one at all."""
        if self._elapsed < self._times.settle:
            return 0
        names = sorted([self._me, *(name for name, peer in self._peers.items() if peer.ready)])
        whole, rest = divmod(self._units, len(names))
        return whole + (names.index(self._me) < rest)


class Turnstile:
    """Lets this worker's bundles begin as its part of the pool's limits allows.

    Args:
        limits: of the pool.
        parts: this worker's part of them.
        now: monotonic seconds.

    """

    def __init__(self, limits: Limits, parts: Parts, now: float) -> None:
        self._limits, self._parts = limits, parts
        # Empty at first: those who had its part before may just have used it up.
        self._bucket = TokenBucket(0.0, 0.0, now, full=False)
        self.running = 0

    def credits(self, room: int, now: float) -> int:
        """Return how many of ``room`` bundles may be in hand."""
        held = self._parts.held(now)
        return int(min(room, self._limits.runs(held))) if held else 0

    def wait(self, now: float) -> float:
        """Return the seconds until a bundle may begin, infinite when only news can tell."""
        held = self._parts.held(now)
        if self._limits.rate_per_second:
            units = self._limits.units
            rate = self._limits.rate_per_second * held / units
            self._bucket.resize(rate, self._limits.burst * held // units, now)
        if not held or self.running >= self._limits.runs(held):
            return math.inf
        return self._bucket.wait(now) if self._limits.rate_per_second else 0.0

    def begin(self, now: float) -> bool:
        """Begin a bundle if one may."""
        if self.wait(now) > 0:
            return False
        if self._limits.rate_per_second:
            self._bucket.take(now)
        self.running += 1
        return True

    def end(self) -> None:
        """Note that a bundle has ended."""
        self.running -= 1

    def wish(self, *, ready: bool) -> int:
        """Return the units to claim; a worker that drains claims only what it still uses."""
        return self._parts.wish(self._limits.needed(self.running), ready=ready)
