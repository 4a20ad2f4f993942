"""The writing end of the embedded log: assigns offsets and inserts rows. Runs SQL on the writer's connection.

Every step of SQLite gives the interpreter lock away, and a busy thread (the notebook that embeds the client)
gives it back only after as much as 5 ms. So rows go in as few statements as possible: a micro-batch of up to
``BLOCK`` rows is one autocommit INSERT: 200 rows beside a busy thread took 2.5 ms, a statement per row 48 ms.
"""

from __future__ import annotations

import sqlite3
from functools import cache
from typing import Any, NamedTuple

from shotbus.broker.bus.base import UnknownTopicError
from shotbus.broker.bus.sqlite_schema import OFFSET_BITS, bounds_of

BLOCK = 512
_COLUMNS = 5


class Row(NamedTuple):
    """A record as it is stored; ``tp`` is the number of its log."""

    tp: int
    key: bytes | None
    value: bytes | None
    headers: bytes | None


class Tail:
    """What the writer remembers between transactions, valid only while nobody else has written.

    A stale epoch would let a zombie commit, so the write lock itself calls :meth:`forget`.
    """

    def __init__(self) -> None:
        self._ends: dict[int, int] = {}
        self._epochs: dict[str, int] = {}
        self._pending: list[Any] = []

    def forget(self) -> None:
        """Drop everything remembered and everything not yet flushed."""
        self._ends.clear()
        self._epochs.clear()
        self._pending.clear()

    def epoch(self, connection: sqlite3.Connection, shard: str) -> int:
        """Return the number of the last fence of ``shard``; 0 when it never had one."""
        if shard not in self._epochs:
            row = connection.execute("SELECT epoch FROM fences WHERE shard = ?", (shard,)).fetchone()
            self._epochs[shard] = row[0] if row else 0
        return self._epochs[shard]

    def append(self, connection: sqlite3.Connection, rows: list[Row], now_ms: int) -> list[int]:
        """Give ``rows`` their offsets and queue them for :meth:`flush`."""
        ends = self._ends
        missing = {row.tp for row in rows} - ends.keys()
        if missing:
            self._load(connection, missing)
        offsets: list[int] = []
        for tp, key, value, headers in rows:
            offset = ends[tp]
            ends[tp] = offset + 1
            offsets.append(offset)
            self._pending += ((tp << OFFSET_BITS) | offset, now_ms, key, value, headers)
        return offsets

    def flush(self, connection: sqlite3.Connection) -> None:
        """Insert what is queued; a single statement when it is at most ``BLOCK`` rows."""
        pending, step = self._pending, BLOCK * _COLUMNS
        for start in range(0, len(pending), step):
            chunk = pending[start : start + step]
            connection.execute(*_insert(chunk))
        pending.clear()

    def _load(self, connection: sqlite3.Connection, tps: set[int]) -> None:
        found = bounds_of(connection, sorted(tps))
        if len(found) < len(tps):
            raise UnknownTopicError("the topic was removed from the log")
        self._ends.update({tp: bounds.end for tp, bounds in found.items()})


def _insert(values: list[Any]) -> tuple[str, list[Any]]:
    rows = len(values) // _COLUMNS
    size = 1 << (rows - 1).bit_length()
    if rows == size:
        return _full_statement(rows), values
    return _padded_statement(size), values + [None] * (_COLUMNS * (size - rows))


@cache
def _full_statement(rows: int) -> str:
    return f"INSERT INTO log VALUES {_tuples(rows)}"  # noqa: S608 -- only placeholders


@cache
def _padded_statement(rows: int) -> str:
    """Return an insert that skips its padding, so that ten sizes of statement serve every batch."""
    return f"INSERT INTO log SELECT * FROM (VALUES {_tuples(rows)}) WHERE column1 IS NOT NULL"  # noqa: S608


def _tuples(rows: int) -> str:
    return ",".join(["(?,?,?,?,?)"] * rows)
