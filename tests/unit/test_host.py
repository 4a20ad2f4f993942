"""Hosts of shards: who holds what, hand-over, coming straight back, defects that must be seen."""

import asyncio
from collections import Counter

import pytest
from shard_kit import IN, Plant, check_said

from shotbus.broker.clock import SystemClock
from shotbus.broker.host import ShardHost

SHARDS = 4


class Group:
    """Hosts on one cluster, each in a process of its own; ``takings`` counts them by (host, shard)."""

    def __init__(self):
        self.plant = Plant(SHARDS, SystemClock())
        self.takings = Counter()
        self.sent = {}
        self.hosts, self.buses = [], []

    async def add(self):
        bus, number = await self.plant.bus(), len(self.hosts)

        def make(shard):
            def probe(step):
                self.takings[number, shard] += step == "taken"

            return self.plant.runner(bus, probe, shard=shard)

        host = ShardHost(bus, group="g", topic="shards", make_runner=make)
        await host.start()
        self.hosts.append(host)
        self.buses.append(bus)
        return host

    async def put(self, value):
        for shard in range(SHARDS):
            key = b"k%d" % shard
            await self.plant.put(value, place=IN._replace(partition=shard), key=key)
            self.sent.setdefault(key, Counter())[value] += 1

    async def until(self, true):
        async with asyncio.timeout(20):
            while not await true():
                await asyncio.sleep(0.01)

    async def all_said(self):
        said = await self.plant.said()
        return sum(map(len, said.values())) == sum(counts.total() for counts in self.sent.values())

    async def settled(self):
        held = [shard for host in self.hosts for shard in host.runners]
        return sorted(held) == list(range(SHARDS))

    async def check(self):
        await self.until(self.all_said)
        check_said(await self.plant.said(), self.sent)


@pytest.fixture
async def group():
    made = Group()
    yield made
    for host, bus in zip(made.hosts, made.buses, strict=True):
        if bus._alive:
            await host.stop()
            await bus.close()


async def test_one_host_runs_every_shard(group):
    host = await group.add()
    await group.put(b"a")
    await group.check()
    assert sorted(host.runners) == list(range(SHARDS))


async def test_a_second_host_gets_its_share_and_nothing_is_counted_twice(group):
    first, second = await group.add(), await group.add()
    for number in range(20):
        await group.put(b"%d" % number)
        await asyncio.sleep(0.01)
    await group.until(group.settled)
    assert len(first.runners) == len(second.runners) == SHARDS / 2
    await group.put(b"after")
    await group.check()


async def test_a_host_that_stops_under_load_hands_over_all_it_has(group):
    first, second = await group.add(), await group.add()
    await group.until(group.settled)
    await group.put(b"before")
    await first.stop()
    assert first.runners == {}
    await group.put(b"after")
    await group.check()
    assert sorted(second.runners) == list(range(SHARDS))


async def test_the_shards_of_a_killed_process_are_run_by_another(group):
    await group.add()
    await group.add()
    await group.until(group.settled)
    await group.put(b"before")
    group.buses[0].kill()
    await group.put(b"after")
    await group.check()
    group.hosts[0]._stopping = True
    for shard in list(group.hosts[0].runners):
        group.hosts[0]._let_go(shard)


async def test_a_shard_that_comes_straight_back_keeps_its_state(group):
    host = await group.add()
    await group.put(b"a")
    await group.check()
    everything = frozenset(range(SHARDS))
    await host._revoked(everything)
    await host._assigned(everything)
    await group.put(b"b")
    await group.check()
    assert set(group.takings.values()) == {1}


async def test_a_revoked_shard_does_nothing_while_nobody_gives_it_back(group):
    host = await group.add()
    await group.until(group.settled)
    await host._revoked(frozenset({0}))
    await asyncio.sleep(0.3)
    await group.put(b"a")
    await asyncio.sleep(0.3)
    assert sorted(await group.plant.said()) == [b"k1", b"k2", b"k3"]
    await host._assigned(frozenset({0}))
    await group.check()


async def test_a_defect_ends_the_host_visibly(group):
    host = await group.add()
    await group.until(group.settled)
    host.runners[0].edge.machine.handle = None
    await asyncio.sleep(0)
    with pytest.raises(TypeError):
        async with asyncio.timeout(5):
            await host.failure


async def test_a_micro_batch_that_has_begun_is_finished_before_a_shard_is_let_go(group):
    """The transaction of a task that is cancelled must not stay open: it would hold every reader back."""
    host = await group.add()
    await group.until(group.settled)
    reached = asyncio.Event()
    host.runners[0]._probe = lambda step: reached.set() if step == "committing" else None
    await group.put(b"a")
    await asyncio.wait_for(reached.wait(), 5)
    host._let_go(0)
    await group.check()
    assert group.plant.cluster._transactions == {}
