"""Retry budget: repeats take at most a share of a pool's dispatches while fresh work waits. Pure.

A bucket for each pool and class of failures, as in Finagle's RetryBudget (Twitter, 2016): each fresh dispatch
deposits a part of a token, each repeat takes one. Nothing is refused: a repeat that finds no token waits.
"""

from __future__ import annotations


class RetryBudget:
    """The buckets of one shard.

    Args:
        share: the most that the repeats of one class are of all dispatches to a pool, 0 to below 1.
        burst: repeats that may go at once, and with which every bucket begins.

    """

    def __init__(self, share: float, burst: int) -> None:
        # Of n dispatches r are repeats: r <= share * n is r <= share / (1 - share) * (n - r).
        self._deposit, self._burst = share / (1.0 - share), float(burst)
        self._missing: dict[tuple[str, str], float] = {}

    def dispatched(self, pool: str, fresh: int) -> None:
        """Note first attempts that went to a pool."""
        if not self._missing:
            return
        for key in [key for key in self._missing if key[0] == pool]:
            left = self._missing[key] - fresh * self._deposit
            if left > 0:
                self._missing[key] = left
            else:
                # A full bucket needs no memory.
                del self._missing[key]

    def take(self, pool: str, error_class: str, *, fresh_waits: bool) -> bool:
        """Take a token for a repeat; False when it should let fresh work go first.

        Without fresh work it may always go, and what it takes then is not held against later ones.
        """
        if not fresh_waits:
            return True
        key = (pool, error_class)
        missing = self._missing.get(key, 0.0)
        if missing + 1.0 > self._burst + 1e-9:
            return False
        self._missing[key] = missing + 1.0
        return True

    def left(self, pool: str, error_class: str) -> float:
        """Return the tokens of a bucket."""
        return self._burst - self._missing.get((pool, error_class), 0.0)
