"""Treasury and admitting shards on the real runner: 64 jobs at once where 63 fit, crashed at any step (F28)."""

import json

import pytest
from shard_kit import Crash, FakeClock, Probe

from shotbus.broker.bus.base import BusError, Outgoing, TopicPartition
from shotbus.broker.bus.memory import MemoryBus, MemoryCluster
from shotbus.broker.ledger import read_ledger
from shotbus.broker.machine import Input, Tick
from shotbus.broker.runner import RunnerSettings, ShardRunner
from shotbus.broker.topics import Topics
from shotbus.broker.treasury.account import Account, share_of
from shotbus.broker.treasury.allowance import Allowance, is_allowance_key
from shotbus.broker.treasury.answers import Refused, Reserved
from shotbus.broker.treasury.budgets import Claim, purse_of
from shotbus.broker.treasury.edge import TreasuryEdge
from shotbus.broker.treasury.machine import is_account_key
from shotbus.broker.treasury.prices import Cost
from shotbus.broker.treasury.rows import WHOLE, read_row
from shotbus.schemas.codec import decode

from treasury_kit import shots  # isort: skip

JOBS, LIMIT = 64, 63
TOPICS = Topics(partitions=2)
SETTINGS = RunnerSettings(batch=7)


class Admitting:
    """The least that a dispatcher does with its allowance: reserve, say the answer, settle half of what was reserved."""

    def __init__(self, shard):
        self.shard = shard
        self.allowance = Allowance(shard, TOPICS.partitions, shots(LIMIT, block=0.1))
        self.open = {}

    def handle(self, event, now):
        if isinstance(event, Tick):
            commands, decided = self.allowance.tick(now)
            return [*commands, *(said for one in decided for said in self.say(*one))]
        kind, value = event
        if kind == "grant":
            return [said for one in self.allowance.told(value, now) for said in self.say(*one)]
        answer = self.allowance.reserve(value, Claim("ada", "", "aer", Cost(shots=1)), now)
        self.open[value] = None
        return self.say(value, answer) if isinstance(answer, Reserved | Refused) else []

    def say(self, job, answer):
        del self.open[job]
        words = [job, "reserved" if isinstance(answer, Reserved) else "refused"]
        if isinstance(answer, Reserved) and int(job) % 2:
            self.allowance.settle(job, Cost(shots=1))
        return [Outgoing(TOPICS.name("events"), self.shard, job.encode(), json.dumps(words).encode())]

    def touched(self):
        return [*self.allowance.touched(), b"open"]

    def snapshot(self, key):
        return json.dumps(list(self.open)).encode() if key == b"open" else self.allowance.snapshot(key)

    def restore(self, key, row):
        if is_allowance_key(key):
            self.allowance.restore(key, row)
        else:
            self.open = dict.fromkeys(json.loads(row))

    def restored(self, now):
        self.allowance.restored(now)
        for job in self.open:
            self.allowance.reserve(job, Claim("ada", "", "aer", Cost(shots=1)), now)

    def wake_at(self, now):
        return self.allowance.wake_at(now)


class AdmittingEdge(TreasuryEdge):
    """Its edge, which differs from the Treasury's in what it reads."""

    def __init__(self, shard):
        self._topics, self._machine = TOPICS, Admitting(shard)
        self._ledger = TopicPartition(TOPICS.name("jobs"), shard)

    @property
    def inputs(self):
        shard = self._machine.shard
        requests = TopicPartition(TOPICS.requests("bulk"), shard)
        return [Input(TopicPartition(TOPICS.name("grants"), shard), 1, trimmed=True), Input(requests, 2)]

    def decode(self, record):
        if record.topic == TOPICS.name("grants"):
            return "grant", decode(record.value, "grant")[1]
        return "job", record.value.decode()

    async def materialise(self, commands):
        own = [one for one in commands if isinstance(one, Outgoing)]
        return [*await super().materialise([one for one in commands if one not in own]), *own]


EDGES = {
    **{f"treasury-{n}": lambda n=n: TreasuryEdge(TOPICS, n, shots(LIMIT, block=0.1)) for n in range(2)},
    **{f"dispatcher-{n}": lambda n=n: AdmittingEdge(n) for n in range(2)},
}


