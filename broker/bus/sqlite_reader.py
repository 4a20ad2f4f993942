"""Reading the embedded log: short range scans on a connection of the event loop. Does disk I/O.

A poll that finds nothing new costs one ``PRAGMA data_version``, a microsecond or two. Waiting is for news
from the writer thread or from other processes' bells, with a slow look in case a bell was lost.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence

from shotbus.broker.bus.base import BusError, OffsetGapError, Record, TopicPartition
from shotbus.broker.bus.news import News
from shotbus.broker.bus.sqlite_schema import OFFSET_BITS, OFFSET_MASK, Bounds, bounds_of, unpack_headers

FALLBACK_S = 0.5
_POLL_BYTES = 16 * 1024 * 1024
_SCAN = "SELECT id, ts, key, value, headers FROM log WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"


class SqliteReader:
    """A ``Reader``. ``logs`` gives the number of each partition's log."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        news: News[int],
        *,
        logs: Mapping[TopicPartition, int],
        positions: Mapping[TopicPartition, int],
        on_close: Callable[[SqliteReader], None],
    ) -> None:
        self._connection = connection
        self._logs = dict(logs)
        self._names = {tp: name for name, tp in logs.items()}
        self._positions = {logs[name]: position for name, position in positions.items()}
        self._bounds: dict[int, Bounds] = {}
        self._version = -1
        self._turn = 0
        self._closed = False
        self._on_close = on_close
        self._listener = news.listen(frozenset(self._names))

    async def poll(
        self, *, max_records: int, timeout: float, only: Sequence[TopicPartition] | None = None
    ) -> list[Record]:
        """Return up to ``max_records`` records; see the seam."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        tps = list(self._names) if only is None else [self._log(name) for name in only]
        # A consumer that always finds records must still let the other tasks run.
        await asyncio.sleep(0)
        while True:
            self._listener.clear()
            records = self._read(tps, max_records)
            left = deadline - loop.time()
            if records or left <= 0:
                return records
            await self._listener.wait(min(left, FALLBACK_S))

    def position(self, partition: TopicPartition) -> int:
        """Return the offset from which the next poll reads."""
        return self._positions[self._log(partition)]

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read ``partition`` from ``offset`` on."""
        self._positions[self._log(partition)] = offset
        self._listener.wake()

    async def close(self) -> None:
        """Stop; a poll that waits fails."""
        if not self._closed:
            self._closed = True
            self._listener.close()
            self._on_close(self)

    def _log(self, partition: TopicPartition) -> int:
        try:
            return self._logs[partition]
        except KeyError:
            raise BusError(f"this reader does not read {partition.topic}[{partition.partition}]") from None

    def _read(self, tps: list[int], max_records: int) -> list[Record]:
        if self._closed:
            raise BusError("the reader is closed")
        try:
            # The version is read before the snapshot is taken: at worst one look too many follows.
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            if version == self._version and not any(map(self._is_behind, tps)):
                return []
            return self._read_snapshot(tps, max_records, version)
        except sqlite3.Error as error:
            raise BusError(f"the log could not be read: {error}") from error

    def _read_snapshot(self, tps: list[int], max_records: int, version: int) -> list[Record]:
        self._connection.execute("BEGIN")
        try:
            if version != self._version:
                self._bounds = bounds_of(self._connection, list(self._names))
                self._version = version
            return self._scan_all(tps, max_records)
        finally:
            self._connection.execute("COMMIT")

    def _scan_all(self, tps: list[int], max_records: int) -> list[Record]:
        """Read from all partitions that have something, each call beginning with another one."""
        behind = [tp for tp in tps if self._is_behind(tp)]
        for tp in behind:
            self._check(tp)
        self._turn += 1
        start = self._turn % len(behind) if behind else 0
        records: list[Record] = []
        size = 0
        for tp in behind[start:] + behind[:start]:
            if len(records) < max_records and size < _POLL_BYTES:
                size += self._scan(tp, max_records, _POLL_BYTES - size, records)
        return records

    def _is_behind(self, tp: int) -> bool:
        return tp not in self._bounds or self._positions[tp] != self._bounds[tp].end

    def _check(self, tp: int) -> None:
        begin, end = self._bounds[tp]
        position = self._positions[tp]
        if not begin <= position <= end:
            topic, partition = self._names[tp]
            raise OffsetGapError(f"offset {position} of {topic}[{partition}] is outside [{begin}, {end})")

    def _scan(self, tp: int, max_records: int, max_bytes: int, records: list[Record]) -> int:
        """Append the next records of one log to ``records``; returns how many bytes they hold."""
        topic, partition = self._names[tp]
        base, end = tp << OFFSET_BITS, self._bounds[tp].end
        limit = max_records - len(records)
        size = count = 0
        rows = self._connection.execute(_SCAN, (base + self._positions[tp], base + end, limit))
        for row, ts, key, value, headers in rows:
            offset = row & OFFSET_MASK
            packed = () if headers is None else unpack_headers(headers)
            records.append(Record(topic, partition, offset, key, value, packed, ts))
            count += 1
            size += len(value or b"")
            if size >= max_bytes:
                self._positions[tp] = offset + 1
                rows.close()
                return size
        # Fewer than asked for: what lies between the last one and the end has been compacted away.
        self._positions[tp] = end if count < limit else records[-1].offset + 1
        return size
