"""Open a bus from a line of text, and small verbs for it; shared by the tests and their child processes."""

import asyncio
import contextlib
import time
from pathlib import Path

from shotbus.broker.bus.base import Outgoing, TopicPartition, TopicSpec

PATIENCE = 30.0  # no test waits that long unless something is broken


def open_bus(spec, shared=None):
    """Build the bus that ``spec`` ("kind place") describes; memory buses share what is in ``shared``."""
    kind, _, place = spec.partition(" ")
    if kind == "memory":
        from shotbus.broker.bus.memory import MemoryBus, MemoryCluster

        return MemoryBus(shared.setdefault("cluster", MemoryCluster()))
    if kind == "sqlite":
        from shotbus.broker.bus.sqlite import SqliteBus

        return SqliteBus(Path(place))
    from shotbus.broker.bus.kafka import KafkaBus, KafkaSettings

    return KafkaBus(KafkaSettings(bootstrap=place))


async def create(bus, name, partitions=1, **kinds):
    """Create a topic and return its partitions."""
    await bus.create_topics([TopicSpec(name, partitions, **kinds)])
    return [TopicPartition(name, partition) for partition in range(partitions)]


def to(partition, value, key=b"k", headers=()):
    return Outgoing(*partition, key, value, headers)


def values(records):
    return [record.value for record in records]


async def poll_until(reader, count, only=None):
    """Read until ``count`` records have come."""
    records, deadline = [], time.monotonic() + PATIENCE
    while len(records) < count:
        assert time.monotonic() < deadline, f"{len(records)} of {count} records after {PATIENCE} s"
        records += await reader.poll(max_records=10_000, timeout=1, only=only)
    return records


async def read_all(bus, partitions, start=None):
    """Return everything that is committed now, from ``start`` (a position each) or from the beginning."""
    ends = await bus.ends(partitions)
    reader = bus.reader(start if start is not None else await bus.begins(partitions))
    records, deadline = [], time.monotonic() + PATIENCE
    while any(reader.position(partition) < ends[partition] for partition in partitions):
        assert time.monotonic() < deadline, "the reader never got to the ends"
        records += await reader.poll(max_records=10_000, timeout=0.2)
    await reader.close()
    return records


async def eventually(condition):
    """Wait until ``condition()`` holds, as long as it takes (within reason)."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def opened(spec):
    """Open a bus for the length of a block."""
    bus = open_bus(spec)
    await bus.start()
    try:
        yield bus
    finally:
        await bus.close()
