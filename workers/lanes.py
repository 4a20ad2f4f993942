"""Positions of one partition of work: what was read, what is dealt with, where a successor resumes. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple


class Lane:
    """One held partition.

    Bundles may be dealt with out of order; :attr:`position` only passes a bundle when all before it are
    dealt with, so a successor never misses one. A lane that was lost stays harmless: nobody commits it.
    """

    def __init__(self, partition: int, offset: int) -> None:
        self.partition = partition
        self.next_read = offset
        self.committed = offset
        self._open: dict[int, bool] = {}

    def read(self, offset: int) -> None:
        """Note that the record at ``offset`` was read; offsets rise."""
        self.next_read = offset + 1
        self._open[offset] = False

    def done(self, offset: int) -> None:
        """Note that the record at ``offset`` needs no successor."""
        if offset in self._open:
            self._open[offset] = True
        while self._open and self._open[first := next(iter(self._open))]:
            del self._open[first]

    @property
    def position(self) -> int:
        """The offset from which a successor must read."""
        return next(iter(self._open), self.next_read)


class Taken(NamedTuple):
    """A bundle in hand."""

    bundle: dict[str, Any]
    raw: bytes
    lane: Lane
    offset: int

    def done(self) -> None:
        """Let the group's position pass this bundle."""
        self.lane.done(self.offset)
