"""When a job that a provider does not list was never handed in: one may be on its way. Reads a clock."""

from __future__ import annotations

from shotbus.broker.clock import Clock
from shotbus.broker.lru import Lru

_KEPT = 1_024


class Settling:
    """Tokens that nobody had when they were asked for; for providers that cannot close one.

    What was forgotten, with the process or for the number of tokens, begins anew: later, never too early.

    Args:
        seconds: how long a submission on its way may take to be listed.
        clock: to measure it.

    """

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._seconds, self._clock = seconds, clock
        self._first: Lru[str, float] = Lru(_KEPT)

    def is_over(self, token: str) -> bool:
        """Take note that a token was not listed, and tell whether it has long not been."""
        now = self._clock.monotonic()
        first = self._first.get(token)
        if first is None:
            first = self._first.put(token, now)
        return now - first >= self._seconds
