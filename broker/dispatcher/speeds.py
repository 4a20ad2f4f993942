"""What a point takes on each pool, as it was measured: what costs, routing and ends of waits count in. Pure.

Until something has ended on a pool, what is configured counts; the first measurement replaces it. It is
measured by class of work (:mod:`shotbus.broker.policy.work`); for a class of which nothing has ended yet the
mean of all classes counts. Means forget exponentially. Shards of one process know what all of them have
measured; each writes its own part.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from shotbus.schemas.codec import decode, encode

_PREFIX = b"speed/"
#: All classes of work of a pool together.
ANY = -1
#: How many classes of work are remembered of a pool; the one that was not measured for longest goes.
_MOST_WORKS = 64
#: The weight of a new measurement is never less than this.
_LEAST_WEIGHT = 0.1
_REMEMBERED = round(1 / _LEAST_WEIGHT)
# A row is written at so many measurements, and when a mean is so much off what the last row says.
_TOLD_AT, _NOTICEABLE = (1, 3, _REMEMBERED), 0.1


class Speed(NamedTuple):
    """Seconds of a point: the mean over ``runs`` bundles, and ``least``, the best of late."""

    runs: int
    mean: float
    least: float


def is_speed_key(key: bytes) -> bool:
    """Tell whether a ledger key belongs here."""
    return key.startswith(_PREFIX)


class Speeds:
    """What one shard knows of how long points take.

    Args:
        configured: seconds of a point, by pool; believed until something was measured.

    """

    def __init__(self, configured: Mapping[str, float]) -> None:
        self._configured = {pool: Speed(0, seconds, seconds) for pool, seconds in configured.items()}
        #: Read only: what was measured here, by pool and class of work, the latest last; ``ANY`` for all.
        self.own: dict[str, dict[int, Speed]] = {}
        #: Read only: the same, measured here or by the others; a pool's table is one for all of a group.
        self.measured: dict[str, dict[int, Speed]] = {}
        #: What stands in the rows.
        self._written: dict[str, dict[int, Speed]] = {}
        self._group: list[Speeds] = [self]

    def of(self, pool: str, work: int = ANY) -> Speed | None:
        """Return what a point of a class of work takes: measured of the class, of the pool, or configured.

        None for a pool that is not configured and of which nothing was measured.
        """
        known = self.measured.get(pool)
        if known is None:
            return self._configured.get(pool)
        return known.get(work) or known[ANY]

    def is_measured(self, pool: str) -> bool:
        """Tell whether anything has ended on a pool."""
        return pool in self.measured

    def works(self, pool: str) -> dict[int, tuple[float, float]]:
        """Return what was measured of a pool by class of work: seconds of a point, the mean and the least."""
        known = self.measured.get(pool, {})
        return {work: (one.mean, one.least) for work, one in known.items() if work != ANY}

    def observe(self, pool: str, seconds: float, work: int) -> list[bytes]:
        """Take what a point took, above 0; returns the ledger keys that changed noticeably."""
        noticed = [self._learn(pool, one, seconds) for one in (ANY, work)]
        if pool in self.measured:
            self._retell(pool, (ANY, work))
        else:
            self._settle(pool, self._group)
        if not any(noticed):
            return []
        self._written[pool] = dict(self.own[pool])
        return [_PREFIX + pool.encode()]

    def _learn(self, pool: str, work: int, seconds: float) -> bool:
        """Take what a point took into one mean; tells whether that is to be written."""
        own = self.own.setdefault(pool, {})
        before = own.pop(work, Speed(0, seconds, seconds))
        weight = max(_LEAST_WEIGHT, 1.0 / (before.runs + 1))
        mean = before.mean + weight * (seconds - before.mean)
        # The best is forgotten too, else one lucky run would speak for ever.
        least = min(seconds, before.least + _LEAST_WEIGHT * (mean - before.least))
        now = own[work] = Speed(before.runs + 1, mean, least)
        if len(own) > _MOST_WORKS:
            # Not ANY: that was put at the end a moment ago.
            self._forget(pool, next(iter(own)))
        return _is_news(self._written.get(pool, {}).get(work), now)

    def _forget(self, pool: str, work: int) -> None:
        del self.own[pool][work]
        self.measured.get(pool, {}).pop(work, None)

    def _retell(self, pool: str, works: Iterable[int]) -> None:
        """Let all of the group know some means of a pool of which they know others."""
        together = self.measured[pool]
        for work in works:
            known = [one.own[pool][work] for one in self._group if work in one.own.get(pool, ())]
            together[work] = merged(known)

    # --- one among several ---

    def join(self, group: list[Speeds]) -> None:
        """Know from now on what the others of a group know, and they what is known here."""
        self.leave()
        group.append(self)
        self._group = group
        self._settle_all(group)

    def leave(self) -> None:
        """Know what was measured here alone; whoever stays knows it no longer."""
        others = self._group
        others.remove(self)
        self._group = [self]
        self._settle_all(self._group)
        self._settle_all(others)

    def _settle_all(self, group: Sequence[Speeds]) -> None:
        for pool in sorted({pool for one in group for pool in (*one.own, *one.measured)}):
            self._settle(pool, group)

    def _settle(self, pool: str, group: Sequence[Speeds]) -> None:
        """Let all of a group know what they know together."""
        known = [one.own[pool] for one in group if pool in one.own]
        together = _together(known)
        for one in group:
            if together:
                one.measured[pool] = together
            else:
                one.measured.pop(pool, None)

    # --- rows ---

    def snapshot(self, key: bytes) -> bytes | None:
        """Return a key's row."""
        own = self.own.get(_pool_of(key))
        if own is None:
            return None
        works = {str(work): speed for work, speed in own.items() if work != ANY}
        told = own[ANY]._asdict() | {"works": works}
        return encode("ledger_page", {"kind": "meta", "data": json.dumps(told).encode()})

    def restore(self, key: bytes, row: bytes | None) -> None:
        """Let a row replace what was taken for its key; None takes that away."""
        pool = _pool_of(key)
        self.own.pop(pool, None)
        self._written.pop(pool, None)
        if row is not None:
            told = json.loads(decode(row, "ledger_page")[1]["data"])
            # Rows of earlier versions have no classes of work.
            works = {int(work): Speed(*speed) for work, speed in told.pop("works", {}).items()}
            self.own[pool] = {ANY: Speed(**told), **works}
            self._written[pool] = dict(self.own[pool])
        self._settle(pool, self._group)


def _is_news(written: Speed | None, now: Speed) -> bool:
    """Tell whether a mean is to be written: early, then where it has moved to, not each swing."""
    if written is None or now.runs in _TOLD_AT:
        return True
    moved = abs(now.mean - written.mean) > _NOTICEABLE * written.mean
    return moved and now.runs - written.runs >= _REMEMBERED


def _together(known: Sequence[Mapping[int, Speed]]) -> dict[int, Speed]:
    """Return what several have measured of a pool, by class of work."""
    works = dict.fromkeys(work for one in known for work in one)
    return {work: merged([one[work] for one in known if work in one]) for work in works}


def merged(speeds: Sequence[Speed]) -> Speed:
    """Return what several have measured, at least one: means count by the runs that they still remember."""
    if len(speeds) == 1:
        return speeds[0]
    weights = [min(one.runs, _REMEMBERED) for one in speeds]
    mean = math.fsum(weight * one.mean for weight, one in zip(weights, speeds, strict=True)) / sum(weights)
    return Speed(sum(one.runs for one in speeds), mean, min(one.least for one in speeds))


def _pool_of(key: bytes) -> str:
    return key.removeprefix(_PREFIX).decode()
