"""Watches results arrive: who was served, when, and how long it had waited. Reads the bus."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from shotbus.broker.bus.base import Reader, Record, TopicPartition
from shotbus.broker.stages import Timings
from shotbus.broker.topics import Topics
from shotbus.producers.client import AsyncClient
from shotbus.schemas.codec import decode, identify

_PATIENCE_SECONDS = 600.0


class Served(NamedTuple):
    """A job that has succeeded; times in seconds, ``at`` is the wall time of its result on the bus.

    ``waited`` runs from acceptance to the start in a worker's process, ``ran`` from there to the end.
    """

    job_id: str
    tenant: str
    priority: str
    pool: str
    at: float
    admitted: float
    waited: float
    ran: float


class Watch:
    """What has been served since it was opened; read on by :meth:`until` alone."""

    def __init__(self, reader: Reader, topics: Topics) -> None:
        self._reader, self._classes = reader, topics.requests("")
        self.served: list[Served] = []
        #: Backend seconds of all of them, and their number by pool.
        self.seconds = 0.0
        self.by_pool: Counter[str] = Counter()
        self._ids: set[str] = set()

    def has(self, job_id: str) -> bool:
        """Tell whether a job has been served."""
        return job_id in self._ids

    async def until(
        self, done: Callable[[], bool], *, timeout: float = _PATIENCE_SECONDS, step: int = 1_000
    ) -> None:
        """Read until ``done()``, which is asked after every ``step`` results at most.

        Raises:
            TimeoutError: it did not come to that in ``timeout`` seconds.
            RuntimeError: a job was refused or did not succeed, so that the figures would mean nothing.

        """
        async with asyncio.timeout(timeout):
            while not done():
                for record in await self._reader.poll(max_records=step, timeout=0.5):
                    self._take(record)

    def _take(self, record: Record) -> None:
        name = identify(record.value).name
        if name == "located":
            return
        fields = decode(record.value)[1]
        if name != "circuit_result" or fields["outcome"] != "succeeded":
            raise RuntimeError(f"a job of the benchmark was not served: {fields['problems']}")
        timings = Timings.unpack(fields["timings"])
        served = Served(
            job_id=fields["job_id"],
            tenant=fields["tenant"],
            priority=fields["request_topic"].removeprefix(self._classes),
            pool=fields["pool"],
            at=record.timestamp_ms / 1e3,
            admitted=timings.seconds("admit"),
            waited=timings.seconds("queue") + timings.seconds("lease"),
            ran=timings.seconds("execute"),
        )
        self.served.append(served)
        self.seconds += served.ran
        self.by_pool[served.pool] += 1
        self._ids.add(served.job_id)


@asynccontextmanager
async def watching(client: AsyncClient) -> AsyncIterator[Watch]:
    """Open a watch on everything that ends from now on."""
    session = client.session
    name = session.topics.name("results")
    places = [TopicPartition(name, number) for number in range(session.topics.partitions)]
    reader = session.bus.reader(await session.bus.ends(places))
    try:
        yield Watch(reader, session.topics)
    finally:
        await reader.close()
