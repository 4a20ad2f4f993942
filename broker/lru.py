"""A bounded mapping that forgets what was used longest ago. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Lru(Generic[K, V]):
    """At most ``limit`` entries, of ``budget`` weight units together; the newest entry always stays."""

    def __init__(self, limit: int, budget: int = 1 << 62) -> None:
        self._limit = limit
        self._budget = budget
        self._weight = 0
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def get(self, key: K) -> V | None:
        """Return the value and count the use, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V, weight: int = 0) -> V:
        """Keep ``value`` under ``key`` and return it."""
        self._forget(key)
        self._entries[key] = (value, weight)
        self._weight += weight
        while len(self._entries) > 1 and (len(self._entries) > self._limit or self._weight > self._budget):
            self._forget(next(iter(self._entries)))
        return value

    def _forget(self, key: K) -> None:
        _, weight = self._entries.pop(key, (None, 0))
        self._weight -= weight
