"""Shards on a memory cluster that tests can crash anywhere: a counting machine, a dispatcher, a clock by hand."""

import json
from collections import Counter

from dispatcher_kit import SHARD

from shotbus.broker.bus.base import Outgoing, TopicPartition, TopicSpec
from shotbus.broker.bus.memory import MemoryBus, MemoryCluster
from shotbus.broker.ledger import LastRows, replay_ledger
from shotbus.broker.machine import Emit, Input, Tick
from shotbus.broker.runner import RunnerSettings, ShardRunner
from shotbus.schemas.errors import fail

FIRST = TopicPartition("first", 0)
IN = TopicPartition("in", 0)
MORE = TopicPartition("more", 0)
OUT = TopicPartition("out", 0)
LEDGER = TopicPartition("ledger", 0)
LETTERS = TopicPartition("letters", 0)
EXCUSES = TopicPartition("excuses", 0)
SETTINGS = RunnerSettings(tick=0.25, batch=50, idle_positions=5.0, trim_every=10.0)


class Crash(BaseException):
    """The process died at a probe; nothing in the code under test may catch it."""


class FakeClock:
    """Stands still until told."""

    def __init__(self):
        self.now = 1_000.0

    def wall_ms(self):
        return int(self.now * 1_000) + 1_700_000_000_000

    def monotonic(self):
        return self.now


class Probe:
    """Raises :class:`Crash` at the n-th step it sees; ``seen`` counts them, ``names`` remembers them."""

    def __init__(self, at=0):
        self.at, self.seen, self.names = at, 0, []

    def __call__(self, name):
        self.seen += 1
        self.names.append(name)
        if self.seen == self.at:
            raise Crash(name)


class Counting:
    """A machine that counts records by key and says each count once; keys are its state."""

    def __init__(self):
        self.counts = {}
        self.changed = {}
        self.times = []

    def handle(self, event, now):
        if isinstance(event, Tick):
            self.times.append(now.seen)
            return []
        key, value = event
        self.counts[key] = self.counts.get(key, 0) + 1
        self.changed[key] = None
        if value.startswith(b"poison"):
            raise ValueError(f"cannot handle {value!r}")
        return [Emit("out", 0, key, "", {"count": self.counts[key], "value": value})]

    def touched(self):
        keys, self.changed = list(self.changed), {}
        return keys

    def snapshot(self, key):
        return str(self.counts[key]).encode()

    def restore(self, key, snapshot):
        self.counts[key] = int(snapshot)

    def restored(self, now):
        self.times.append(now.seen)

    def wake_at(self, now):
        return None


class CountingEdge:
    """Its edge: what a record says decides where it goes wrong."""

    def __init__(self, bus, shard=SHARD):
        self.machine = Counting()
        self.bus, self.shard = bus, shard
        first, own, more = (place._replace(partition=shard) for place in (FIRST, IN, MORE))
        self.inputs = [Input(first, 0), Input(own, 1, trimmed=True), Input(more, 2, trimmed=True)]
        self.ledger = LEDGER._replace(partition=shard)
        self.confirmed = 0

    def decode(self, record):
        if record.value.startswith(b"garbage"):
            raise fail("SB-1001", "$")
        return None if record.value == b"nothing" else (record.key, record.value)

    async def attach(self, events):
        return events

    def must_catch_up(self, events):
        return any(value.startswith(b"needs first") for _, value in events)

    def tick(self):
        return Tick()

    async def materialise(self, commands):
        return [self.outgoing(command) for command in commands]

    def outgoing(self, command):
        value = command.fields["value"]
        if value.startswith(b"unspeakable"):
            raise TypeError("cannot be encoded")
        said = json.dumps([command.fields["count"], value.decode()]).encode()
        if value.startswith(b"huge"):
            said += bytes(2_000_000)
        return Outgoing("out", self.shard, command.key, said)

    def excuse(self, record, now):
        if record.value.startswith(b"poison without"):
            raise TypeError("cannot be excused")
        return [Outgoing("excuses", self.shard, record.key, record.value)]

    def low_waters(self):
        return {}

    def committed(self, commands):
        self.confirmed += len(commands)

    async def close(self):
        pass


class Plant:
    """A cluster with the counting machine's topics, and processes on it that can be killed."""

    def __init__(self, shards=1, clock=None):
        self.clock = clock or FakeClock()
        self.cluster = MemoryCluster(clock=lambda: self.clock.wall_ms() / 1_000)
        specs = {"first": "trim", "in": "trim", "more": "trim", "out": "delete", "ledger": "compact"}
        for name, cleanup in {**specs, "letters": "delete", "excuses": "delete", "shards": "delete"}.items():
            self.cluster.create(TopicSpec(name, shards, cleanup))

    async def bus(self, make=MemoryBus):
        bus = make(self.cluster)
        await bus.start()
        return bus

    def runner(self, bus, probe=None, settings=SETTINGS, build=None, shard=SHARD):
        return ShardRunner(
            bus,
            build or (lambda: CountingEdge(bus, shard)),
            shard=f"counting-{shard}",
            dead_letters=LETTERS._replace(partition=shard),
            clock=self.clock,
            settings=settings,
            probe=probe or (lambda _: None),
        )

    async def put(self, *values, place=IN, key=b"k"):
        bus = await self.bus()
        records = [Outgoing(*place, key, value, (("a", b"1"), ("a", b"2"))) for value in values]
        return await bus.publish(records)

    async def read(self, place):
        bus = await self.bus()
        reader = bus.reader(await bus.begins([place]))
        return await reader.poll(max_records=100_000, timeout=0)

    async def said(self):
        """What the machine has said, by key: (count, value) in order."""
        told = {}
        places = [TopicPartition("out", n) for n in range(self.cluster.spec("out").partitions)]
        for record in [record for place in places for record in await self.read(place)]:
            count, value = json.loads(record.value)
            told.setdefault(record.key, []).append((count, value.encode()))
        return told

    async def positions_and_rows(self, ledger=LEDGER):
        rows = LastRows()
        return await replay_ledger(await self.bus(), ledger, rows.take), rows.rows

    async def ends(self, *places):
        return await (await self.bus()).ends(places)


async def drain(runner, rounds=200):
    """Step until everything was read and decided, and once more."""
    for _ in range(rounds):
        inputs = [one.partition for one in runner.edge.inputs]
        ends = await runner._bus.ends(inputs)
        decided = await runner.step(wait=0) == 0
        if decided and all(runner._held.positions[place] >= end for place, end in ends.items()):
            return
    raise AssertionError("never idle")


def check_said(said, expected):
    """Each record was counted once and in order: counts are 1, 2, 3, …"""
    for key, told in said.items():
        assert [count for count, _ in told] == list(range(1, len(told) + 1)), f"{key}: {told}"
    assert {key: Counter(value for _, value in told) for key, told in said.items()} == expected
