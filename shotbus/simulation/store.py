"""The simulation's store: emptied, slow, full or dead for a while. Pure."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from shotbus.broker.store.base import StoreError
from shotbus.broker.store.memory import MemoryStore


@dataclass(frozen=True, slots=True, eq=False)
class Mood:
    """What is wrong with the store: seconds a call takes longer, and what it refuses."""

    delay: float = 0.0
    full: bool = False
    dead: bool = False


class MoodyStore(MemoryStore):
    """A memory store that does what its moods say; ``bites`` counts the calls that felt it."""

    def __init__(self, clock: Callable[[], float], bites: Counter[str]) -> None:
        super().__init__(clock)
        self._moods: dict[Mood, None] = {}
        self._bites = bites

    async def suffer(self, mood: Mood, seconds: float) -> None:
        """Be like that for a while."""
        self._moods[mood] = None
        await asyncio.sleep(seconds)
        del self._moods[mood]

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        await self._feel(writes=False)
        return await super().get_many(keys)

    async def put_many(self, items: Mapping[str, bytes], *, ttl: float | None = None) -> None:
        await self._feel(writes=True)
        await super().put_many(items, ttl=ttl)

    async def index_add(self, index: str, members: Mapping[str, float], *, keep: int) -> None:
        await self._feel(writes=True)
        await super().index_add(index, members, keep=keep)

    async def _feel(self, *, writes: bool) -> None:
        for mood in list(self._moods):
            if mood.delay:
                self._bites["slow_store"] += 1
                await asyncio.sleep(mood.delay)
            if mood.dead:
                self._bites["dead_store"] += 1
                raise StoreError("the store does not answer")
            if mood.full and writes:
                self._bites["full_store"] += 1
                raise StoreError("OOM command not allowed when used memory > 'maxmemory'")
