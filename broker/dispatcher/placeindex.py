"""A hash index over packed things: 11 to 21 bytes an entry, where a dict of integers takes 140. Pure.

It knows no keys, only where what has a key is kept: who looks something up reads what stands at the places
that it gets and compares. A word of a table is 20 bits of the key's hash above 44 bits of place; ten more
bits choose the table. Many small tables instead of a large one, so that no insertion stands still for long
while a table of millions of words is made anew.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

_PLACE_BITS = 44
_PLACE = (1 << _PLACE_BITS) - 1
_MARK = (1 << 64 - _PLACE_BITS) - 1
_TABLES = 1_024
_TABLE_BITS = 10
# Words of a new table; a table has a power of two of them.
_FIRST = 8


class PlaceIndex:
    """Places by the keys of what stands there.

    Equal keys may be entered at several places. Python salts its hash of bytes, so that nobody can choose
    keys that all fall together; in what order places are returned shows nowhere.
    """

    __slots__ = ("_counts", "_length", "_tables")

    def __init__(self) -> None:
        self._tables: list[array[int] | None] = [None] * _TABLES
        self._counts = array("I", bytes(4 * _TABLES))
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def at(self, key: bytes) -> Iterator[int]:
        """Yield the places where a key's thing may stand: hardly ever one that is another's."""
        hashed = hash(key)
        table = self._tables[hashed & _TABLES - 1]
        if table is not None:
            mark, mask = hashed >> _TABLE_BITS & _MARK, len(table) - 1
            slot = mark & mask
            while word := table[slot]:
                if word >> _PLACE_BITS == mark:
                    yield (word & _PLACE) - 1
                slot = slot + 1 & mask

    def add(self, key: bytes, place: int) -> None:
        """Enter a key's place, below 2**44 - 1."""
        hashed = hash(key)
        number = hashed & _TABLES - 1
        table = self._tables[number]
        if table is None:
            table = self._tables[number] = array("Q", bytes(8 * _FIRST))
        elif 4 * self._counts[number] >= 3 * len(table):
            table = self._tables[number] = _doubled(table)
        _put(table, (hashed >> _TABLE_BITS & _MARK) << _PLACE_BITS | place + 1)
        self._counts[number] += 1
        self._length += 1

    def remove(self, key: bytes, place: int) -> None:
        """Take a key's place out. Raises KeyError when it is not here."""
        hashed = hash(key)
        number = hashed & _TABLES - 1
        table = self._tables[number]
        if table is None:
            raise KeyError(place)
        _take(table, (hashed >> _TABLE_BITS & _MARK) << _PLACE_BITS | place + 1)
        self._counts[number] -= 1
        self._length -= 1
        if not self._counts[number]:
            self._tables[number] = None


def _put(table: array[int], word: int) -> None:
    mask = len(table) - 1
    slot = word >> _PLACE_BITS & mask
    while table[slot]:
        slot = slot + 1 & mask
    table[slot] = word


def _doubled(table: array[int]) -> array[int]:
    larger = array("Q", bytes(16 * len(table)))
    for word in table:
        if word:
            _put(larger, word)
    return larger


def _take(table: array[int], word: int) -> None:
    """Remove a word and close the gap, as Knuth's algorithm R does: no look-up meets the dead."""
    mask = len(table) - 1
    gap = word >> _PLACE_BITS & mask
    while table[gap] != word:
        if not table[gap]:
            raise KeyError((word & _PLACE) - 1)
        gap = gap + 1 & mask
    slot = gap
    while follower := table[slot := slot + 1 & mask]:
        # It may move into the gap unless its own place lies behind that, in the order of the search.
        if (slot - (follower >> _PLACE_BITS) & mask) >= (slot - gap & mask):
            table[gap], gap = follower, slot
    table[gap] = 0
