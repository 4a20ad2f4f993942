"""A seeded world: processes of every role on one memory cluster, producers, faults, what they left. Pure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from shotbus.broker.bus.base import Bus, Outgoing, Record, TopicPartition
from shotbus.broker.bus.memory import MemoryBus, MemoryCluster
from shotbus.broker.config import Config, PoolConfig
from shotbus.broker.dispatcher.service import DispatcherService
from shotbus.broker.invariants import Checker, History, Violation
from shotbus.broker.store.memory import MemoryStore
from shotbus.broker.telemetry import Metrics
from shotbus.broker.topics import Topics
from shotbus.producers.job import decode_name
from shotbus.reducers.service import ReducerService
from shotbus.schemas.codec import decode, encode
from shotbus.schemas.ids import digest, keyed_partition, partition_of
from shotbus.schemas.payload import payload_hash
from shotbus.simulation.child import SimulatedChild, Temper
from shotbus.simulation.loop import SimulatedClock, SimulatedLoop
from shotbus.simulation.process import Process, Service, owned_task
from shotbus.simulation.requests import Requests
from shotbus.workers.service import WorkerService
from shotbus.workers.settings import WorkerSettings

POOL = "sim"


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens in a simulation; everything else follows from the seed.

    ``seconds`` of submissions and faults, after which the world has ``settle`` seconds to come to rest.
    ``faults`` a minute are drawn at random: a process is killed and comes back, is declared dead while it
    lives, or the store is emptied.
    """

    seed: int
    jobs: int = 120
    seconds: float = 30.0
    settle: float = 600.0
    dispatchers: int = 2
    workers: int = 2
    reducers: int = 2
    faults: float = 20.0
    temper: Temper = field(default_factory=lambda: Temper(dies=0.03, hangs=0.005, fails=0.05, rejects=0.02))


@dataclass(slots=True)
class Outcome:
    """What a simulation came to: its lines, its answers by kind, and a hash of all that was published."""

    violations: list[Violation]
    story: list[str]
    answers: dict[str, int]
    ended_at: float
    digest: str


