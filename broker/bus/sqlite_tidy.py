"""Housekeeping of the embedded log: compaction, deletion, retention. Runs SQL on the writer's connection.

Appending is the same for all topics; what was superseded or trimmed is removed later, in bites of a few
milliseconds with pauses between them. Nothing that may be read changes by a bite, except that superseded
records of a compacted topic disappear.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable

from shotbus.broker.bus.sqlite_schema import OFFSET_BITS, bounds_of, offset_at

TOMBSTONE_MS = 24 * 3_600_000
ROUND_S = 60.0
_IDLE_S = 1.0  # until the last few superseded rows go too
_DIRTY_SOON = 1_000
_DIRTY_NOW = 20_000
_PAUSE_S = 0.02
_SHORT_PAUSE_S = 0.005
_BITE_S = 0.004
_COMPACT_WINDOW = 500
_SWEEP_WINDOW = 500


class Tidier:
    """Knows what there is to tidy and when; one per writer thread."""

    def __init__(self) -> None:
        self._dirty: dict[int, int] = {}
        self._trash: dict[int, None] = {}
        self._next_round = 0.0

    def appended(self, compacted: Iterable[int]) -> None:
        """Note one new row in each of these compacted logs (repeated per row)."""
        for tp in compacted:
            self._dirty[tp] = self._dirty.get(tp, 0) + 1

    def trimmed(self, tps: Iterable[int]) -> None:
        """Note that rows of these logs await deletion."""
        self._trash.update(dict.fromkeys(tps))

    def patience(self, now: float) -> float:
        """Return for how many seconds nothing needs to be done."""
        backlog = max(self._dirty.values(), default=0)
        if self._trash or backlog >= _DIRTY_SOON:
            return _PAUSE_S if backlog < _DIRTY_NOW else _SHORT_PAUSE_S
        return _IDLE_S if self._dirty else max(0.0, self._next_round - now)

    def bite(self, connection: sqlite3.Connection, now: float, wall_ms: int) -> None:
        """Do a few milliseconds of work inside the caller's transaction."""
        if now >= self._next_round:
            self._next_round = now + ROUND_S
            self._round(connection, wall_ms)
        elif self._trash:
            self._sweep(connection, next(iter(self._trash)))
        elif self._dirty:
            self._compact(connection, max(self._dirty, key=self._dirty.__getitem__))

    def give_up_for_now(self, now: float) -> None:
        """After an error: forget the backlog, the next round finds it again."""
        self._dirty.clear()
        self._trash.clear()
        self._next_round = now + ROUND_S

    def _round(self, connection: sqlite3.Connection, wall_ms: int) -> None:
        expire(connection, wall_ms)
        bury_tombstones(connection, wall_ms - TOMBSTONE_MS)
        trash = connection.execute("SELECT tp FROM partitions WHERE swept < begin").fetchall()
        self.trimmed(tp for (tp,) in trash)
        for tp, cleaned in _compacted_logs(connection):
            behind = bounds_of(connection, [tp])[tp].end - cleaned
            if behind > 0:
                self._dirty[tp] = behind

    def _sweep(self, connection: sqlite3.Connection, tp: int) -> None:
        stop = time.monotonic() + _BITE_S
        while time.monotonic() < stop:
            if not sweep_window(connection, tp):
                del self._trash[tp]
                return

    def _compact(self, connection: sqlite3.Connection, tp: int) -> None:
        stop = time.monotonic() + _BITE_S
        while time.monotonic() < stop:
            if not compact_window(connection, tp):
                del self._dirty[tp]
                return
            self._dirty[tp] -= _COMPACT_WINDOW


def _compacted_logs(connection: sqlite3.Connection) -> list[tuple[int, int]]:
    rows: list[tuple[int, int]] = connection.execute(
        """SELECT tp, cleaned FROM partitions JOIN topics ON topics.name = partitions.topic
           WHERE cleanup LIKE 'compact%'"""
    ).fetchall()
    return rows


