"""Requests by reference: a bounded cache over the bus. Reads the bus, never writes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from shotbus.broker.bus.base import Bus, BusError, Reader, Record, TopicPartition
from shotbus.broker.dispatcher.job import Reference

_AHEAD = 500
_PATIENCE_SECONDS = 10.0
# What a record weighs in memory beside its value: tuples, key, headers, its place in the cache.
_RECORD_BYTES = 1_536
# The part of the room that is left when more jobs wait than could be kept.
_PART = 4


class _Room:
    """Records up to a number of bytes; who came first goes first. The youngest may be larger than that."""

    def __init__(self, capacity: int) -> None:
        self._records: OrderedDict[Reference, Record] = OrderedDict()
        self._size, self._capacity = 0, capacity

    def add(self, reference: Reference, record: Record) -> None:
        if reference not in self._records:
            self._records[reference] = record
            self._size += _weight(record)
            self._shed()

    def get(self, reference: Reference) -> Record | None:
        return self._records.get(reference)

    def pop(self, reference: Reference) -> Record | None:
        record = self._records.pop(reference, None)
        if record is not None:
            self._size -= _weight(record)
        return record

    def limit(self, capacity: int) -> None:
        """Have so much room from now on, bytes."""
        self._capacity = capacity
        self._shed()

    def _shed(self) -> None:
        while self._size > self._capacity and len(self._records) > 1:
            _, old = self._records.popitem(last=False)
            self._size -= _weight(old)


class Bodies:
    """Original request records of one shard.

    What was just read is usually forwarded at once, so it is kept; what waited is read again in
    runs, because jobs of one partition leave the queue roughly in the order they came. What was read
    again and asked for is not kept once more: it is with a worker then.

    Args:
        bus: started bus.
        partitions: request partitions of the shard.
        capacity: bytes of memory that may be kept of either kind.

    """

    def __init__(self, bus: Bus, partitions: Iterable[TopicPartition], *, capacity: int = 8_388_608) -> None:
        self._bus, self._partitions, self._capacity = bus, tuple(partitions), capacity
        self._kept, self._ahead = _Room(capacity), _Room(capacity)
        self._reader: Reader | None = None

    def keep(self, record: Record) -> Reference:
        """Keep a record that was just read; returns its reference."""
        reference = Reference(*record[:3])
        self._kept.add(reference, record)
        return reference

    def expect(self, jobs: int) -> None:
        """Learn how many jobs are live: where more wait than can be kept, those kept last are wanted last."""
        deep = jobs * _RECORD_BYTES > self._capacity
        self._kept.limit(self._capacity // _PART if deep else self._capacity)

    async def fetch(self, references: Iterable[Reference]) -> dict[Reference, Record]:
        """Return the records. Raises BusError when one cannot be read."""
        found = {}
        for reference in sorted(set(references)):
            record = self._kept.get(reference) or self._ahead.pop(reference)
            found[reference] = record or await self._read(reference)
        return found

    async def close(self) -> None:
        """Close the reader."""
        if self._reader:
            await self._reader.close()

    async def _read(self, reference: Reference) -> Record:
        place = TopicPartition(reference.topic, reference.partition)
        if self._reader is None:
            self._reader = self._bus.reader(dict.fromkeys(self._partitions, 0))
        if self._reader.position(place) != reference.offset:
            # Only then: to seek throws away what has been fetched already and comes next.
            self._reader.seek(place, reference.offset)
        records = await self._reader.poll(max_records=_AHEAD, timeout=_PATIENCE_SECONDS, only=[place])
        if not records or records[0][:3] != reference:
            raise BusError(f"request {reference} cannot be read")
        for record in records[1:]:
            self._ahead.add(Reference(*record[:3]), record)
        return records[0]


def _weight(record: Record) -> int:
    return _RECORD_BYTES + len(record.value or b"")
