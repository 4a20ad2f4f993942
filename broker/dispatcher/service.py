"""A dispatcher process: its shards, the credits it holds, what it advertises. I/O through the bus."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from shotbus.broker.bus.base import Bus, BusError, Outgoing, TopicPartition
from shotbus.broker.children.process import ChildStartError
from shotbus.broker.clock import Clock, SystemClock
from shotbus.broker.config import Config
from shotbus.broker.dispatcher.arbiter import Dealt
from shotbus.broker.dispatcher.breaker import Gate
from shotbus.broker.dispatcher.credits import CreditBook
from shotbus.broker.dispatcher.edge import DispatcherEdge
from shotbus.broker.dispatcher.health import PoolState
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Credit
from shotbus.broker.dispatcher.peers import Peers
from shotbus.broker.dispatcher.recalls import RecallDesk
from shotbus.broker.dispatcher.window import Windows
from shotbus.broker.host import ShardHost
from shotbus.broker.inspection.inline import Inspecting
from shotbus.broker.inspection.inspector import Inspector
from shotbus.broker.inspection.service import InspectionDesk
from shotbus.broker.pools import PoolsTail
from shotbus.broker.runner import RunnerSettings, ShardRunner
from shotbus.broker.store.base import Store
from shotbus.broker.telemetry import Metrics
from shotbus.broker.topics import Topics
from shotbus.schemas.codec import encode

_log = structlog.get_logger()
ADVERTISE_SECONDS = 0.5
DEAD_LETTERS_SECONDS = 2.0


class DispatcherService:
    """Runs the shards this process is given.

    Args:
        name: unique among the dispatchers; workers grant credits to it.
        bus: started bus whose topics exist.
        store: result cache.
        topics: names and partition count.
        config: everything that can be configured.
        metrics: of this process.
        clock: None is this machine's.
        inspector: looks at circuits; None starts the process that [inspection] asks for.

    """

    def __init__(
        self,
        name: str,
        *,
        bus: Bus,
        store: Store,
        topics: Topics,
        config: Config,
        metrics: Metrics,
        clock: Clock | None = None,
        inspector: Inspecting | None = None,
    ) -> None:
        self._name, self._bus, self._store, self._topics = name, bus, store, topics
        self._config, self._metrics = config, metrics
        self._clock = clock or SystemClock()
        self._book = CreditBook(name)
        self._peers = Peers(config, topics.partitions)
        adaptive = {name: pool.flow for name, pool in config.pools.items() if pool.flow.adaptive}
        self._windows = Windows(adaptive)
        self._tail = PoolsTail(bus, topics, self._learn, self._clock)
        self._tasks: list[asyncio.Task[None]] = []
        self._inspector = inspector or Inspector.configured(config)
        self._desk = InspectionDesk(bus=bus, store=store, topics=topics, inspector=self._inspector)
        self._recalls = RecallDesk(bus=bus, store=store, topics=topics)
        metrics.export("inspection", {}, lambda: dataclasses.asdict(self._desk.counters))
        if isinstance(self._inspector, Inspector):
            looked = self._inspector.counters
            metrics.export("inspector", {}, lambda: dataclasses.asdict(looked))
        self._host = ShardHost(
            bus,
            group=topics.name("dispatchers"),
            topic=topics.name("shards"),
            make_runner=self._make_runner,
        )
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for part in (self._host.failure, self._desk.failure, self._recalls.failure):
            part.add_done_callback(self._fail)

    def _fail(self, part: asyncio.Future[None]) -> None:
        error = None if part.cancelled() else part.exception()
        if error is not None and not self._failure.done():
            self._failure.set_exception(error)

    async def start(self) -> None:
        """Begin to advertise and join the group."""
        await self._advertise()
        self._tasks = [
            asyncio.create_task(self._keep(self._tail.run, "pools tail")),
            asyncio.create_task(self._keep(self._advertise_for_ever, "advertising")),
            asyncio.create_task(self._keep(self._watch_dead_letters, "counting dead letters")),
        ]
        await self._desk.start()
        await self._recalls.start()
        if isinstance(self._inspector, Inspector) and self._config.inspection.mode != "off":
            # Else the first circuit would wait for the process.
            self._tasks.append(asyncio.create_task(self._warm(self._inspector)))
        await self._host.start()

    async def _warm(self, inspector: Inspector) -> None:
        try:
            await inspector.start()
        except ChildStartError as error:
            _log.warning("no inspection process yet", error=str(error))

    async def stop(self) -> None:
        """Hand the shards over, withdraw the advertisement."""
        await self._host.stop()
        await self._desk.stop()
        await self._recalls.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._bus.publish([Outgoing(self._topics.name("pools"), 0, self._key, None)])

    @property
    def failure(self) -> asyncio.Future[None]:
        """Fails when a shard's task, or the inspection desk, ended by a defect."""
        return self._failure

    def machines(self) -> list[Dispatcher]:
        """Return the machines of the shards that are held now."""
        edges = (runner.edge for runner in self._host.runners.values())
        return [edge.machine for edge in edges if isinstance(edge, DispatcherEdge)]

    def _make_runner(self, shard: int) -> ShardRunner:
        return ShardRunner(
            self._bus,
            lambda: self._make_edge(shard),
            shard=f"{self._topics.name('dispatcher')}-{shard}",
            dead_letters=TopicPartition(self._topics.name("dead-letters"), shard),
            clock=self._clock,
            settings=RunnerSettings(),
        )

    def _make_edge(self, shard: int) -> DispatcherEdge:
        edge = DispatcherEdge(
            shard,
            bus=self._bus,
            store=self._store,
            topics=self._topics,
            config=self._config,
            free_credits=partial(self._free, shard),
            metrics=self._metrics,
            clock=self._clock,
            answered=self._windows.answered,
            adverts=lambda: self._book.workers(self._clock.monotonic()),
            ask=self._desk.ask,
            recall=self._recalls.ask,
            calibration=self._book.calibration,
        )
        self._peers.join(edge.machine.shard)
        return edge

    def _free(self, shard: int) -> Mapping[str, Sequence[Credit]]:
        """Return the credits that are a shard's due; the others are called for theirs."""
        return self._deal(shard).credits

    def _deal(self, shard: int | None) -> Dealt:
        held = [
            (runner.edge.machine, runner.now())
            for runner in self._host.runners.values()
            if isinstance(runner.edge, DispatcherEdge)
        ]
        dealt = self._peers.ask(
            shard,
            self._idle([machine for machine, _ in held]),
            ((machine.shard, now) for machine, now in held),
            now=self._clock.monotonic(),
        )
        for other in dealt.others:
            self._host.runners[other].wake()
        return dealt

    def _idle(self, machines: Sequence[Dispatcher]) -> dict[str, Sequence[Credit]]:
        loads = [machine.load() for machine in machines]
        used: dict[str, int] = {}
        for load in loads:
            for (pool, _), count in load.items():
                used[pool] = used.get(pool, 0) + count
        return self._windows.trim(self._book.free(loads, self._clock.monotonic()), used)

    def _learn(self, key: bytes, fields: Mapping[str, Any] | None, heard: float) -> None:
        """Take an advertisement; who waits for its credits need not wait until it looks."""
        self._book.learn(key, fields, heard)
        if fields is not None and fields["role"] == "worker":
            self._deal(None)

    @property
    def _key(self) -> bytes:
        return f"d/{self._name}".encode()

    async def _keep(self, work: Any, what: str) -> None:
        """Repeat a task while the bus comes and goes."""
        while True:
            try:
                await work()
            except BusError as error:
                _log.warning("bus away", task=what, error=str(error))
                await asyncio.sleep(ADVERTISE_SECONDS)

    async def _advertise_for_ever(self) -> None:
        while True:
            before = self._clock.monotonic()
            await asyncio.sleep(ADVERTISE_SECONDS)
            self._metrics.lag.set(max(0.0, self._clock.monotonic() - before - ADVERTISE_SECONDS))
            await self._advertise()

    async def _watch_dead_letters(self) -> None:
        while True:
            await asyncio.sleep(DEAD_LETTERS_SECONDS)
            topic = self._topics.name("dead-letters")
            places = [TopicPartition(topic, shard) for shard in self._host.runners]
            begins, ends = await self._bus.begins(places), await self._bus.ends(places)
            self._metrics.dlq_depth.set(sum(max(0, ends[place] - begins[place]) for place in places))

    async def _advertise(self) -> None:
        self._peers.keep(self._host.runners)
        machines = self.machines()
        backlog: dict[str, float] = {}
        depth: dict[str, int] = {}
        for machine in machines:
            for pool, (jobs, seconds) in machine.waiting().items():
                backlog[pool] = backlog.get(pool, 0.0) + seconds
                depth[pool] = depth.get(pool, 0) + jobs
        self._gauge(machines, backlog)
        fields = {
            "role": "dispatcher",
            "name": self._name,
            "pool": "",
            "state": "ready",
            "partitions": [],
            "slots": 0,
            "prefetch": 0,
            "grants": {},
            "backlog": {pool: seconds for pool, seconds in backlog.items() if seconds},
            "depth": {pool: jobs for pool, jobs in depth.items() if jobs},
            "best_class": self._best_classes(machines),
            "done": 0,
            "failed": 0,
            "service_seconds": 0.0,
            "kind": "",
            "version": "",
            "at_ms": self._clock.wall_ms(),
        }
        await self._bus.publish(
            [Outgoing(self._topics.name("pools"), 0, self._key, encode("pool_status", fields))]
        )

    @staticmethod
    def _best_classes(machines: Sequence[Dispatcher]) -> dict[str, int]:
        found: dict[str, int] = {}
        for machine in machines:
            for pool, queue in machine.shard.queues.items():
                if (rank := queue.best_rank()) is not None:
                    found[pool] = min(rank, found.get(pool, rank))
        return found

    def _gauge(self, machines: Sequence[Dispatcher], backlog: Mapping[str, float]) -> None:
        free = self._idle(machines)
        alive = Counter(worker["pool"] for worker in self._book.workers(self._clock.monotonic()))
        for pool, settings in self._config.pools.items():
            used = sum(n for machine in machines for (name, _), n in machine.load().items() if name == pool)
            room = sum(credit.bundles for credit in free.get(pool, ()))
            self._metrics.queue_seconds.labels(pool).set(backlog.get(pool, 0.0))
            self._metrics.inflight.labels(pool, settings.kind).set(used)
            self._metrics.window.labels(pool, settings.kind).set(used + room)
            self._metrics.health.labels(pool, settings.kind).set(alive[pool])
            self._gauge_pool(pool, settings.kind, machines)
        now_us = self._clock.wall_ms() * 1000
        for priority in self._config.classes:
            accepted = [oldest for one in machines if (oldest := one.oldest_us(priority)) is not None]
            age = max(0.0, (now_us - min(accepted, default=now_us)) / 1e6)
            self._metrics.oldest.labels(priority).set(age)
        runners = self._host.runners.values()
        idle = [self._clock.monotonic() - runner.last_progress for runner in runners]
        self._metrics.progress.set(max(idle, default=0.0))

    def _gauge_pool(self, pool: str, kind: str, machines: Sequence[Dispatcher]) -> None:
        """Show what waits for a pool, by class, and as what the shards see it."""
        metrics, guards = self._metrics, [machine.shard.guard for machine in machines]
        queues = [one.shard.queues[pool].depths() for one in machines if pool in one.shard.queues]
        for priority in self._config.classes:
            waiting = sum(depths.get(priority, (0, 0.0))[0] for depths in queues)
            metrics.queue_depth.labels(pool, priority).set(waiting)
        metrics.backpressure.labels(pool).set(any(guard.shedder.engaged(pool) for guard in guards))
        gates = Counter(guard.breakers.view(pool, 0.0).gate for guard in guards)
        for gate in Gate:
            metrics.breaker_state.labels(pool, kind, gate.value).set(gates[gate])
        states = Counter(health.state for guard in guards if (health := guard.health(pool)))
        for state in PoolState:
            metrics.pool_state.labels(pool, kind, state.value).set(states[state])
