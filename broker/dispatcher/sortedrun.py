"""Sorted entries in packed arrays: 20 bytes each, 28 where costs differ; a heap of tuples takes 200. Pure.

A run is a list of blocks of at most :data:`BLOCK` entries, each block one array a column, sorted by the
first two columns. What comes in order, the usual case, is appended; anything else is found by bisection of
the block bounds and of one block, then shifted in. So nothing is ever rebuilt at once, whatever the size,
removal is exact instead of lazy, and the place of an entry is known.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

BLOCK = 512
#: Bits of the place on the bus in a job's order of admission, below its time of acceptance.
PLACE_BITS = 20


class Entry(NamedTuple):
    """One entry: sorted by ``first``, then ``second`` (64 bits unsigned each); ``key`` has 32."""

    first: int
    second: int
    key: int
    cost: float = 0.0


def rank_of(order: int) -> int:
    """Return a job's order of admission in 64 bits: its acceptance in milliseconds, then its place."""
    accepted_us, place = order >> PLACE_BITS, order & ((1 << PLACE_BITS) - 1)
    return (max(0, accepted_us) // 1000 << PLACE_BITS) + place


class _Block:
    """Entries from ``start`` on; what is before has been taken."""

    __slots__ = ("columns", "cost", "each", "start")

    def __init__(
        self, columns: tuple[array[int], array[int], array[int], array[float]], each: float = 0.0
    ) -> None:
        self.columns = columns
        self.start = 0
        #: What every entry costs, as long as the column of costs is empty: jobs of one run cost the same.
        self.each = each
        self.cost = self.cost_of(0, len(columns[0]))

    def __len__(self) -> int:
        return len(self.columns[0]) - self.start

    def entry(self, at: int) -> Entry:
        firsts, seconds, keys, costs = self.columns
        return Entry(firsts[at], seconds[at], keys[at], costs[at] if costs else self.each)

    def cost_of(self, start: int, end: int) -> float:
        """Return the sum of some entries' costs."""
        costs = self.columns[3]
        return sum(costs[start:end]) if costs else self.each * (end - start)

    def place(self, first: int, second: int) -> int:
        """Return the first place whose entry is not smaller."""
        firsts, seconds, _, _ = self.columns
        low = bisect_left(firsts, first, self.start)
        if low == len(firsts) or firsts[low] != first:
            return low
        return bisect_left(seconds, second, low, bisect_right(firsts, first, low))

    def behind(self, first: int, second: int) -> int:
        """Return the first place whose entry is greater: equal ones stay in the order in which they came."""
        firsts, seconds, _, _ = self.columns
        end = bisect_right(firsts, first, self.start)
        if end == self.start or firsts[end - 1] != first:
            return end
        return bisect_right(seconds, second, bisect_left(firsts, first, self.start, end), end)

    def find(self, first: int, second: int, key: int) -> int | None:
        """Return where an entry stands, None when it is not here."""
        firsts, seconds, keys, _ = self.columns
        at = self.place(first, second)
        while at < len(firsts) and firsts[at] == first and seconds[at] == second:
            if keys[at] == key:
                return at
            at += 1
        return None

    def append(self, entry: Entry) -> bool:
        """Add an entry behind the last one if it belongs there and there is room: the usual case, quickly."""
        firsts, seconds, keys, costs = self.columns
        first, second, key, cost = entry
        length = len(firsts)
        if (
            length >= BLOCK
            or not length
            or first < firsts[-1]
            or (first == firsts[-1] and second < seconds[-1])
        ):
            return False
        firsts.append(first)
        seconds.append(second)
        keys.append(key)
        if costs or cost != self.each:
            self._price(length, cost)
        self.cost += cost
        return True

    def insert(self, at: int, entry: Entry) -> None:
        firsts, seconds, keys, costs = self.columns
        first, second, key, cost = entry
        if not firsts:
            self.each = cost
        firsts.insert(at, first)
        seconds.insert(at, second)
        keys.insert(at, key)
        if costs or cost != self.each:
            self._price(at, cost)
        self.cost += cost

    def _price(self, at: int, cost: float) -> None:
        """Note what a new entry costs in the column, because not all cost the same."""
        firsts, _, _, costs = self.columns
        if not costs:
            costs.extend([self.each] * (len(firsts) - 1))
        costs.insert(at, cost)

    def take(self, at: int) -> Entry:
        """Remove an entry; the first one only by a mark, so that nothing is shifted."""
        entry = self.entry(at)
        if at == self.start:
            self.start += 1
        else:
            for column in self.columns:
                del column[at : at + 1]
        self.cost = self.cost - entry.cost if len(self) else 0.0
        return entry

    def compact(self) -> None:
        """Let go of what has been taken."""
        for column in self.columns:
            del column[: self.start]
        self.start = 0

    def split(self) -> _Block:
        """Give away the upper half."""
        self.compact()
        middle = len(self) // 2
        firsts, seconds, keys, costs = self.columns
        upper = _Block((firsts[middle:], seconds[middle:], keys[middle:], costs[middle:]), self.each)
        self.columns = (firsts[:middle], seconds[:middle], keys[:middle], costs[:middle])
        self.cost = self.cost_of(0, middle)
        return upper


def _empty() -> _Block:
    return _Block((array("Q"), array("Q"), array("I"), array("d")))


class SortedRun:
    """Entries in order; several may be equal in both sort columns and differ by key."""

    __slots__ = ("_blocks", "_bounds", "_length", "cost")

    def __init__(self) -> None:
        #: Sum of the costs.
        self.cost = 0.0
        self._blocks: list[_Block] = []
        #: No entry of a block, the last one excepted, is greater than its bound.
        self._bounds: list[tuple[int, int]] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def insert(self, entry: Entry) -> None:
        """Add an entry: an append when none is greater, else a shift inside one block."""
        if not self._blocks:
            self._blocks.append(_empty())
        self._length += 1
        self.cost += entry.cost
        block = self._blocks[-1]
        if block.append(entry):
            return
        number = bisect_right(self._bounds, entry[:2])
        block = self._blocks[number]
        if len(block.columns[0]) >= BLOCK:
            block = self._make_room(number, entry)
        block.insert(block.behind(entry.first, entry.second), entry)

    def _make_room(self, number: int, entry: Entry) -> _Block:
        """Return the block for an entry whose block is full."""
        block = self._blocks[number]
        if 2 * block.start >= BLOCK:
            block.compact()
            return block
        last = block.entry(len(block.columns[0]) - 1)[:2]
        if number == len(self._bounds) and entry[:2] >= last:
            # What comes in order fills its blocks; halves would stay half empty for ever.
            self._bounds.append(last)
            self._blocks.append(_empty())
            return self._blocks[-1]
        upper = block.split()
        self._blocks.insert(number + 1, upper)
        bound = block.entry(len(block) - 1)[:2]
        self._bounds.insert(number, bound)
        return block if entry[:2] < bound else upper

    def first(self) -> Entry | None:
        """Return the smallest entry."""
        return self._blocks[0].entry(self._blocks[0].start) if self._blocks else None

    def pop(self) -> Entry:
        """Take the smallest entry. Raises IndexError on an empty run."""
        block = self._blocks[0]
        return self._take(0, block.start)

    def remove(self, first: int, second: int, key: int) -> Entry:
        """Take an entry out. Raises KeyError when it is not here."""
        return self._take(*self._find(first, second, key))

    def discard(self, first: int, second: int, key: int) -> bool:
        """Take an entry out if it is here."""
        found = (first, second, key) in self
        if found:
            self.remove(first, second, key)
        return found

    def __contains__(self, entry: tuple[int, int, int]) -> bool:
        try:
            self._find(*entry)
        except KeyError:
            return False
        return True

    def ahead(self, first: int, second: int, key: int) -> tuple[int, float]:
        """Return (entries, cost) before an entry. Raises KeyError when it is not here."""
        number, at = self._find(first, second, key)
        block = self._blocks[number]
        entries = sum(len(one) for one in self._blocks[:number]) + at - block.start
        cost = sum(one.cost for one in self._blocks[:number]) + block.cost_of(block.start, at)
        return entries, cost

    def __iter__(self) -> Iterator[int]:
        """Yield the keys in order."""
        for block in self._blocks:
            yield from block.columns[2][block.start :]

    def _find(self, first: int, second: int, key: int) -> tuple[int, int]:
        # Equal entries may go on in the blocks behind.
        for number in range(bisect_left(self._bounds, (first, second)), len(self._blocks)):
            block = self._blocks[number]
            at = block.find(first, second, key)
            if at is not None:
                return number, at
            if block.entry(len(block.columns[0]) - 1)[:2] > (first, second):
                break
        raise KeyError(key)

    def _take(self, number: int, at: int) -> Entry:
        block = self._blocks[number]
        entry = block.take(at)
        self._length -= 1
        self.cost = self.cost - entry.cost if self._length else 0.0
        if not len(block):
            del self._blocks[number]
            if self._bounds:
                del self._bounds[min(number, len(self._bounds) - 1)]
        return entry
