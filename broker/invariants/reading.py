"""Feeds the checker from a bus as it is, running or not. Reads the bus.

What was read first is judged by what was read later: the ends of ``events`` are noted, then everything else
is read, then the events. So whatever a life had left elsewhere before its last noted event has been seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from shotbus.broker.bus.base import Bus, TopicPartition
from shotbus.broker.bus.scan import despite_deletions, scan
from shotbus.broker.invariants.checker import TOPICS, Checker, Report
from shotbus.broker.invariants.findings import Bounds
from shotbus.broker.invariants.witnesses import ProviderLedger
from shotbus.broker.topics import Topics

#: These say everything again when they are compacted; a begin above zero means nothing.
_COMPACTED = frozenset({"pools", "jobs", "reductions", "treasury-ledger"})
#: Without all of these a life may have left traces that are gone.
_KEPT = ("events", "results", "dead-letters")
_SECOND_LOOK_SECONDS = 1.0
_SLACK_MS = 60_000


@dataclass(frozen=True, slots=True)
class Reading:
    """What a look at a bus came to: ``records`` by topic, ``missing`` topics, whether nothing was deleted."""

    report: Report
    records: dict[str, int]
    missing: list[str]
    complete: bool


async def verify(
    bus: Bus,
    topics: Topics,
    *,
    since_ms: int | None = None,
    bounds: Bounds | None = None,
    ledger: ProviderLedger | None = None,
) -> Reading:
    """Read what the bus has and judge it.

    A violation counts when a second look finds it too: on Kafka the parts of one transaction become visible
    a moment after each other.

    Args:
        bus: started.
        topics: names and partition count.
        since_ms: look at what is not older than this wall time; None takes everything that is kept.
        bounds: numbers to judge by.
        ledger: a provider's books, not older than the look.

    Raises:
        BusError: the bus is away, or deletes faster than it can be read.

    """
    told = bounds or Bounds(), ledger
    # Retention and those who trim what they have read go on meanwhile.
    look = partial(despite_deletions, partial(_look, bus, topics, since_ms, *told))
    first = await look()
    if not first.report.violations:
        return first
    await asyncio.sleep(_SECOND_LOOK_SECONDS)
    second = await look()
    # What was seen may have gone on meanwhile: a wait that was too long has ended.
    known = {one[:3] for one in first.report.violations}
    second.report.violations[:] = [one for one in second.report.violations if one[:3] in known]
    return second


async def _look(
    bus: Bus, topics: Topics, since_ms: int | None, bounds: Bounds, ledger: ProviderLedger | None
) -> Reading:
    existing = await bus.topics()
    names = [name for name in TOPICS if topics.name(name) in existing]
    places = {name: _places(topics.name(name), existing[topics.name(name)]) for name in names}
    horizon = await bus.ends(places.get("events", []))
    begins = await bus.begins([place for name in names for place in places[name]])
    deleted = {name for name in names if name not in _COMPACTED and any(begins[one] for one in places[name])}
    complete = since_ms is None and not deleted.intersection(_KEPT)
    checker = Checker(complete=complete, trimmed=sorted(deleted), bounds=bounds)
    records: dict[str, int] = {}
    floor_ms = 0 if since_ms is None else since_ms
    for name in names:
        starts = {place: begins[place] for place in places[name]}
        if since_ms is not None and name not in _COMPACTED:
            starts = {place: await bus.offset_at(place, since_ms) for place in places[name]}
        checker.expect(name)
        count, first_ms = await _feed(bus, name, starts, checker)
        records[name] = count
        if name in _KEPT and name in deleted:
            floor_ms = max(floor_ms, first_ms)
    report = checker.report(
        over=False,
        ledger=ledger,
        horizon={place.partition: end for place, end in horizon.items()},
        floor_ms=floor_ms + _SLACK_MS if floor_ms else 0,
    )
    return Reading(report, records, [name for name in TOPICS if name not in names], complete)


async def _feed(bus: Bus, name: str, starts: dict[TopicPartition, int], checker: Checker) -> tuple[int, int]:
    """Feed a topic; returns how many records it had, and the latest of its partitions' first times, ms."""
    count = 0
    firsts: dict[int, int] = {}
    async for batch in scan(bus, starts):
        for record in batch:
            firsts.setdefault(record.partition, record.timestamp_ms)
            checker.take(name, record)
        count += len(batch)
    return count, max(firsts.values(), default=0)


def _places(topic: str, partitions: int) -> Sequence[TopicPartition]:
    return [TopicPartition(topic, partition) for partition in range(partitions)]
