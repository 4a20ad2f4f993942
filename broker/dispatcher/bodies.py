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


class Bodies:
    """Original request records of one shard.

    What was just read is usually forwarded at once, so it is kept; what waited is read again in
    runs, because jobs of one partition leave the queue roughly in the order they came.

    Args:
        bus: started bus.
        partitions: request partitions of the shard.
        capacity: bytes of memory that may be kept.

    """

    def __init__(self, bus: Bus, partitions: Iterable[TopicPartition], *, capacity: int = 8_388_608) -> None:
        self._bus, self._partitions = bus, tuple(partitions)
        self._kept: OrderedDict[Reference, Record] = OrderedDict()
        self._size, self._capacity = 0, capacity
        self._reader: Reader | None = None

    def keep(self, record: Record) -> Reference:
        """Keep a record that was just read; returns its reference."""
        reference = Reference(record.topic, record.partition, record.offset)
        if reference not in self._kept:
            self._kept[reference] = record
            self._size += _weight(record)
            while self._size > self._capacity and len(self._kept) > 1:
                _, old = self._kept.popitem(last=False)
                self._size -= _weight(old)
        return reference

    async def fetch(self, references: Iterable[Reference]) -> dict[Reference, Record]:
        """Return the records. Raises BusError when one cannot be read."""
        wanted = list(dict.fromkeys(references))
        found = {one: record for one in wanted if (record := self._kept.get(one)) is not None}
        for reference in sorted(set(wanted) - set(found)):
            if reference not in found:
                found |= await self._read(reference, set(wanted))
        return found

    async def close(self) -> None:
        """Close the reader."""
        if self._reader:
            await self._reader.close()

    async def _read(self, reference: Reference, wanted: set[Reference]) -> dict[Reference, Record]:
        place = TopicPartition(reference.topic, reference.partition)
        if self._reader is None:
            self._reader = self._bus.reader(dict.fromkeys(self._partitions, 0))
        if self._reader.position(place) != reference.offset:
            # Only then: to seek throws away what has been fetched already and comes next.
            self._reader.seek(place, reference.offset)
        records = await self._reader.poll(max_records=_AHEAD, timeout=_PATIENCE_SECONDS, only=[place])
        found = {}
        for record in records:
            one = self.keep(record)
            if one in wanted:
                found[one] = record
        if reference not in found:
            raise BusError(f"request {reference} cannot be read")
        return found


def _weight(record: Record) -> int:
    return _RECORD_BYTES + len(record.value or b"")
