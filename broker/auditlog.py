"""Reading the audit log: its entries, and whether its chains are whole. Reads the bus."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, NamedTuple

from shotbus.broker.audit import verify
from shotbus.broker.bus.base import Bus, Record, TopicPartition
from shotbus.broker.bus.scan import despite_deletions, scan
from shotbus.broker.topics import Topics
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import ShotbusError


class AuditLog(NamedTuple):
    """Decoded entries, the oldest first, and what is wrong with their chains, in words."""

    entries: list[Mapping[str, Any]]
    problems: list[str]


async def read_audit(bus: Bus, topics: Topics, *, since_ms: int = 0) -> AuditLog:
    """Return what is kept of the audit log.

    An entry that was changed, put in, moved or left out shows among the problems. What was cut off at the end
    does not: only the ledgers know it, and ``shotbus verify`` reads those.

    Args:
        bus: started.
        topics: names and partition count.
        since_ms: wall time from which on to read; 0 takes everything that is kept.

    Raises:
        BusError: the bus is away, or deletes faster than it can be read.

    """
    return await despite_deletions(lambda: _read(bus, topics, since_ms))


async def _read(bus: Bus, topics: Topics, since_ms: int) -> AuditLog:
    name = topics.name("audit")
    places = [TopicPartition(name, number) for number in range((await bus.topics()).get(name, 0))]
    starts = await bus.begins(places)
    if since_ms:
        starts = {place: max(start, await bus.offset_at(place, since_ms)) for place, start in starts.items()}
    entries, problems = list[Mapping[str, Any]](), list[str]()
    async with aclosing(scan(bus, starts)) as batches:
        async for records in batches:
            for record in records:
                _take(record, entries, problems)
    problems += verify(entries)
    # Shards decide at the same time: a chain has an order of its own, between chains there is only the clock.
    return AuditLog(sorted(entries, key=lambda one: (one["at_us"], one["chain"], one["number"])), problems)


def _take(record: Record, entries: list[Mapping[str, Any]], problems: list[str]) -> None:
    try:
        entries.append(decode(record.value or b"", "audit_entry")[1])
    except ShotbusError as error:
        problems.append(f"audit[{record.partition}]@{record.offset}: is no audit entry: {error}")
