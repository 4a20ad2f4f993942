"""No-op jobs one by one: jobs a second with everything on, and proof of exactly one result each. Does I/O.

Each job is one ``submit()`` of its own, awaited to its result, by concurrent callers of one client in this
process: 1,024, and for comparison 256. The clock runs from the first call to the last result in a caller's
hands. A warming round comes first, on Kafka until its JVM has compiled what it runs.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shotbus.benchmarks.figures import Figure, Report, Target
from shotbus.benchmarks.place import TINY, Place, connected, serving
from shotbus.broker.bus.base import Bus, TopicPartition
from shotbus.producers.client import AsyncClient
from shotbus.schemas.codec import identify

TARGETS = {"embedded": 3_000.0, "kafka": 2_000.0}
CALLERS = 1_024
FEWER_CALLERS = 256
_WARMING = {"embedded": 0.1, "kafka": 1.0}
_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Count:
    """How often each id has a terminal result on the bus, against the ids that were submitted."""

    missing: int
    repeated: int
    foreign: int

    @property
    def wrong(self) -> int:
        """Everything that exactly-once forbids."""
        return self.missing + self.repeated + self.foreign


async def measure(place: Place, *, jobs: int, repeats: int) -> Report:
    """Run ``repeats`` times ``jobs`` jobs with many callers, and once with fewer."""
    with serving(place, "noop"):
        async with connected(place) as client:
            await _round(client, max(CALLERS, int(jobs * _WARMING[place.name])), CALLERS)
            begins = await client.session.bus.ends(_results(client))
            rates: list[float] = []
            submitted: list[str] = []
            for callers in [CALLERS] * repeats + [FEWER_CALLERS]:
                began = time.perf_counter()
                submitted += await _round(client, jobs, callers)
                rates.append(jobs / (time.perf_counter() - began))
            count = await count_results(client.session.bus, begins, submitted)
    name, fewer = f"noop {place.name}", rates.pop()
    target = Target("at least", TARGETS[place.name])
    spread = f"{min(rates):,.0f} to {max(rates):,.0f} in {repeats} rounds of {jobs:,}"
    return Report(
        [
            Figure(
                name,
                f"jobs, {CALLERS:,} callers",
                statistics.median(rates),
                "1/s",
                target=target,
                noise=spread,
            ),
            Figure(name, f"jobs, {FEWER_CALLERS:,} callers", fewer, "1/s", noise="1 round"),
            _exactly_once(place, count, len(submitted)),
        ]
    )


def _exactly_once(place: Place, count: Count, jobs: int) -> Figure:
    told = f"{jobs:,} ids: {count.missing} missing, {count.repeated} repeated, {count.foreign} foreign"
    name = "ids without exactly one result"
    return Figure(f"noop {place.name}", name, count.wrong, "", target=Target("exactly", 0), noise=told)


async def _round(client: AsyncClient, jobs: int, callers: int) -> list[str]:
    """Submit and await; returns the ids."""
    turns = iter(range(jobs))
    ids: list[str] = []

    async def caller() -> None:
        for _ in turns:
            job = await client.submit(TINY, backend="noop", shots=1, intent="benchmark")
            await job.result(_PATIENCE_SECONDS)
            ids.append(job.job_id)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(callers, jobs)):
            group.create_task(caller())
    return ids


def _results(client: AsyncClient) -> list[TopicPartition]:
    topics = client.session.topics
    return [TopicPartition(topics.name("results"), number) for number in range(topics.partitions)]


async def count_results(bus: Bus, begins: Mapping[TopicPartition, int], submitted: Sequence[str]) -> Count:
    """Count terminal results by job id, from ``begins`` of the partitions of ``results`` to their ends."""
    ends = await bus.ends(begins)
    reader = bus.reader(begins)
    found: Counter[bytes] = Counter()
    try:
        while any(reader.position(place) < end for place, end in ends.items()):
            for record in await reader.poll(max_records=2_000, timeout=1.0):
                if identify(record.value).name == "circuit_result":
                    found[record.key or b""] += 1
    finally:
        await reader.close()
    wanted = {one.encode() for one in submitted}
    return Count(
        missing=len(wanted - found.keys()),
        repeated=sum(number - 1 for key, number in found.items() if key in wanted),
        foreign=len(found.keys() - wanted),
    )
