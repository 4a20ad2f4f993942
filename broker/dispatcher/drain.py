"""How fast a pool's queue drains while something waits, and what that says about a longer wait. Pure."""

from __future__ import annotations

import math

#: The longest wait that is told, seconds.
LONGEST = 1e9
_LONG_MEMORY, _MEMORY_LASTS, _ROUNDS = 900.0, 60.0, 3
_SHORTEST_INTERVAL, _MEMORY, _MOST_WEIGHT = 0.25, 20.0, 0.25


class DrainRate:
    """Backend seconds of waiting work that leave the queue a second, while something waits.

    ``mean`` follows within seconds, ``long`` within a quarter of an hour: what is the case now lasts for a
    minute or so, a longer wait sees the usual again.
    """

    __slots__ = ("_since", "_work", "known", "long", "mean", "variance")

    def __init__(self) -> None:
        self.mean, self.variance, self.long, self.known = 0.0, 0.0, 0.0, 0
        self._since: float | None = None
        self._work = 0.0

    def add(self, seconds: float, now: float, *, more: bool) -> None:
        """Note work that left; ``more`` says whether more waits, else what follows is idle time."""
        if self._since is None:
            # When it began to wait is not known, hence nor how long this took.
            self._since = now if more else None
            return
        self._work += seconds
        if now - self._since >= _SHORTEST_INTERVAL:
            self._learn(self._work / (now - self._since), now - self._since)
            self._since, self._work = now, 0.0
        if not more:
            self._since, self._work = None, 0.0

    def halt(self) -> None:
        """Forget when work last left: what comes until it flows again is no slowness of the queue."""
        self._since, self._work = None, 0.0

    def at(self, now: float) -> float:
        """Return the rate; a queue that has not moved for long is slower than it was."""
        if self._since is None or now <= self._since:
            return self.mean
        lately = self._work / (now - self._since)
        if lately >= self.mean:
            return self.mean
        return self.mean + _weight(now - self._since) * (lately - self.mean)

    def wait(self, work: float, now: float) -> float:
        """Return the seconds until this much work has left: at the late rate first, then at the usual one."""
        rate = short = self.at(now)
        for _ in range(_ROUNDS):
            span = min(work / rate, LONGEST) if rate > 0 else LONGEST
            lasting = _MEMORY_LASTS * -math.expm1(-span / _MEMORY_LASTS) / span if span > 0 else 1.0
            rate = self.long + (short - self.long) * lasting
        return work / rate if rate > 0 else LONGEST

    @property
    def unsteadiness(self) -> float:
        """Standard deviation over mean."""
        return math.sqrt(self.variance) / self.mean if self.mean > 0 else 0.0

    def _learn(self, rate: float, seconds: float) -> None:
        weight = max(_weight(seconds), 1.0 / (self.known + 1))
        self.known += 1
        self.long += max(1.0 - math.exp(-seconds / _LONG_MEMORY), 1.0 / (self.known + 1)) * (rate - self.long)
        change = rate - self.mean
        self.mean += weight * change
        self.variance = (1 - weight) * (self.variance + weight * change * change)


def _weight(seconds: float) -> float:
    return min(_MOST_WEIGHT, 1.0 - math.exp(-seconds / _MEMORY))
