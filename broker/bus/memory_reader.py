"""Reads the logs of a memory cluster from explicit offsets, committed records only. No I/O."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from shotbus.broker.bus.base import BusError, Record, TopicPartition
from shotbus.broker.bus.memory_group import GroupState
from shotbus.broker.bus.memory_log import Log
from shotbus.broker.bus.news import Listener


class MemoryReader:
    """A ``Reader`` of committed records."""

    def __init__(
        self,
        logs: Mapping[TopicPartition, Log],
        positions: Mapping[TopicPartition, int],
        listener: Listener[TopicPartition | GroupState],
    ) -> None:
        self._logs = dict(logs)
        self._positions = dict(positions)
        self._listener = listener
        self._turn = 0
        self._closed = False

    async def poll(
        self, *, max_records: int, timeout: float, only: Sequence[TopicPartition] | None = None
    ) -> list[Record]:
        """Return up to ``max_records`` records; see the seam."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        names = list(self._logs) if only is None else [self._known(name) for name in only]
        # A consumer that always finds records must still let the other tasks run.
        await asyncio.sleep(0)
        while True:
            self._listener.clear()
            records = self._read(names, max_records)
            left = deadline - loop.time()
            if records or left <= 0:
                return records
            await self._listener.wait(left)

    def position(self, partition: TopicPartition) -> int:
        """Return the offset from which the next poll reads."""
        return self._positions[self._known(partition)]

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read ``partition`` from ``offset`` on."""
        self._positions[self._known(partition)] = offset
        self._listener.wake()

    async def close(self) -> None:
        """Stop; a poll that waits fails."""
        self.stop()

    def stop(self) -> None:
        """Close without waiting."""
        self._closed = True
        self._listener.close()

    def _known(self, partition: TopicPartition) -> TopicPartition:
        if partition not in self._logs:
            raise BusError(f"this reader does not read {partition.topic}[{partition.partition}]")
        return partition

    def _read(self, names: list[TopicPartition], max_records: int) -> list[Record]:
        if self._closed:
            raise BusError("the reader is closed")
        # Most polls find nothing: who is at the end has nothing to read, and nothing can be missing there.
        behind = [name for name in names if self._positions[name] != self._logs[name].end]
        for name in behind:
            self._logs[name].check(self._positions[name])  # before anything is read, or it would be lost
        self._turn += 1
        start = self._turn % len(behind) if behind else 0
        records: list[Record] = []
        for name in behind[start:] + behind[:start]:
            self._read_one(name, max_records - len(records), records)
        return records

    def _read_one(self, name: TopicPartition, limit: int, records: list[Record]) -> None:
        log, position = self._logs[name], self._positions[name]
        found = list(log.read(position, limit))
        records.extend(
            Record(*name, offset, record.key, record.value, record.headers, record.timestamp_ms)
            for offset, record in found
        )
        if len(found) < limit:
            # What lies between the last record and the stable end is markers and what was aborted.
            self._positions[name] = max(position, log.stable)
        elif found:
            self._positions[name] = found[-1][0] + 1
