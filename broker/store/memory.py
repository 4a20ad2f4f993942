"""A store in this process's memory: for tests, the simulation and single-process runs. No I/O."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Mapping, Sequence

from shotbus.broker.store.base import StoreError
from shotbus.broker.store.rules import check_index_add, check_page, effective_ttl


class MemoryStore:
    """Keeps copies of values in dictionaries; its content outlives ``close`` but not the process.

    ``clock`` returns seconds; expiry follows it.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._open = False
        self._items: dict[str, tuple[bytes, float | None]] = {}
        self._expiries: list[tuple[float, str]] = []
        self._indexes: dict[str, dict[str, float]] = {}

    async def start(self) -> None:
        self._open = True

    async def close(self) -> None:
        self._open = False

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        self._tick()
        return [self._items[key][0] if key in self._items else None for key in keys]

    async def put_many(self, items: Mapping[str, bytes], *, ttl: float | None = None) -> None:
        self._tick()
        seconds = effective_ttl(ttl)
        expires = None if seconds is None else self._clock() + seconds
        for key, value in items.items():
            self._items[key] = (bytes(value), expires)
            if expires is not None:
                heapq.heappush(self._expiries, (expires, key))
        self._compact()

    async def delete_many(self, keys: Sequence[str]) -> None:
        self._tick()
        for key in keys:
            self._items.pop(key, None)

    async def index_add(self, index: str, members: Mapping[str, float], *, keep: int) -> None:
        self._tick()
        check_index_add(members.values(), keep)
        merged = {**self._indexes.get(index, {}), **members}
        self._indexes[index] = dict(_best_first(merged)[:keep])

    async def index_range(self, index: str, *, offset: int, limit: int) -> list[tuple[str, float]]:
        self._tick()
        check_page(offset, limit)
        return list(self._indexes.get(index, {}).items())[offset : offset + limit]

    async def clear(self) -> None:
        self._tick()
        self._items.clear()
        self._expiries.clear()
        self._indexes.clear()

    def _tick(self) -> None:
        """Refuse when closed, and drop what has expired."""
        if not self._open:
            raise StoreError("the memory store is not started")
        now = self._clock()
        while self._expiries and self._expiries[0][0] <= now:
            expires, key = heapq.heappop(self._expiries)
            # An item written again since has another expiry; this entry is then just stale.
            if key in self._items and self._items[key][1] == expires:
                del self._items[key]

    def _compact(self) -> None:
        """Keep the heap within twice the items: re-writing one key for ever must not grow it."""
        if len(self._expiries) > 2 * len(self._items) + 64:
            live = ((expires, key) for key, (_, expires) in self._items.items() if expires is not None)
            self._expiries = list(live)
            heapq.heapify(self._expiries)


def _best_first(members: Mapping[str, float]) -> list[tuple[str, float]]:
    """Order as a Redis sorted set read backwards: by score, then by the member's bytes."""
    return sorted(members.items(), key=lambda item: (item[1], item[0].encode()), reverse=True)
