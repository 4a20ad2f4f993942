"""A token bucket: how often something may happen, with a burst. Pure."""

from __future__ import annotations

import math


class TokenBucket:
    """Holds at most ``burst`` tokens and gains ``rate`` a second.

    Args:
        rate: tokens a second, 0 or more.
        burst: the most tokens it holds.
        now: seconds of any clock that never goes back.
        full: whether it begins with ``burst`` tokens, else with none.

    """

    __slots__ = ("_at", "burst", "rate", "tokens")

    def __init__(self, rate: float, burst: float, now: float, *, full: bool = True) -> None:
        self.rate, self.burst, self._at = rate, burst, now
        self.tokens = burst if full else 0.0

    def resize(self, rate: float, burst: float, now: float) -> None:
        """Change the limits: tokens beyond the new burst are lost, none are given."""
        self.fill(now)
        self.rate, self.burst = rate, burst
        self.tokens = min(self.tokens, burst)

    def fill(self, now: float) -> None:
        """Let time pass."""
        if now > self._at:
            self.tokens = min(self.burst, self.tokens + self.rate * (now - self._at))
            self._at = now

    def wait(self, now: float, count: float = 1.0) -> float:
        """Return the seconds until ``count`` tokens are there; infinite when they never will be."""
        self.fill(now)
        missing = count - self.tokens
        # Else rounding could leave who has waited as long as told a hair short.
        if missing <= 1e-9:
            return 0.0
        return missing / self.rate if self.rate > 0 and count <= self.burst else math.inf

    def take(self, now: float, count: float = 1.0) -> bool:
        """Take tokens if they are there."""
        if self.wait(now, count) > 0:
            return False
        self.tokens = max(0.0, self.tokens - count)
        return True
