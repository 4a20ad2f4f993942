"""How far the projector is, seen from outside: against ends noted at the beginning. Reads the bus."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shotbus.broker.bus.base import Bus, TopicPartition
from shotbus.broker.bus.scan import any_between
from shotbus.broker.topics import Topics
from shotbus.reducers.readmodels import PROJECTOR, SOURCES

_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Progress:
    """Up to where read models are made, by partition of their topics.

    ``positions``: everything below has been written to the store. ``behind``: how many offsets lie between
    there and the end, where any do. ``members``: how many projectors there are.
    """

    positions: Mapping[TopicPartition, int]
    behind: Mapping[TopicPartition, int]
    members: int

    def told(self) -> str:
        """Return in words what is missing, nothing where nothing is."""
        if not self.behind:
            return ""
        topics = dict.fromkeys(place.topic for place in self.behind)
        what = f"{sum(self.behind.values()):,} offsets of {', '.join(topics)} are not in the read models yet"
        return f"{what}: {'the projector is behind' if self.members else 'no projector runs'}"


async def progress(bus: Bus, topics: Topics, *, timeout: float) -> Progress:
    """Return where the projector is once it has come to the ends of now, or does not get there.

    Args:
        bus: started.
        topics: names and partition count.
        timeout: seconds to wait at most; nobody is waited for when there is no projector.

    Raises:
        BusError: the bus is away.

    """
    existing = await bus.topics()
    places = _places(topics, existing)
    ends, begins = await bus.ends(places), await bus.begins(places)
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout
    while True:
        # In this order: one that has left since has recorded where it was before.
        members = await bus.members(topics.name(PROJECTOR), topics.name("shards")) if places else 0
        known = await bus.committed(topics.name(PROJECTOR), places)
        # What was deleted before it was read needs no read model.
        positions = {place: min(end, max(known.get(place, 0), begins[place])) for place, end in ends.items()}
        behind = {place: end - positions[place] for place, end in ends.items() if positions[place] < end}
        if not behind or not members or loop.time() >= until:
            # Markers of commits at the end are nothing to project.
            missing = {
                place: count
                for place, count in behind.items()
                if await any_between(bus, place, positions[place], ends[place])
            }
            return Progress(positions, missing, members)
        await asyncio.sleep(_LOOK_SECONDS)


def _places(topics: Topics, existing: Mapping[str, int]) -> Sequence[TopicPartition]:
    if topics.name("shards") not in existing:
        return []
    names = [topics.name(name) for name in SOURCES if topics.name(name) in existing]
    return [TopicPartition(name, number) for name in names for number in range(existing[name])]
