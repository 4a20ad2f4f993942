"""What a point takes on each pool, as it was measured: what costs, routing and ends of waits count in. Pure.

Until something has ended on a pool, what is configured counts; the first measurement replaces it. Means
forget exponentially. Shards of one process know what all of them have measured; each writes its own part.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from shotbus.schemas.codec import decode, encode

_PREFIX = b"speed/"
#: The weight of a new measurement is never less than this.
_LEAST_WEIGHT = 0.1
_REMEMBERED = round(1 / _LEAST_WEIGHT)
# A row is written at so many measurements, and whenever the mean is so much off what the last row says.
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
        self._configured = configured
        #: Read only: what was measured here.
        self.own: dict[str, Speed] = {}
        self._written: dict[str, float] = {}
        self._group: list[Speeds] = [self]
        #: Read only: seconds of a point by pool, measured or configured.
        self.by_pool: dict[str, float] = dict(configured)
        #: Read only: what was measured, here and by the others.
        self.measured: dict[str, Speed] = {}

    def observe(self, pool: str, seconds: float) -> list[bytes]:
        """Take what a point took, above 0; returns the ledger keys that changed noticeably."""
        before = self.own.get(pool, Speed(0, seconds, seconds))
        weight = max(_LEAST_WEIGHT, 1.0 / (before.runs + 1))
        mean = before.mean + weight * (seconds - before.mean)
        # The best is forgotten too, else one lucky run would speak for ever.
        least = min(seconds, before.least + _LEAST_WEIGHT * (mean - before.least))
        self.own[pool] = Speed(before.runs + 1, mean, least)
        self._settle(pool, self._group)
        written = self._written.get(pool, 0.0)
        if before.runs + 1 not in _TOLD_AT and abs(mean - written) <= _NOTICEABLE * written:
            return []
        self._written[pool] = mean
        return [_PREFIX + pool.encode()]

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

    def take(self, pool: str, together: Speed | None) -> None:
        """Take what a group has measured of a pool, None for nothing."""
        if together is not None:
            self.by_pool[pool], self.measured[pool] = together.mean, together
            return
        self.measured.pop(pool, None)
        if pool in self._configured:
            self.by_pool[pool] = self._configured[pool]
        else:
            self.by_pool.pop(pool, None)

    def _settle_all(self, group: Sequence[Speeds]) -> None:
        for pool in sorted({pool for one in group for pool in (*one.own, *one.measured)}):
            self._settle(pool, group)

    def _settle(self, pool: str, group: Sequence[Speeds]) -> None:
        """Let all of a group know what they know together."""
        known = [one.own[pool] for one in group if pool in one.own]
        together = merged(known) if known else None
        for one in group:
            one.take(pool, together)

    # --- rows ---

    def snapshot(self, key: bytes) -> bytes | None:
        """Return a key's row."""
        speed = self.own.get(_pool_of(key))
        if speed is None:
            return None
        return encode("ledger_page", {"kind": "meta", "data": json.dumps(speed._asdict()).encode()})

    def restore(self, key: bytes, row: bytes | None) -> None:
        """Let a row replace what was taken for its key; None takes that away."""
        pool = _pool_of(key)
        if row is None:
            self.own.pop(pool, None)
            self._written.pop(pool, None)
        else:
            self.own[pool] = speed = Speed(**json.loads(decode(row, "ledger_page")[1]["data"]))
            self._written[pool] = speed.mean
        self._settle(pool, self._group)


def merged(speeds: Sequence[Speed]) -> Speed:
    """Return what several have measured, at least one: means count by the runs that they still remember."""
    if len(speeds) == 1:
        return speeds[0]
    weights = [min(one.runs, _REMEMBERED) for one in speeds]
    mean = math.fsum(weight * one.mean for weight, one in zip(weights, speeds, strict=True)) / sum(weights)
    return Speed(sum(one.runs for one in speeds), mean, min(one.least for one in speeds))


def _pool_of(key: bytes) -> str:
    return key.removeprefix(_PREFIX).decode()
