"""Counts of the live jobs that answer at once what a scan would have to find. Pure."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

# Buckets that are empty may lie in the heap this often beside the others before it is rebuilt.
_SLACK = 64
K = TypeVar("K", bound=Hashable)


class Tally(Generic[K]):
    """How many there are of each; what has none takes no memory."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[K, int] = {}

    def add(self, key: K) -> None:
        """Count one more."""
        self._counts[key] = self._counts.get(key, 0) + 1

    def discard(self, key: K) -> None:
        """Count one less."""
        left = self._counts[key] - 1
        if left:
            self._counts[key] = left
        else:
            del self._counts[key]

    def __getitem__(self, key: K) -> int:
        return self._counts.get(key, 0)

    def __len__(self) -> int:
        return len(self._counts)

    def items(self) -> list[tuple[K, int]]:
        """Return what there is with its count."""
        return list(self._counts.items())


class Least:
    """The least of many numbers, to a resolution of ``2**bits``: counts a bucket instead of the numbers."""

    __slots__ = ("_bits", "_counts", "_heap")

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._counts: dict[int, int] = {}
        self._heap: list[int] = []

    def add(self, number: int) -> None:
        """Count a number."""
        bucket = number >> self._bits
        count = self._counts.get(bucket, 0)
        self._counts[bucket] = count + 1
        if not count:
            heapq.heappush(self._heap, bucket)
            if len(self._heap) > 2 * len(self._counts) + _SLACK:
                self._heap = sorted(self._counts)

    def discard(self, number: int) -> None:
        """Count it out."""
        bucket = number >> self._bits
        left = self._counts[bucket] - 1
        if left:
            self._counts[bucket] = left
        else:
            del self._counts[bucket]

    def least(self) -> int | None:
        """Return where the bucket of the least number begins, None without one."""
        while self._heap and self._heap[0] not in self._counts:
            heapq.heappop(self._heap)
        return self._heap[0] << self._bits if self._heap else None

    def __len__(self) -> int:
        return len(self._counts)


class Members:
    """Which keys belong to which group: chained lists in two arrays, 8 bytes a key."""

    __slots__ = ("_after", "_before", "_groups")

    def __init__(self) -> None:
        # Chains hold key + 1; 0 ends one.
        self._after, self._before = array("I"), array("I")
        #: First key (+ 1) and count by group.
        self._groups: dict[str, tuple[int, int]] = {}

    def add(self, group: str, key: int) -> None:
        """Put a key into a group; it may be in none."""
        if key >= len(self._after):
            # Room for a quarter more: growing by one each time would copy, growing by double would waste.
            more = bytes(4 * (key + 1 - len(self._after) + len(self._after) // 4))
            self._after.frombytes(more)
            self._before.frombytes(more)
        first, count = self._groups.get(group, (0, 0))
        self._after[key], self._before[key] = first, 0
        if first:
            self._before[first - 1] = key + 1
        self._groups[group] = key + 1, count + 1

    def discard(self, group: str, key: int) -> None:
        """Take a key out of its group."""
        first, count = self._groups[group]
        after, before = self._after[key], self._before[key]
        if after:
            self._before[after - 1] = before
        if before:
            self._after[before - 1] = after
        else:
            first = after
        if first:
            self._groups[group] = first, count - 1
        else:
            del self._groups[group]
            if not self._groups:
                self._after, self._before = array("I"), array("I")

    def count(self, group: str) -> int:
        """Return how many a group has."""
        return self._groups.get(group, (0, 0))[1]

    def of(self, group: str) -> Iterator[int]:
        """Yield the keys of a group, the last first; it must not change meanwhile."""
        link, _ = self._groups.get(group, (0, 0))
        while link:
            yield link - 1
            link = self._after[link - 1]
