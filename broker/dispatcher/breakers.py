"""The breakers of a shard's pools, which the shards of a process have in common. Pure.

What one of them hears of a pool all of them know, and half open they send its probes together. Each writes
rows of its own, so that each takes its breakers along; whoever leaves, or begins again, takes what it has
seen with it. A gate that is open stays open then: it was decided by all.

Time seen is a shard's own. Common is the time of whoever is ahead, counted on from when each came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count

from shotbus.broker.config import BreakerConfig
from shotbus.broker.dispatcher.breaker import Breaker, BreakerView, Gate, Report


class CommonBreakers:
    """Breakers by pool, and their time.

    Args:
        settings: by pool; others have the defaults.

    """

    def __init__(self, settings: Mapping[str, BreakerConfig]) -> None:
        self.settings = settings
        self.by_pool: dict[str, Breaker] = {}
        self.now = 0.0
        #: How many gates have moved, and which number each pool's last move had.
        self.moves = 0
        self.moved: dict[str, int] = {}
        self.names = count()

    def of(self, pool: str) -> Breaker:
        """Return a pool's breaker."""
        breaker = self.by_pool.get(pool)
        if breaker is None:
            breaker = self.by_pool[pool] = Breaker(self.settings.get(pool) or BreakerConfig())
        return breaker

    def note(self, pool: str) -> None:
        """Count a gate that has moved."""
        self.moves += 1
        self.moved[pool] = self.moves


class Breakers:
    """The breakers of one shard; pools that never failed cost a lookup.

    Args:
        settings: by pool; others have the defaults.

    """

    def __init__(self, settings: Mapping[str, BreakerConfig]) -> None:
        self._settings, self._seen = settings, 0.0
        self._enter(CommonBreakers(settings))

    def _enter(self, common: CommonBreakers) -> None:
        self._common, self._breakers = common, common.by_pool
        self._me, self._known = next(common.names), 0
        self._offset = common.now - self._seen

    def use(self, common: CommonBreakers | None) -> None:
        """Share others from now on; None is own ones again, that know nothing."""
        for breaker in self._breakers.values():
            breaker.forget(self._me)
        self._enter(common or CommonBreakers(self._settings))

    def _at(self, seen: float) -> float:
        self._seen = max(self._seen, seen)
        self._common.now = max(self._common.now, seen + self._offset)
        return self._common.now

    def observe(self, pool: str, bundle_id: str, reports: Iterable[Report], seen: float) -> bool:
        """Take the end of a bundle's attempts; return whether the pool's gate moved."""
        moved = self._common.of(pool).observe(bundle_id, reports, self._at(seen), self._me)
        if moved:
            self._common.note(pool)
        return moved

    def sent(self, pool: str, bundle_id: str, seen: float) -> None:
        """Note a bundle that was forwarded."""
        breaker = self._breakers.get(pool)
        if breaker is not None:
            breaker.sent(bundle_id, self._at(seen), self._me)

    def room(self, pool: str, seen: float) -> int | None:
        """Return how many bundles may go to a pool now, None without a limit."""
        breaker = self._breakers.get(pool)
        return None if breaker is None else breaker.room(self._at(seen))

    def advance(self, seen: float) -> list[str]:
        """Let time pass; return the pools whose gates moved by it, in order of name."""
        now = self._at(seen)
        moved = [pool for pool in sorted(self._breakers) if self._breakers[pool].advance(now)]
        for pool in moved:
            self._common.note(pool)
        return moved

    def take_moved(self) -> list[str]:
        """Return the pools whose gates have moved since the last call, by whomever."""
        known, self._known = self._known, self._common.moves
        return [] if known == self._known else [one for one, at in self._common.moved.items() if at > known]

    def next_due(self, seen: float) -> float | None:
        """Return the seconds of time seen until the next pause is over."""
        now = self._at(seen)
        opened = [one.view(now).retry_seconds for one in self._breakers.values() if one.gate is Gate.OPEN]
        return min(opened, default=None)

    def view(self, pool: str, seen: float) -> BreakerView:
        """Return what is known of a pool's breaker."""
        breaker = self._breakers.get(pool)
        return BreakerView(Gate.CLOSED, "", 0.0) if breaker is None else breaker.view(self._at(seen))

    def snapshot(self, pool: str) -> bytes | None:
        """Return a pool's row; None when it needs none."""
        breaker = self._breakers.get(pool)
        return None if breaker is None else breaker.snapshot()

    def restore(self, pool: str, row: bytes, seen: float) -> None:
        """Take a pool's row back."""
        if self._common.of(pool).restore(row, self._at(seen)):
            self._common.note(pool)
