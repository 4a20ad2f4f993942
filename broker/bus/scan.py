"""Reading partitions from given offsets to their present ends. Reads the bus."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping

from shotbus.broker.bus.base import Bus, Record, TopicPartition


async def scan(
    bus: Bus, starts: Mapping[TopicPartition, int], *, batch: int = 2_000
) -> AsyncGenerator[list[Record], None]:
    """Yield the records from ``starts`` to the ends that are observed now.

    Whoever breaks off must close it (``contextlib.aclosing``).
    Reads until ``position >= end``: the tail of a partition is commit markers, so waiting for the last
    offset would never end. Raises BusError and OffsetGapError.
    """
    ends = await bus.ends(starts)
    reader = bus.reader(starts)
    try:
        while any(reader.position(place) < end for place, end in ends.items()):
            yield await reader.poll(max_records=batch, timeout=1.0)
    finally:
        await reader.close()
