"""A shard that waits for records can be woken, on every bus, and no record is lost by it."""

import asyncio
import time

from bus_under_test import PATIENCE, create, to
from shard_kit import CountingEdge

from shotbus.broker.bus.base import Outgoing
from shotbus.broker.clock import SystemClock
from shotbus.broker.machine import Input
from shotbus.broker.runner import ShardRunner

LONG = 20.0


async def taken(bus, prefix):
    """A runner of the counting machine on one partition, and that partition."""
    (place,), (out,) = await create(bus, f"{prefix}in"), await create(bus, f"{prefix}out")
    (ledger,) = await create(bus, f"{prefix}ledger", cleanup="compact")

    class Edge(CountingEdge):
        def __init__(self):
            super().__init__(bus)
            self.inputs, self.ledger = [Input(place, 1, trimmed=True)], ledger

        def outgoing(self, command):
            return Outgoing(*out, command.key, b"%d" % command.fields["count"])

    runner = ShardRunner(bus, Edge, shard=f"{prefix}0", dead_letters=out, clock=SystemClock())
    await runner.take()
    # On Kafka the first polls connect.
    await runner.step(wait=1.0)
    return runner, place


async def waits(runner):
    while runner._waiting is None:  # noqa: ASYNC110 -- whether it waits is what nobody is told
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)


async def test_a_shard_that_waits_is_woken_at_once_and_ticks(bus, prefix):
    runner, _ = await taken(bus, prefix)
    times = runner.edge.machine.times
    for _ in range(3):
        step, before = asyncio.ensure_future(runner.step(wait=LONG)), len(times)
        await waits(runner)
        began = time.monotonic()
        runner.wake()
        runner.wake()
        assert await step == 0
        assert time.monotonic() - began < LONG / 4
        assert len(times) == before + 1


async def test_a_wake_that_meets_nobody_waiting_is_kept_for_the_next_wait_only(bus, prefix):
    runner, _ = await taken(bus, prefix)
    runner.wake()
    async with asyncio.timeout(LONG / 4):
        assert await runner.step(wait=LONG) == 0
    began = time.monotonic()
    await runner.step(wait=0.2)
    assert time.monotonic() - began > 0.15


async def test_whoever_is_woken_all_the_time_still_reads_everything_once_and_in_order(bus, prefix):
    runner, place = await taken(bus, prefix)
    offsets = []

    async def publish():
        for number in range(60):
            offsets.extend(await bus.publish([to(place, b"%d-%d" % (number, n)) for n in range(3)]))
            await asyncio.sleep(0)

    async def disturb():
        while True:
            runner.wake()
            await asyncio.sleep(0.0005)

    publishing, disturbing = asyncio.ensure_future(publish()), asyncio.ensure_future(disturb())
    counts = runner.edge.machine.counts
    async with asyncio.timeout(PATIENCE):
        while counts.get(b"k", 0) < 180:
            await runner.step(wait=LONG)
    disturbing.cancel()
    await publishing
    await runner.step(wait=0)
    assert counts == {b"k": 180}
    assert runner._held.positions[place] == offsets[-1] + 1


async def test_a_shard_that_is_told_to_end_ends_though_it_was_woken_too(bus, prefix):
    runner, _ = await taken(bus, prefix)
    step = asyncio.ensure_future(runner.step(wait=LONG))
    await waits(runner)
    runner.wake()
    step.cancel()
    async with asyncio.timeout(LONG / 4):
        await asyncio.wait([step])
    assert step.cancelled()