class Site:
    """Four shards, each in a process of its own that may be killed and replaced."""

    def __init__(self, victim="", step=0):
        self.clock = FakeClock()
        self.cluster = MemoryCluster(clock=lambda: self.clock.wall_ms() / 1_000)
        for spec in TOPICS.specs(["aer"]):
            self.cluster.create(spec)
        self.probe, self.victim = Probe(step), victim
        self.lives = 0
        self.running = {}

    async def bus(self):
        bus = MemoryBus(self.cluster)
        await bus.start()
        return bus

    async def begin(self, name):
        bus = await self.bus()
        probe = self.probe if name == self.victim else lambda _: None
        letters = TopicPartition(TOPICS.name("dead-letters"), 0)
        runner = ShardRunner(
            bus,
            EDGES[name],
            shard=name,
            dead_letters=letters,
            clock=self.clock,
            settings=SETTINGS,
            probe=probe,
        )
        self.running[name] = bus, runner
        await runner.take()

    async def step(self, name):
        try:
            if name not in self.running:
                await self.begin(name)
            return await self.running[name][1].step(wait=0)
        except (Crash, BusError):
            self.lives += 1
            self.running.pop(name)[0].kill()
            return 1

    async def answers(self):
        bus = await self.bus()
        places = [TopicPartition(TOPICS.name("events"), n) for n in range(2)]
        reader = bus.reader(await bus.begins(places))
        return [tuple(json.loads(one.value)) for one in await reader.poll(max_records=10_000, timeout=0)]

    async def live(self):
        bus = await self.bus()
        jobs = [Outgoing(TOPICS.requests("bulk"), n % 2, b"k", str(n).encode()) for n in range(JOBS)]
        await bus.publish(jobs)
        for _ in range(300):
            self.clock.now += 0.2
            read = [await self.step(name) for name in EDGES]
            if not any(read) and len(await self.answers()) >= JOBS:
                return
        raise AssertionError(f"not everyone was answered: {len(await self.answers())}")

    async def account(self):
        found = []
        for number in range(2):
            rows = await read_ledger(await self.bus(), TopicPartition(TOPICS.name("treasury-ledger"), number))
            found += [read_row(row) for key, row in rows.items() if is_account_key(key)]
        account = Account(purse_of(found[0]), LIMIT)
        account.shares = {one["shard"]: share_of(one) for one in found if one["shard"] != WHOLE}
        return account


async def check(site):
    """Everyone was answered once, as many as fit may go, and the Treasury's books say the same."""
    answers = await site.answers()
    assert sorted(int(job) for job, _ in answers) == list(range(JOBS))
    assert [word for _, word in answers].count("refused") == JOBS - LIMIT
    for _ in range(12):
        site.clock.now += 0.4
        for name in EDGES:
            await site.step(name)
    account = await site.account()
    settled = sum(int(job) % 2 for job, word in answers if word == "reserved")
    reserved = LIMIT - settled
    assert (account.spent, sum(one.reserved for one in account.shares.values())) == (settled, reserved)
    assert account.held >= reserved
    assert account.spent + account.held <= LIMIT


@pytest.mark.parametrize("victim", ["dispatcher-0", "dispatcher-1", "treasury-0", "treasury-1"])
async def test_one_of_64_jobs_is_refused_wherever_a_shard_crashes(victim):
    for step in range(1, 1_000, 2):
        site = Site(victim, step)
        await site.live()
        await check(site)
        if site.probe.seen < step:
            assert site.lives == 0
            break
    assert step > 30


async def test_the_input_of_the_treasury_and_the_grants_are_trimmed():
    site = Site()
    await site.live()
    for _ in range(20):
        site.clock.now += 1.0
        for name in EDGES:
            await site.step(name)
    bus = await site.bus()
    places = [TopicPartition(TOPICS.name(topic), n) for topic in ("treasury", "grants") for n in range(2)]
    begins = await bus.begins(places)
    assert sum(begins.values()) > 0
    assert await bus.reader(begins).poll(max_records=100, timeout=0) == []
