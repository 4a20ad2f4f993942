"""Watermarks on the work that waits, and what they mean for arriving jobs, as data. Pure.

High and low marks apart, so that a pool does not flap between busy and not. An accepted job is never
dropped: shedding refuses at the door, with the time after which to come again, or queues later, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from shotbus.broker.config import PoolConfig, SheddingConfig
from shotbus.broker.policy.doorview import Level


class Watermark:
    """Engaged from ``high`` until ``low``, seconds of estimated work."""

    __slots__ = ("engaged", "high", "low")

    def __init__(self, high: float, low: float) -> None:
        self.high, self.low, self.engaged = high, min(low, high), False

    def update(self, waiting: float) -> bool:
        """Take what waits now; return whether the flag changed."""
        before = self.engaged
        self.engaged = waiting > self.low if before else waiting >= self.high
        return self.engaged != before


class Shed(NamedTuple):
    """What happens to an arriving job: ``defer`` or ``refuse``, by which level, with the numbers.

    ``waiting`` and ``high`` are seconds of the whole pool, as its marks are configured.
    """

    action: str
    level: str
    retry_after_ms: int
    waiting: float
    high: float


class Shedder:
    """Watermarks of one shard.

    Args:
        pools: with their marks.
        levels: ``[shedding]``.
        shards: how many share a pool's waiting work; each has its part of the marks. What is told is of the
            whole pool: a part of a mark is a number that stands in no configuration.

    """

    def __init__(
        self, pools: Mapping[str, PoolConfig], levels: Mapping[str, SheddingConfig], shards: int
    ) -> None:
        self._levels, self._shards = levels, shards
        self._waiting: dict[str, float] = {}
        self._busy = {
            name: Watermark(pool.high_seconds / shards, pool.low_seconds / shards)
            for name, pool in pools.items()
        }
        self._marks = {
            pool: {
                name: Watermark(level.over * mark.high, level.over * mark.low)
                for name, level in sorted(levels.items())
                if not level.pools or pool in level.pools
            }
            for pool, mark in self._busy.items()
        }

    def update(self, pool: str, waiting: float) -> list[str]:
        """Take the seconds that wait for a pool; return what changed, for events.

        Changes are told as ``busy`` or the level's name, with ``-`` before it when it is over.
        """
        busy = self._busy.get(pool)
        if busy is None:
            return []
        self._waiting[pool] = waiting
        marks = {"busy": busy, **{f"shedding.{name}": mark for name, mark in self._marks[pool].items()}}
        return [name if mark.engaged else f"-{name}" for name, mark in marks.items() if mark.update(waiting)]

    def engaged(self, pool: str) -> bool:
        """Tell whether a pool is above its high mark and not yet below its low one."""
        busy = self._busy.get(pool)
        return busy is not None and busy.engaged

    def levels(self) -> dict[str, list[Level]]:
        """Return by pool its levels with their marks, in seconds of the whole pool."""
        return {
            pool: [self._told(name, mark, self._waiting.get(pool, 0.0)) for name, mark in marks]
            for pool, one in self._marks.items()
            if (marks := list(one.items()))
        }

    def decide(self, pool: str, priority: str) -> Shed | None:
        """Return what happens to a job that arrives, None to take it; refusing goes before deferring."""
        if not self._levels:
            return None
        found: Shed | None = None
        for name, mark in self._marks.get(pool, {}).items():
            level = self._levels[name]
            action = "refuse" if priority in level.refuse else "defer" if priority in level.defer else ""
            if not mark.engaged or not action or (found and (found.action == "refuse" or action == "defer")):
                continue
            after = int(1000 * level.retry_after_seconds)
            found = Shed(action, name, after, self.whole(self._waiting.get(pool, 0.0)), self.whole(mark.high))
        return found

    def whole(self, seconds: float) -> float:
        """Return what so many seconds of one shard are of the whole pool."""
        return seconds * self._shards

    def _told(self, name: str, mark: Watermark, waiting: float) -> Level:
        level, whole = self._levels[name], self.whole
        after = int(1000 * level.retry_after_seconds)
        sums = (whole(waiting), whole(mark.high), whole(mark.low))
        return Level(name, level.refuse, level.defer, mark.engaged, *sums, after)
