"""Fixtures of the conformance suites: every bus under test, and as many instances of it as a test needs."""

import asyncio
import sys
import uuid
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # the helpers that child processes import too

from bus_under_test import open_bus

KAFKA = pytest.param("kafka", marks=pytest.mark.kafka)
EVERY_BUS = ["memory", "sqlite", KAFKA]


@pytest.fixture(params=EVERY_BUS)
def bus_kind(request):
    return request.param


@pytest.fixture
def bus_spec(request, bus_kind, tmp_path):
    """One underlying log, as text that another process can open too (except for memory)."""
    if bus_kind == "kafka":
        return f"kafka {request.getfixturevalue('kafka_address')}"
    return f"{bus_kind} {tmp_path / 'log'}"


@pytest.fixture
async def bus_factory(bus_spec):
    """Return an async factory of started instances on one log: each is another process's view of it."""
    shared, made = {}, []

    async def make():
        bus = open_bus(bus_spec, shared)
        made.append(bus)
        await bus.start()
        return bus

    yield make
    await asyncio.gather(*[bus.close() for bus in made])


@pytest.fixture
async def bus(bus_factory):
    return await bus_factory()


@pytest.fixture
def prefix():
    return f"t{uuid.uuid4().hex[:12]}."
