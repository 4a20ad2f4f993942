"""Waiting jobs that have somewhere else to go, by pool: for when their pool takes no work. Pure.

An entry is here exactly while a job that had a chain, or other pools of its rule, when it entered a queue
is in that queue: so a restored shard has the same entries. 20 bytes each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from shotbus.broker.dispatcher.sortedrun import Entry, SortedRun, rank_of


class Strandable(Protocol):
    """What is needed of a job; it must say the same until it leaves its queue."""

    @property
    def pool(self) -> str: ...
    @property
    def due_ms(self) -> int: ...
    @property
    def order(self) -> int: ...


class _Shelf:
    """The jobs of one pool: those that are to be looked at, and those that could not go at the last look."""

    __slots__ = ("again", "fresh", "seen")

    def __init__(self) -> None:
        self.fresh, self.seen = SortedRun(), SortedRun()
        #: From when on, time seen, the latter are looked at again.
        self.again = 0.0


class Stranded:
    """The jobs of one shard that could go elsewhere."""

    def __init__(self) -> None:
        self._shelves: dict[str, _Shelf] = {}

    def __len__(self) -> int:
        return sum(len(one.fresh) + len(one.seen) for one in self._shelves.values())

    @property
    def pools(self) -> list[str]:
        """The pools at which such jobs wait."""
        return list(self._shelves)

    def enter(self, job: Strandable, key: int) -> None:
        """Take in a job that enters its pool's queue."""
        shelf = self._shelves.get(job.pool)
        if shelf is None:
            shelf = self._shelves[job.pool] = _Shelf()
        shelf.fresh.insert(Entry(max(0, job.due_ms), rank_of(job.order), key))

    def leave(self, job: Strandable, key: int) -> None:
        """Forget a job that leaves its queue, if it is here; its chain may be another by now."""
        shelf = self._shelves.get(job.pool)
        if shelf is None:
            return
        place = max(0, job.due_ms), rank_of(job.order), key
        if not shelf.fresh.discard(*place):
            shelf.seen.discard(*place)
        if not shelf.fresh and not shelf.seen:
            del self._shelves[job.pool]

    def look(self, pool: str, until_ms: int | None, seen: float, *, pause: float) -> Iterator[int]:
        """Go through a pool's jobs, the earliest due first; who takes one out, or leaves it, is free to.

        Args:
            pool: at which they wait.
            until_ms: those due after it, wall time, are left alone; None is all of them.
            seen: time seen.
            pause: seconds until those that stay are looked at again.

        """
        shelf = self._shelves.get(pool)
        if shelf is None:
            return
        if until_ms is None and not shelf.fresh and seen >= shelf.again:
            shelf.fresh, shelf.seen = shelf.seen, shelf.fresh
        while (entry := shelf.fresh.first()) is not None and (until_ms is None or entry.first <= until_ms):
            shelf.again = seen + pause
            shelf.seen.insert(shelf.fresh.pop())
            yield entry.key
