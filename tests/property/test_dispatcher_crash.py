"""A dispatcher shard on the memory bus, with a worker beside it, crashed between any two steps."""

import dataclasses
from collections import Counter

from dispatcher_kit import config, control, item, job_id, outcome, request_bytes
from shard_kit import SETTINGS, Crash, FakeClock, Probe

from shotbus.broker.bus.base import BusError, Outgoing, TopicPartition
from shotbus.broker.bus.memory import MemoryBus, MemoryCluster
from shotbus.broker.config import PoolConfig
from shotbus.broker.dispatcher.edge import DispatcherEdge
from shotbus.broker.dispatcher.messages import Credit
from shotbus.broker.ledger import LastRows, replay_ledger
from shotbus.broker.runner import ShardRunner
from shotbus.broker.store.memory import MemoryStore
from shotbus.broker.telemetry import Metrics
from shotbus.broker.topics import Topics
from shotbus.schemas.codec import decode, encode

TOPICS = Topics(prefix="t.", partitions=1, work_partitions=1)
LEASES = {"lease_seconds": 1.0, "start_seconds": 1.0, "bundle_jobs": 2}
CONFIG = dataclasses.replace(
    config(base=0.1, cap=0.2),
    pools={
        "aer": PoolConfig(adapter="aer", **LEASES),
        "noop": PoolConfig(adapter="noop", kind="none", **LEASES),
    },
)
METRICS = Metrics(role="dispatcher", version="test")
#: What each job ends as: 2 loses its worker once, 3 fails once, 4 is invalid, 5 has no worker, 8 is cancelled early.
ENDS = {
    1: "succeeded",
    2: "succeeded",
    3: "succeeded",
    4: "failed",
    5: "expired",
    6: "succeeded",
    7: "succeeded",
    8: "cancelled",
}


def at(topic):
    return TopicPartition(TOPICS.name(topic), 0)


class Worker:
    """Answers bundles as the script says; it lives on while dispatchers crash."""

    def __init__(self, bus):
        self.bus = bus
        self.reader = bus.reader({at("work.aer"): 0})
        self.attempts = Counter()

    async def turn(self):
        for record in await self.reader.poll(max_records=10, timeout=0):
            bundle = decode(record.value, "work_bundle")[1]
            items = [item(one["job_id"], one["attempt"], self.fate(one)) for one in bundle["items"]]
            answered = [one for one in items if one["error_class"] != "SILENCE"]
            self.attempts.update((one["job_id"], one["attempt"]) for one in items)
            lease = f"lease of {bundle['bundle_id']}"
            await self.say("started", bundle["bundle_id"], lease, [])
            await self.say("finished", bundle["bundle_id"], lease, answered)

    def fate(self, one):
        scripted = {(job_id(2), 1): "SILENCE", (job_id(3), 1): "TRANSIENT", (job_id(4), 1): "INVALID"}
        return scripted.get((one["job_id"], one["attempt"]), "")

    async def say(self, kind, bundle_id, lease, items):
        value = encode("outcome", outcome(kind, bundle_id, worker="w0", lease=lease, items=items))
        await self.bus.publish([Outgoing(*at("outcomes"), b"w0", value)])


class Broker:
    """The cluster, its worker, and one dispatcher process after another."""

    def __init__(self, edge_class=DispatcherEdge):
        self.clock, self.edge_class = FakeClock(), edge_class
        self.cluster = MemoryCluster(clock=lambda: self.clock.wall_ms() / 1_000)
        for spec in TOPICS.specs(CONFIG.pools):
            self.cluster.create(spec)

    async def bus(self):
        bus = MemoryBus(self.cluster)
        await bus.start()
        return bus

    def runner(self, bus, probe=None):
        runner = ShardRunner(
            bus,
            lambda: self.edge(bus, runner),
            shard="dispatcher-0",
            dead_letters=at("dead-letters"),
            clock=self.clock,
            settings=SETTINGS,
            probe=probe or (lambda _: None),
        )
        return runner

    def edge(self, bus, runner):
        def free():
            used = runner.edge.machine.load().get(("aer", "w0"), 0)
            return {"aer": [Credit("w0", 0, 2 - used)]} if used < 2 else {}

        store = MemoryStore()
        return self.edge_class(
            0,
            bus=bus,
            store=store,
            topics=TOPICS,
            config=CONFIG,
            free_credits=free,
            metrics=METRICS,
            clock=self.clock,
        )

    async def submit(self):
        """Publish the scenario: eight jobs, a repetition, a contradiction, garbage, an early cancel."""
        bus, wall = await self.bus(), self.clock.wall_ms()
        changes = {5: {"backend": "noop", "deadline_ms": wall + 1_500}, 6: {"not_before_ms": wall + 1_000}}
        values = [request_bytes(n, **changes.get(n, {})) for n in range(1, 8)]
        values += [request_bytes(1), request_bytes(3, shots=101), b"garbage", request_bytes(8)]
        cancel = encode("control", control("cancel", job_id(8)))
        await bus.publish([Outgoing(*at("control"), None, cancel)])
        await bus.publish([Outgoing(*at("requests.experiment"), None, value) for value in values])

    async def read(self, topic):
        bus = await self.bus()
        return await bus.reader(await bus.begins([at(topic)])).poll(max_records=10_000, timeout=0)

    async def results(self):
        records = [decode(record.value) for record in await self.read("results")]
        return Counter(
            (fields["job_id"], fields["outcome"]) for name, fields in records if name == "circuit_result"
        )

    async def work(self, runner, worker, rounds=60):
        """Step, let the worker answer, let time pass, until every job has ended."""
        await runner.take()
        for _ in range(rounds):
            await runner.step(wait=0)
            await worker.turn()
            self.clock.now += 0.4
            if len(await self.results()) == len(ENDS):
                await runner.step(wait=0)
                return
        raise AssertionError(f"never ended: {await self.results()}")


async def survive(broker, probe):
    """Run the scenario; a dispatcher that crashed is followed by another. Returns the number of lives and the worker."""
    await broker.submit()
    worker = Worker(await broker.bus())
    bus = await broker.bus()
    runner = broker.runner(bus, probe)
    for lives in range(1, 4):
        try:
            await broker.work(runner, worker)
        except (Crash, BusError):
            bus.kill()
            bus = await broker.bus()
            runner = broker.runner(bus)
        else:
            return lives, worker
    raise AssertionError("no life was long enough")


async def check_broker(broker, worker):
    """Each job ended once, as it should; nothing is left; each attempt was sent once; the rest was answered once."""
    assert await broker.results() == Counter({(job_id(n), end): 1 for n, end in ENDS.items()})
    refused = [record for record in await broker.read("results") if b"SB-1106" in record.value]
    assert len(refused) == 1
    (letter,) = await broker.read("dead-letters")
    assert letter.value == b"garbage"
    assert set(worker.attempts.values()) == {1}
    assert {attempt for job, attempt in worker.attempts if job in (job_id(2), job_id(3))} == {1, 2}
    rows = LastRows()
    positions = await replay_ledger(await broker.bus(), at("jobs"), rows.take)
    assert not [key for key in rows.rows if not key.startswith((b"done/", b"meta/"))]
    ends = await (await broker.bus()).ends(positions)
    assert positions[at("requests.experiment")] == ends[at("requests.experiment")]


async def test_a_dispatcher_crash_between_any_two_steps_ends_every_job_exactly_once():
    for step in range(1, 1_000):
        broker = Broker()
        lives, worker = await survive(broker, Probe(step))
        await check_broker(broker, worker)
        if lives == 1:
            break
    assert step > 30, "the fault never bit"
