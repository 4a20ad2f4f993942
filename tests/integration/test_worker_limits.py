"""A provider's limits hold for all workers of a pool together, while workers come, go and die."""

import asyncio
import contextlib
import time
from dataclasses import replace

import pytest
from worker_kit import TOPICS, Bench

from shotbus.broker.bus.base import BusError, Outgoing
from shotbus.broker.bus.memory import MemoryBus
from shotbus.broker.clock import SystemClock
from shotbus.broker.pools import PoolsTail
from shotbus.schemas.codec import encode
from shotbus.workers.adapters.base import BackendState, load
from shotbus.workers.advertise import OWN, Advertiser
from shotbus.workers.parts import Limits, PartTimes
from shotbus.workers.settings import WorkerCounters, WorkerSettings

TIMES = PartTimes(silent=1.5, fence=0.8, settle=0.2)


class Provider:
    """What all workers call; it counts."""

    def __init__(self):
        self.running = self.most = 0
        self.begun = []

    async def call(self, seconds):
        self.running += 1
        self.most = max(self.most, self.running)
        self.begun.append(time.monotonic())
        try:
            await asyncio.sleep(seconds)
        finally:
            self.running -= 1


class Member:
    """The part of a worker that hears and tells, with slots that are always busy."""

    def __init__(self, cluster, provider, name, limits):
        self.bus, self.clock, self.provider = MemoryBus(cluster), SystemClock(), provider
        self.settings = WorkerSettings(
            "faulty", "faulty", name, slots=3, advertise_seconds=0.05, limits=limits, part_times=TIMES
        )
        self.advertiser = Advertiser(
            self.bus,
            TOPICS,
            self.settings,
            capabilities=replace(load("faulty").capabilities, inline=False),
            counters=WorkerCounters(),
            clock=self.clock,
        )
        self.tasks = []

    async def start(self, slots=3):
        await self.bus.start()
        tail = PoolsTail(self.bus, TOPICS, self.advertiser.learn, self.clock)
        work = [tail.run(), self.advertiser.run(), *(self.serve() for _ in range(slots))]
        self.tasks = [asyncio.create_task(one) for one in work]
        return self

    async def serve(self):
        while True:
            async with self.advertiser.turn() as mine:
                if not mine:
                    return
                await self.provider.call(0.02)

    async def kill(self):
        for task in self.tasks:
            task.cancel()
        with contextlib.suppress(BusError):
            await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.bus.close()

    async def leave(self):
        await self.advertiser.drain()
        await asyncio.gather(*self.tasks[2:])
        await self.advertiser.withdraw()
        await self.kill()


@pytest.fixture
async def pool():
    bench, provider, members = await Bench().open(), Provider(), []

    async def join(name, limits, **how):
        members.append(await Member(bench.cluster, provider, name, limits).start(**how))
        return members[-1]

    join.provider, join.bench = provider, bench
    yield join
    for member in members:
        await member.kill()
    await bench.close()


async def until(wanted, seconds=20):
    async with asyncio.timeout(seconds):
        while not wanted():
            await asyncio.sleep(0.01)


async def test_the_cap_holds_while_workers_join_die_and_leave_and_all_of_it_is_used(pool):
    limits, provider = Limits(max_in_flight=4), pool.provider
    first = await pool("a", limits)
    await until(lambda: provider.running == 3)
    second, third = await pool("b", limits), await pool("c", limits)
    await until(lambda: provider.running == 4)
    await first.kill()
    await until(lambda: provider.running < 4)
    await until(lambda: provider.running == 4)
    await second.leave()
    await until(lambda: provider.running == 3)
    assert provider.most == 4
    assert third.advertiser._turnstile.running == 3


async def test_the_rate_holds_over_two_workers(pool):
    limits, provider = Limits(rate_per_second=20.0, burst=2), pool.provider
    await pool("a", limits)
    await pool("b", limits)
    await until(lambda: len(provider.begun) >= 30)
    for first, since in enumerate(provider.begun):
        most = 2 + 20.0 * (provider.begun[-1] - since)
        assert len(provider.begun) - first <= most + 1e-3


async def test_credits_are_no_more_than_the_part(pool):
    fields = {"role": "dispatcher", "name": "d", "pool": "", "state": "ready", "partitions": [], "grants": {}}
    fields |= {"slots": 0, "prefetch": 0, "backlog": {"faulty": 9.0}, "done": 0, "failed": 0, "kind": ""}
    fields |= {"service_seconds": 0.0, "version": "", "at_ms": 0}
    told = encode("pool_status", fields)
    await pool.bench.bus.publish([Outgoing(TOPICS.name("pools"), 0, b"d/d", told)])
    await pool("a", Limits(max_in_flight=3), slots=0)
    await pool("b", Limits(max_in_flight=3), slots=0)
    await pool.bench.status_until(b"w/faulty/a", lambda status: status["grants"] == {"d": 2, OWN: 2})
    await pool.bench.status_until(b"w/faulty/b", lambda status: status["grants"] == {"d": 1, OWN: 1})


async def test_an_ill_worker_leaves_its_part_to_the_others_and_takes_it_back_when_it_is_well(pool):
    bench = pool.bench
    ill = await pool("a", Limits(max_in_flight=4), slots=0)
    await pool("b", Limits(max_in_flight=4), slots=0)
    await bench.status_until(b"w/faulty/b", lambda status: status["grants"] == {OWN: 2})
    ill.advertiser.sensed(BackendState(unhealthy="no token"))
    await bench.status_until(b"w/faulty/a", lambda status: status["grants"] == {OWN: 0})
    await bench.status_until(b"w/faulty/b", lambda status: status["grants"] == {OWN: 4})
    ill.advertiser.sensed(BackendState())
    for key in (b"w/faulty/a", b"w/faulty/b"):
        await bench.status_until(key, lambda status: status["grants"] == {OWN: 2})


async def test_without_limits_nothing_waits_and_nothing_more_is_told(pool):
    await pool("a", Limits())
    await until(lambda: pool.provider.running == 3)
    status = await pool.bench.status_until(b"w/faulty/a", lambda status: True)
    assert OWN not in status["grants"]
