"""The H2 job of the example, its undisturbed answer, and clusters of role processes on either bus."""

import asyncio
import os
import uuid

import pytest

from shotbus import Client
from shotbus.broker.config_loader import load_config
from shotbus.broker.connect import open_bus, parse_url, topics_for
from shotbus.broker.invariants.reading import verify
from shotbus.deploy.cluster import Cluster
from shotbus.runfile import load_run

from .job import Job
from .places import EXAMPLE, OwnServices

# Shorter than in production, so that a run in which they matter ends soon. A job a bundle, so that a
# victim holds some jobs of a sweep and not the whole of it.
QUICK = {"LEASE_SECONDS": "3", "BUNDLE_JOBS": "1"}


@pytest.fixture(scope="session")
def plan():
    """All of `make run`: exact expectation values, finite shots, diagonalisation; 40 lengths each."""
    return load_run(EXAMPLE).plan()


@pytest.fixture(scope="session")
def undisturbed(plan, tmp_path_factory):
    """The final reductions of the same job where nothing is killed."""
    with Client(f"sqlite:///{tmp_path_factory.mktemp('undisturbed')}") as client:
        return Job(client, plan).reductions()


@pytest.fixture
def quick(monkeypatch, tmp_path):
    # Where a run on Kafka remembers what it has submitted.
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("SHOTBUS__BROKER__PREFIX", f"fault-{uuid.uuid4().hex[:8]}.")
    for pool in ("AER", "CLASSICAL"):
        for name, value in QUICK.items():
            monkeypatch.setenv(f"SHOTBUS__POOLS__{pool}__{name}", value)


@pytest.fixture(scope="session")
def own(tmp_path_factory, kafka_jars):
    """A Kafka and a Redis that no other test uses, to be killed."""
    services = OwnServices(tmp_path_factory.mktemp("own"), kafka_jars)
    yield services
    services.stop()


@pytest.fixture(params=["sqlite", "kafka"])
def url(request, tmp_path, quick):
    """``own``: Kafka and Redis that may be killed, for tests that ask for it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'data'}"
    if request.param == "own":
        return request.getfixturevalue("own").url
    kafka = request.getfixturevalue("kafka_address")
    return f"kafka://{kafka}?store={request.getfixturevalue('redis_url')}"


@pytest.fixture
def cluster(url, tmp_path):
    """Role processes; whatever was done to them, what is on the topics must keep every promise."""
    with Cluster(url, tmp_path / "logs", dict(os.environ)) as running:
        yield running
        reading = asyncio.run(checked(url))
    assert reading.report.violations == []
    assert reading.report.judged["I2"]


async def checked(url):
    config, address = load_config().config, parse_url(url)
    bus = open_bus(address, config, client_id="verify")
    await bus.start()
    try:
        return await verify(bus, topics_for(address, config))
    finally:
        await bus.close()
