"""Where packed things lie: rows of one width in numbered slots, and values that many rows share. Pure."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Hashable

from shotbus.broker.dispatcher.placeindex import PlaceIndex

#: Rows a block; a block without a row gives its memory back.
BLOCK = 1_024
_COUNT = struct.Struct("<I")


class Slab:
    """Rows of ``width`` bytes in slots numbered from 0; a row that is taken again is as it was given back."""

    __slots__ = ("_blocks", "_free", "_spare", "_top", "_used", "width")

    def __init__(self, width: int) -> None:
        self.width = width
        #: An empty block, kept: a slab whose rows come and go would else ask for a block each time.
        self._spare: bytearray | None = None
        self._clear()

    def _clear(self) -> None:
        self._blocks: list[bytearray | None] = []
        self._used = array("H")
        self._free = array("I")
        self._top = 0

    def __len__(self) -> int:
        return self._top - len(self._free)

    def take(self) -> int:
        """Return a free slot; the one that was freed last, else a new one."""
        slot = self._free.pop() if self._free else self._top
        number = slot // BLOCK
        if slot == self._top:
            self._top += 1
            if number == len(self._blocks):
                self._blocks.append(None)
                self._used.append(0)
        if self._blocks[number] is None:
            self._blocks[number] = self._spare or bytearray(self.width * BLOCK)
            self._spare = None
        self._used[number] += 1
        return slot

    def give(self, slot: int) -> None:
        """Free a slot."""
        number = slot // BLOCK
        self._free.append(slot)
        self._used[number] -= 1
        if not self._used[number]:
            self._spare, self._blocks[number] = self._blocks[number], None
            if len(self._free) == self._top:
                self._clear()

    def place(self, slot: int) -> tuple[bytearray, int]:
        """Return the block of a taken slot and where in it the row begins."""
        number, row = divmod(slot, BLOCK)
        block = self._blocks[number]
        assert block is not None, "the slot is free"
        return block, row * self.width

    def blocks(self) -> list[tuple[int, bytearray]]:
        """Return the blocks that have rows, each with its first slot."""
        return [(number * BLOCK, block) for number, block in enumerate(self._blocks) if block is not None]

    def has_block(self, number: int) -> bool:
        """Tell whether a block has rows."""
        return number < len(self._blocks) and self._blocks[number] is not None

    @property
    def top(self) -> int:
        """How many blocks there are, with those that have no row."""
        return len(self._blocks)

    def read(self, slot: int) -> bytes:
        """Return a row."""
        block, start = self.place(slot)
        return bytes(block[start : start + self.width])


class Shared:
    """Values that rows refer to by number, counted, so that one goes with its last row. Number 0 is none."""

    __slots__ = ("_counts", "_free", "_numbers", "_values")

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._values: list[Hashable] = [None]
        self._counts = array("I", [0])
        self._free = array("I")

    def __len__(self) -> int:
        return len(self._numbers)

    def take(self, value: Hashable) -> int:
        """Count one more row for a value and return its number; 0 for what is empty."""
        if not value:
            return 0
        number = self._numbers.get(value)
        if number is None:
            number = self._enter(value)
        self._counts[number] += 1
        return number

    def _enter(self, value: Hashable) -> int:
        if self._free:
            number = self._free.pop()
            self._values[number] = value
        else:
            number = len(self._values)
            self._values.append(value)
            self._counts.append(0)
        self._numbers[value] = number
        return number

    def give(self, number: int) -> None:
        """Count one row less."""
        if not number:
            return
        self._counts[number] -= 1
        if not self._counts[number]:
            del self._numbers[self._values[number]]
            self._values[number] = None
            self._free.append(number)
            if not self._numbers:
                self._clear()

    def value(self, number: int) -> Hashable:
        """Return a value by its number."""
        return self._values[number]


class Rare:
    """Byte strings of one length that only some rows have, each its own. Number 0 is none."""

    __slots__ = ("_slab",)

    def __init__(self, width: int) -> None:
        self._slab = Slab(width)

    def __len__(self) -> int:
        return len(self._slab)

    def take(self, value: bytes) -> int:
        """Keep a value and return its number; 0 for an empty one."""
        if not value:
            return 0
        slot = self._slab.take()
        block, start = self._slab.place(slot)
        block[start : start + self._slab.width] = value
        return slot + 1

    def give(self, number: int) -> None:
        """Let go of a value."""
        if number:
            self._slab.give(number - 1)

    def value(self, number: int) -> bytes:
        """Return a value by its number."""
        return self._slab.read(number - 1) if number else b""


class SharedBytes:
    """Byte strings of one length that rows share or have to themselves: 55 bytes each, however many.

    As :class:`Shared`, which takes 200 for each different value. Number 0 is none.
    """

    __slots__ = ("_index", "_last", "_slab", "_width")

    def __init__(self, width: int) -> None:
        self._width = width
        #: Each value is followed by how many rows have it.
        self._slab = Slab(width + _COUNT.size)
        self._index = PlaceIndex()
        #: Neighbours often have the same.
        self._last = (b"", 0)

    def __len__(self) -> int:
        return len(self._slab)

    def take(self, value: bytes) -> int:
        """Count one more row for a value and return its number; 0 for an empty one."""
        if not value:
            return 0
        last, number = self._last
        if last != value:
            number = self._number(value) or self._enter(value)
            self._last = (value, number)
        self._add(number, 1)
        return number

    def _number(self, value: bytes) -> int:
        for slot in self._index.at(value):
            block, start = self._slab.place(slot)
            if block.startswith(value, start):
                return slot + 1
        return 0

    def _enter(self, value: bytes) -> int:
        slot = self._slab.take()
        block, start = self._slab.place(slot)
        block[start : start + self._slab.width] = value + bytes(_COUNT.size)
        self._index.add(value, slot)
        return slot + 1

    def _add(self, number: int, rows: int) -> int:
        block, start = self._slab.place(number - 1)
        count: int = _COUNT.unpack_from(block, start + self._width)[0] + rows
        _COUNT.pack_into(block, start + self._width, count)
        return count

    def give(self, number: int) -> None:
        """Count one row less."""
        if number and not self._add(number, -1):
            self._index.remove(self.value(number), number - 1)
            self._slab.give(number - 1)
            self._last = (b"", 0)

    def value(self, number: int) -> bytes:
        """Return a value by its number."""
        return self._slab.read(number - 1)[: self._width] if number else b""