class World:
    """Runs one scenario on a simulated loop."""

    def __init__(self, scenario: Scenario, loop: SimulatedLoop) -> None:
        self._scenario, self._loop = scenario, loop
        self._random = Random(scenario.seed)  # noqa: S311 -- to be repeated, not to be secret
        self._clock = SimulatedClock(loop)
        self._cluster = MemoryCluster(clock=lambda: self._clock.wall_ms() / 1000)
        self._store = MemoryStore(clock=loop.time)
        self._topics = Topics("", partitions=2, work_partitions=4)
        pool = PoolConfig(adapter="faulty", kind="none", slots=1, lease_seconds=4.0, start_seconds=6.0)
        base = Config()
        self._config = replace(base, pools={POOL: pool}, routing=replace(base.routing, default=POOL))
        self._processes: dict[str, Process] = {}
        self._requests = Requests(self._random, self._config, self._clock)
        self._client = MemoryBus(self._cluster)
        self._asked: dict[str, bytes] = {}
        self._history = History(complete=True)
        self._sweeps: list[str] = []
        self._story: list[str] = []
        loop.set_task_factory(owned_task)

    async def run(self) -> Outcome:
        """Live through the scenario, come to rest, and look at what is on the topics."""
        await self._client.start()
        await self._store.start()
        await self._client.create_topics(self._topics.specs(self._config.pools))
        for name, build in self._roles().items():
            await self._begin(name, build)
        await asyncio.gather(self._submit_all(), self._trouble())
        self._tell("the trouble is over")
        await self._rest()
        return self._look()

    # -- what lives -------------------------------------------------------------------------------

    def _roles(self) -> dict[str, Callable[[Bus], Service]]:
        scenario = self._scenario
        roles: dict[str, Callable[[Bus], Service]] = {}
        for number in range(scenario.dispatchers):
            roles[f"dispatcher-{number}"] = self._dispatcher
        for number in range(scenario.workers):
            roles[f"worker-{number}"] = self._worker
        for number in range(scenario.reducers):
            roles[f"reducer-{number}"] = self._reducer
        return roles

    async def _begin(self, name: str, build: Callable[[Bus], Service]) -> None:
        process = self._processes[name] = Process(name, self._cluster, build)
        await process.start()
        self._tell(f"{name} serves")

    def _dispatcher(self, bus: Bus) -> Service:
        return DispatcherService(
            f"d-{self._random.getrandbits(32):08x}",
            bus=bus,
            store=self._store,
            topics=self._topics,
            config=self._config,
            metrics=Metrics(role="dispatcher", version="simulated"),
            clock=self._clock,
        )

    def _reducer(self, bus: Bus) -> Service:
        metrics = Metrics(role="reducer", version="simulated")
        return ReducerService(
            bus=bus, store=self._store, topics=self._topics, metrics=metrics, clock=self._clock
        )

    def _worker(self, bus: Bus) -> Service:
        from shotbus.roles import RunningService

        pool = self._config.pools[POOL]
        settings = WorkerSettings(
            pool=POOL,
            adapter="faulty",
            worker=f"w-{self._random.getrandbits(32):08x}",
            slots=pool.slots,
            attempt_seconds=20.0,
        )
        random = Random(self._random.getrandbits(64))  # noqa: S311 -- as above
        service = WorkerService(
            bus,
            self._store,
            self._topics,
            settings,
            clock=self._clock,
            make_child=lambda: SimulatedChild(random, self._scenario.temper),
            entropy=random.randbytes,
        )
        return RunningService(service)

    # -- what happens -----------------------------------------------------------------------------

    async def _submit_all(self) -> None:
        """Submit at random moments; now and then twice, as a producer does that got no acknowledgement."""
        scenario = self._scenario
        moments = sorted(self._random.uniform(0, scenario.seconds) for _ in range(scenario.jobs))
        for moment in moments:
            await asyncio.sleep(max(0.0, moment - self._loop.time()))
            fields = self._requests.draw()
            if self._random.random() < 0.05:
                await self._submit_sweep()
            await self._submit(fields)
            if self._random.random() < 0.1:
                await self._submit(fields)
            if self._random.random() < 0.05:
                await self._cancel(fields)

    async def _submit(self, fields: dict[str, Any]) -> None:
        value = encode("circuit_request", fields)
        operation = self._history.invoke(
            "submit",
            fields["job_id"],
            fields["tenant"],
            self._loop.time(),
            key=fields["idempotency_key"],
            fingerprint=payload_hash(decode(value)[1]).hex(),
            raw=value,
        )
        self._asked[fields["job_id"]] = value
        partition = partition_of(fields["job_id"], self._topics.partitions)
        topic = self._topics.requests(fields["priority"])
        await self._client.publish([Outgoing(topic, partition, fields["job_id"].encode(), value)])
        operation.ok(self._loop.time())

    async def _submit_sweep(self) -> None:
        declaration, sweep_id, requests = self._requests.sweep()
        partition = keyed_partition(sweep_id, self._topics.partitions)
        await self._client.publish([Outgoing(self._topics.name("sweeps"), partition, None, declaration)])
        self._sweeps.append(sweep_id)
        tenant = requests[0]["tenant"]
        self._history.invoke("declare", sweep_id, tenant, self._loop.time()).ok(self._loop.time())
        for fields in requests:
            await self._submit(fields)
            await asyncio.sleep(self._random.uniform(0, 0.2))

    async def _cancel(self, fields: dict[str, Any]) -> None:
        record = self._requests.cancel(fields)
        partition = partition_of(fields["job_id"], self._topics.partitions)
        await self._client.publish([Outgoing(self._topics.name("control"), partition, None, record)])
        cancel = self._history.invoke("cancel", fields["job_id"], fields["tenant"], self._loop.time())
        cancel.ok(self._loop.time())
        self._tell(f"cancel of {fields['job_id'][:8]}")

    async def _trouble(self) -> None:
        scenario = self._scenario
        while self._loop.time() < scenario.seconds and scenario.faults > 0:
            await asyncio.sleep(self._random.expovariate(scenario.faults / 60))
            name = self._random.choice(sorted(self._processes))
            kind = self._random.choices(("kill", "expire", "stop", "empty"), (6, 2, 3, 1))[0]
            await self._strike(kind, name)

    async def _strike(self, kind: str, name: str) -> None:
        process = self._processes[name]
        if kind == "expire":
            self._tell(f"{name} is declared dead")
            process.expire()
        elif kind == "empty":
            self._tell("the store is emptied")
            await self._store.clear()
        else:
            self._tell(f"{name}: {kind}")
            await (process.kill() if kind == "kill" else process.stop())
            await asyncio.sleep(self._random.uniform(0, 5))
            await self._begin(name, self._roles()[name])

    # -- the end ----------------------------------------------------------------------------------

    async def _rest(self) -> None:
        """Wait until everything asked for has an answer, or the patience is over; then stop everybody."""
        until = self._loop.time() + self._scenario.settle
        while self._loop.time() < until and not self._is_over():  # noqa: ASYNC110 -- simulated seconds cost nothing
            await asyncio.sleep(1.0)
        for process in self._processes.values():
            await process.stop()

    def _is_over(self) -> bool:
        reductions = (decode(record)[1] for record in self._records("reductions"))
        final = {fields["sweep_id"] for fields in reductions if fields["final"]}
        return len(self._answered()) == len(self._asked) and final >= set(self._sweeps)

    def _answered(self) -> set[str]:
        found = set()
        for record in self._records("results"):
            if decode_name(record) in ("circuit_result", "refusal"):
                found.add(decode(record)[1]["job_id"])
        return found

    def _records(self, topic: str) -> list[bytes]:
        return [record.value for record in self._read(topic) if record.value is not None]

    def _read(self, topic: str) -> list[Record]:
        name, found = self._topics.name(topic), []
        for partition in range(self._cluster.spec(name).partitions):
            log = self._cluster.log(TopicPartition(name, partition))
            found += [
                Record(name, partition, offset, one.key, one.value, one.headers, one.timestamp_ms)
                for offset, one in log.read(log.begin, 1 << 30)
            ]
        return found

    def _look(self) -> Outcome:
        checker = Checker(complete=True)
        for topic in ("results", "reductions", "dead-letters", "pools", "events"):
            for record in self._read(topic):
                checker.take(topic, record)
        answers: dict[str, int] = {}
        for value in self._records("results"):
            name, fields = decode(value)
            kind = fields["outcome"] if name == "circuit_result" else name
            answers[kind] = answers.get(kind, 0) + 1
        found = checker.report(over=True, history=self._history).violations
        everything = digest(*self._records("events"), *self._records("results"), *self._records("reductions"))
        return Outcome(found, self._story, answers, self._loop.time(), everything.hex())

    def _tell(self, line: str) -> None:
        self._story.append(f"{self._loop.time():9.3f} s  {line}")
