"""Where a benchmark runs: a bus of its own, role processes, a client. Starts processes and connects."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from shotbus.broker.config import Config, PoolConfig
from shotbus.broker.config_loader import as_toml
from shotbus.deploy.cluster import Cluster, Role
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
    def settings(self) -> Path:
        """The configuration file of the role processes."""
        return self.directory / "shotbus.toml"

    @property
    def environment(self) -> dict[str, str]:
        """What the role processes must be told."""
        return {"SHOTBUS__BROKER__PREFIX": self.config.broker.prefix, "SHOTBUS__LOG__LEVEL": "warning"}


@contextmanager
def a_place(kafka: str | None = None, config: Config | None = None) -> Iterator[Place]:
    """Make a place, on Kafka where ``kafka`` is a URL, else embedded; ``config`` None is the default.

    The directory goes afterwards; the topics on Kafka stay under their prefix until somebody deletes them.
    """
    directory = Path(tempfile.mkdtemp(prefix="shotbus-bench-"))
    config = config or Config()
    if kafka:
        prefix = f"bench-{os.urandom(3).hex()}."
        config = dataclasses.replace(config, broker=dataclasses.replace(config.broker, prefix=prefix))
    url = kafka or f"sqlite:///{directory / 'data'}"
    place = Place(url, directory, config, embedded=kafka is None)
    place.settings.write_text(as_toml(config), encoding="utf-8")
    try:
        yield place
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def another(place: Place, config: Config) -> Iterator[Place]:
    """Make a second place on the same kind of bus, with a configuration of its own and nothing in it."""
    with a_place(None if place.embedded else place.url, config) as other:
        yield other


def with_pools(config: Config, pools: Mapping[str, PoolConfig]) -> Config:
    """Return a configuration that has these pools too; none of them caps what may wait."""
    limits = dataclasses.replace(config.limits, max_waiting=100_000_000, max_waiting_tenant=100_000_000)
    return dataclasses.replace(config, pools={**config.pools, **pools}, limits=limits)


@contextmanager
def cluster(place: Place) -> Iterator[Cluster]:
    """Make an empty cluster of role processes; whatever was started in it ends with it."""
    with Cluster(place.url, place.directory / "logs", place.environment) as started:
        yield started


def begin(roles: Cluster, place: Place, name: str, *arguments: str) -> Role:
    """Start ``shotbus ARGUMENTS…`` with the place's configuration and return without waiting for it."""
    return roles.start(name, *arguments, "--config", str(place.settings))


@contextmanager
def serving(place: Place, *pools: str) -> Iterator[Cluster]:
    """Run pools as users do: `shotbus up` embedded, one process of each role, and a pool, on Kafka."""
    with cluster(place) as started:
        if place.embedded:
            begin(started, place, "up", "up", *(word for pool in pools for word in ("--pool", pool)))
            started.wait("up")
        else:
            begin(started, place, "dispatcher", "dispatcher")
            workers = [f"worker-{pool}" for pool in pools]
            for name, pool in zip(workers, pools, strict=True):
                begin(started, place, name, "worker", "--pool", pool)
            begin(started, place, "reducer", "reducer")
            started.wait("dispatcher", *workers, "reducer")
        yield started


@asynccontextmanager
async def connected(place: Place) -> AsyncIterator[AsyncClient]:
    """Connect a client to what runs there."""
    async with AsyncClient(place.url, config=place.config) as client:
        yield client


@asynccontextmanager
async def dispatching(place: Place, *arguments: str) -> AsyncIterator[tuple[Cluster, Role, AsyncClient]]:
    """Run one dispatcher process and nothing else, with a client connected to it."""
    with cluster(place) as roles:
        dispatcher = begin(roles, place, "dispatcher", "dispatcher", *arguments)
        roles.wait("dispatcher")
        async with connected(place) as client:
            yield roles, dispatcher, client
