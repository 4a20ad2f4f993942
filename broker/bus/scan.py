"""Reading partitions from given offsets to their present ends. Reads the bus."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from typing import TypeVar

from shotbus.broker.bus.base import Bus, OffsetGapError, Record, TopicPartition

T = TypeVar("T")

_TRIES = 5


async def scan(
    bus: Bus,
    starts: Mapping[TopicPartition, int],
    *,
    batch: int = 2_000,
    ends: Mapping[TopicPartition, int] | None = None,
) -> AsyncGenerator[list[Record], None]:
    """Yield the records from ``starts`` to ``ends``; None takes the ends that are observed now.

    Whoever breaks off must close it (``contextlib.aclosing``).
    Reads until ``position >= end``: the tail of a partition is commit markers, so waiting for the last
    offset would never end. Raises BusError and OffsetGapError.
    """
    until = await bus.ends(starts) if ends is None else ends
    reader = bus.reader(starts)
    try:
        while any(reader.position(place) < end for place, end in until.items()):
            records = await reader.poll(max_records=batch, timeout=1.0)
            yield records if ends is None else [one for one in records if one.offset < ends[_place(one)]]
    finally:
        await reader.close()


async def any_between(bus: Bus, place: TopicPartition, start: int, end: int) -> bool:
    """Say whether there is a record between two offsets, and not only markers of commits.

    On Kafka whoever stops before it has passed a marker is below the end for good, and has missed nothing.
    What was deleted meanwhile is not there. Raises BusError.
    """
    try:
        async with aclosing(scan(bus, {place: start}, batch=1, ends={place: end})) as batches:
            async for batch in batches:
                if batch:
                    return True
    except OffsetGapError:
        return False
    return False


async def despite_deletions(read: Callable[[], Awaitable[T]]) -> T:
    """Return what ``read`` returns, which begins anew when records go before it has come to them.

    For readings of what is kept now. Raises OffsetGapError when they go faster than it can read.
    """
    for _ in range(_TRIES - 1):
        with suppress(OffsetGapError):
            return await read()
    return await read()


def _place(record: Record) -> TopicPartition:
    return TopicPartition(record.topic, record.partition)
