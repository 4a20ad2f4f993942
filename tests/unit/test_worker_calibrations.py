"""Calibrations that outcomes name: durable before those, once a worker, whatever the bus does."""

import asyncio

import pytest
from worker_kit import TOPICS, Bench

from shotbus.broker.bus.base import BusError, RecordTooLargeError, TopicPartition
from shotbus.broker.bus.scan import scan
from shotbus.broker.clock import SystemClock
from shotbus.schemas.codec import decode
from shotbus.schemas.ids import keyed_partition
from shotbus.workers.adapters.base import content_address
from shotbus.workers.calibrations import Calibrations
from shotbus.workers.settings import WorkerCounters

SNAPSHOT = b'{"qubits":2}'
NAME = content_address(SNAPSHOT)


@pytest.fixture
async def bench():
    bench = await Bench().open()
    yield bench
    await bench.close()


def calibrations(bus):
    return Calibrations(bus, TOPICS, SystemClock(), WorkerCounters(), pool="qpu", executed_on="device")


async def kept(bench):
    places = [TopicPartition(TOPICS.name("calibrations"), n) for n in range(TOPICS.partitions)]
    return [one async for batch in scan(bench.bus, await bench.bus.begins(places)) for one in batch]


class Bad:
    """A bus that fails as it is told, then publishes."""

    def __init__(self, bus, *errors):
        self.bus, self.errors = bus, list(errors)

    async def publish(self, records):
        if self.errors:
            raise self.errors.pop(0)
        return await self.bus.publish(records)


async def test_a_snapshot_is_kept_once_under_its_content_address(bench):
    mine = calibrations(bench.bus)
    await mine.keep()
    for _ in range(3):
        mine.learn(NAME, SNAPSHOT)
        await mine.keep()
    (one,) = await kept(bench)
    fields = decode(one.value, "calibration")[1]
    assert (one.key.decode(), one.partition) == (NAME, keyed_partition(NAME, TOPICS.partitions))
    assert (fields["pool"], fields["backend"], fields["snapshot"]) == ("qpu", "device", SNAPSHOT)


async def test_what_is_not_what_it_is_called_by_is_not_kept(bench):
    mine = calibrations(bench.bus)
    mine.learn(content_address(b"other"), SNAPSHOT)
    await mine.keep()
    assert await kept(bench) == []


async def test_whoever_comes_while_it_is_being_published_waits_for_it_too(bench):
    gate, bus = asyncio.Event(), bench.bus

    class Slow:
        async def publish(self, records):
            await gate.wait()
            return await bus.publish(records)

    mine = calibrations(Slow())
    mine.learn(NAME, SNAPSHOT)
    both = asyncio.gather(mine.keep(), mine.keep())
    while not mine._publishing.locked():
        await asyncio.sleep(0)
    assert not both.done()
    gate.set()
    await both
    assert len(await kept(bench)) == 1


async def test_an_absent_bus_is_waited_for_and_a_snapshot_that_is_too_large_is_not(bench, monkeypatch):
    monkeypatch.setattr("shotbus.workers.calibrations._WAIT_SECONDS", 0.0)
    mine = calibrations(Bad(bench.bus, BusError("away"), BusError("away")))
    mine.learn(NAME, SNAPSHOT)
    await mine.keep()
    assert len(await kept(bench)) == 1
    other = calibrations(Bad(bench.bus, RecordTooLargeError("too large")))
    other.learn(content_address(b"{}"), b"{}")
    await other.keep()
    assert len(await kept(bench)) == 1