def compact_window(connection: sqlite3.Connection, tp: int) -> bool:
    """Drop what the next window of new rows supersedes; returns whether there may be more."""
    (cleaned,) = connection.execute("SELECT cleaned FROM partitions WHERE tp = ?", (tp,)).fetchone()
    end = bounds_of(connection, [tp])[tp].end
    stop = min(end, cleaned + _COMPACT_WINDOW)
    window = ((tp << OFFSET_BITS) + cleaned, (tp << OFFSET_BITS) + stop)
    connection.execute(
        """DELETE FROM log WHERE id >= ?1 AND id < ?2 AND id NOT IN (
               SELECT max(id) FROM log WHERE id >= ?1 AND id < ?2 GROUP BY key)""",
        window,
    )
    connection.execute(
        """DELETE FROM log WHERE id IN (
               SELECT latest.id FROM log AS new CROSS JOIN latest ON latest.tp = ?3 AND latest.key = new.key
               WHERE new.id >= ?1 AND new.id < ?2)""",
        (*window, tp),
    )
    connection.execute(
        """INSERT INTO latest (tp, key, id, dead_ms)
               SELECT ?3, key, id, CASE WHEN value IS NULL THEN ts END FROM log
               WHERE id >= ?1 AND id < ?2 AND key IS NOT NULL
           ON CONFLICT (tp, key) DO UPDATE SET id = excluded.id, dead_ms = excluded.dead_ms""",
        (*window, tp),
    )
    connection.execute("UPDATE partitions SET cleaned = ? WHERE tp = ?", (stop, tp))
    return bool(stop < end)


def sweep_window(connection: sqlite3.Connection, tp: int) -> bool:
    """Delete the next few rows below the log's begin; returns whether there may be more."""
    begin, swept = connection.execute("SELECT begin, swept FROM partitions WHERE tp = ?", (tp,)).fetchone()
    stop = min(begin, swept + _SWEEP_WINDOW)
    base = tp << OFFSET_BITS
    window = (base + swept, base + stop)
    connection.execute(
        """DELETE FROM latest WHERE tp = ?3 AND id < ?2 AND key IN (
               SELECT key FROM log WHERE id >= ?1 AND id < ?2)""",
        (*window, tp),
    )
    connection.execute("DELETE FROM log WHERE id >= ? AND id < ?", window)
    connection.execute("UPDATE partitions SET swept = ? WHERE tp = ?", (stop, tp))
    return bool(stop < begin)


def move_begin(connection: sqlite3.Connection, tp: int, before: int) -> bool:
    """Declare the offsets below ``before`` (at most the end) deleted; returns whether that is a change."""
    begin, end = bounds_of(connection, [tp])[tp]
    target = min(before, end)
    if target <= begin:
        return False
    connection.execute(
        "UPDATE partitions SET begin = ?, floor = ?, cleaned = max(cleaned, ?) WHERE tp = ?",
        (target, end, target, tp),
    )
    return True


def expire(connection: sqlite3.Connection, wall_ms: int) -> None:
    """Move the begin of every log with a retention time past its expired records."""
    rows = connection.execute(
        """SELECT tp, retention_ms FROM partitions JOIN topics ON topics.name = partitions.topic
           WHERE retention_ms IS NOT NULL AND cleanup LIKE '%delete'"""
    ).fetchall()
    for tp, retention_ms in rows:
        move_begin(connection, tp, offset_at(connection, tp, wall_ms - retention_ms))


def bury_tombstones(connection: sqlite3.Connection, dead_before_ms: int) -> None:
    """Delete tombstones that every reader has had time to see."""
    sql = "SELECT DISTINCT tp FROM latest WHERE dead_ms < ?"
    for (tp,) in connection.execute(sql, (dead_before_ms,)).fetchall():
        # The last row may be a tombstone: the end must not fall back with it.
        end = bounds_of(connection, [tp])[tp].end
        connection.execute("UPDATE partitions SET floor = ? WHERE tp = ?", (end, tp))
    connection.execute(
        "DELETE FROM log WHERE id IN (SELECT id FROM latest WHERE dead_ms < ?)", (dead_before_ms,)
    )
    connection.execute("DELETE FROM latest WHERE dead_ms < ?", (dead_before_ms,))
