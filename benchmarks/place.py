"""Where a benchmark runs: a bus of its own, role processes, a client. Starts processes and connects."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from shotbus.broker.config import Config
from shotbus.deploy.cluster import Cluster
from shotbus.producers.client import AsyncClient

#: Smallest circuit that measures something; the noop pool never looks at it.
TINY = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[1] q;\nbit[1] c;\nh q[0];\nc[0] = measure q[0];\n'


@dataclass(frozen=True, slots=True)
class Place:
    """A bus that nobody else uses: ``url`` with a topic prefix of its own."""

    url: str
    directory: Path
    config: Config
    embedded: bool

    @property
    def name(self) -> str:
        """The bus as figures name it."""
        return "embedded" if self.embedded else "kafka"

    @property
    def environment(self) -> dict[str, str]:
        """What the role processes must be told."""
        return {"SHOTBUS__BROKER__PREFIX": self.config.broker.prefix, "SHOTBUS__LOG__LEVEL": "warning"}


@contextmanager
def a_place(kafka: str | None = None) -> Iterator[Place]:
    """Make a place with default configuration, on Kafka where ``kafka`` is a URL, else embedded.

    The directory goes afterwards; the topics on Kafka stay under their prefix until somebody deletes them.
    """
    directory = Path(tempfile.mkdtemp(prefix="shotbus-bench-"))
    config = Config()
    if kafka:
        prefix = f"bench-{os.urandom(3).hex()}."
        config = dataclasses.replace(config, broker=dataclasses.replace(config.broker, prefix=prefix))
    try:
        yield Place(kafka or f"sqlite:///{directory / 'data'}", directory, config, embedded=kafka is None)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def cluster(place: Place) -> Iterator[Cluster]:
    """Make an empty cluster of role processes; whatever was started in it ends with it."""
    with Cluster(place.url, place.directory / "logs", place.environment) as started:
        yield started


@contextmanager
def serving(place: Place, pool: str) -> Iterator[Cluster]:
    """Run one pool as users do: `shotbus up` embedded, one process of each role on Kafka."""
    with cluster(place) as started:
        if place.embedded:
            started.start("up", "up", "--pool", pool)
            started.wait("up")
        else:
            started.start("dispatcher", "dispatcher")
            started.start("worker", "worker", "--pool", pool)
            started.start("reducer", "reducer")
            started.wait("dispatcher", "worker", "reducer")
        yield started


@asynccontextmanager
async def connected(place: Place) -> AsyncIterator[AsyncClient]:
    """Connect a client to what runs there."""
    async with AsyncClient(place.url, config=place.config) as client:
        yield client
