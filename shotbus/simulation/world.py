"""A seeded world: hosts of every role on one cluster, clients, a paid provider, faults. Pure."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from random import Random

from shotbus.broker.bus.base import Bus
from shotbus.broker.config import Config, PoolConfig
from shotbus.broker.dispatcher.service import DispatcherService
from shotbus.broker.inspection.inline import InlineInspector
from shotbus.broker.invariants import History, Violation
from shotbus.broker.telemetry import Metrics
from shotbus.broker.topics import Topics
from shotbus.broker.treasury.service import TreasuryService
from shotbus.reducers.service import ReducerService
from shotbus.schemas.openqasm import CircuitLimits
from shotbus.simulation.child import Leases, PaidChild, SimulatedAdapter, SimulatedChild
from shotbus.simulation.clients import Clients
from shotbus.simulation.cluster import SimulatedCluster
from shotbus.simulation.faults import FAULTS, Stage
from shotbus.simulation.features import MONEY, SLOWER, with_features
from shotbus.simulation.limits import passed_limits
from shotbus.simulation.loop import SimulatedClock, SimulatedLoop
from shotbus.simulation.network import Link, LinkedBus
from shotbus.simulation.process import Builder, Host, Service, owned_task
from shotbus.simulation.provider import Provider
from shotbus.simulation.requests import Requests, circuit_record
from shotbus.simulation.scenario import Outcome, Scenario
from shotbus.simulation.store import MoodyStore
from shotbus.simulation.story import Story
from shotbus.simulation.verdict import Verdict
from shotbus.workers.service import WorkerService
from shotbus.workers.settings import WorkerSettings

POOL, SLOW_POOL, PAID_POOL = "sim", "slow", "paid"
#: The read models are behind for no longer than this once everything is healed.
_PROJECTION_SECONDS = 20.0


class World:
    """Runs one scenario on a simulated loop."""

    def __init__(self, scenario: Scenario, loop: SimulatedLoop) -> None:
        loop.set_task_factory(owned_task)
        self._scenario, self._loop = scenario, loop
        self._random = Random(scenario.seed)  # noqa: S311 -- to be repeated, not to be secret
        self._bites: Counter[str] = Counter()
        self._story = Story()
        self._clock = SimulatedClock(loop)
        self._cluster = SimulatedCluster(clock=lambda: self._clock.wall_ms() / 1000)
        self._store = MoodyStore(loop.time, self._bites)
        self._topics = Topics("", partitions=2, work_partitions=2)
        self._config = _config()
        if scenario.in_full:
            self._config = with_features(self._config, paid=PAID_POOL, other=SLOW_POOL, timed=scenario.timed)
        price = self._config.pools[PAID_POOL].price
        self._provider = Provider(
            PAID_POOL, self._random, scenario.manners, self._bites, per_second=price.per_second
        )
        self._client_link = Link(self._random, self._bites)
        self._client_bus = LinkedBus(self._cluster, self._client_link)
        self._pools: dict[str, tuple[str, ...]] = {}
        self._hosts = self._make_hosts()
        self._clients = Clients(
            loop,
            self._client_bus,
            self._topics,
            random=self._random,
            requests=Requests(self._random, self._config, self._clock, features=scenario.in_full),
            history=History(complete=True),
            tell=self._tell,
        )

    async def run(self) -> Outcome:
        """Live through the scenario, come to rest, and look at what is on the topics."""
        scenario = self._scenario
        await self._client_bus.start()
        await self._store.start()
        await self._client_bus.create_topics(self._topics.specs(self._config.pools))
        await self._client_bus.publish([circuit_record(self._topics)])
        for host in self._hosts.values():
            await host.begin()
        await asyncio.gather(self._clients.submit_all(scenario.jobs, scenario.seconds), self._trouble())
        self._tell("world", "the trouble is over")
        verdict = Verdict(
            self._cluster,
            self._clients.history,
            self._provider.ledger,
            self._topics,
            healed_at=self._loop.time(),
            heal_seconds=scenario.heal_seconds,
            budgets=MONEY if scenario.in_full else None,
        )
        until = self._loop.time() + scenario.settle
        while self._loop.time() < until and not verdict.is_over():  # noqa: ASYNC110 -- simulated seconds are free
            await asyncio.sleep(1.0)
        ended_at = self._loop.time()
        stale = await self._catch_up(verdict)
        for host in self._hosts.values():
            await host.stop()
        return self._outcome(verdict, stale, ended_at)

    async def _catch_up(self, verdict: Verdict) -> list[Violation]:
        """Give the projectors a while; return what the store does not have right even then."""
        emptied, until = bool(self._bites["empty"]), self._loop.time() + _PROJECTION_SECONDS
        while True:
            stale = await verdict.stale_read_models(self._store, emptied=emptied)
            if not stale or self._loop.time() > until:
                return stale
            await asyncio.sleep(1.0)

    def _outcome(self, verdict: Verdict, stale: list[Violation], ended_at: float) -> Outcome:
        report = verdict.report()
        violations = [*report.violations, *stale, *self._beyond_limits()]
        story = [*self._story.lines, *verdict.lives(violations)]
        return Outcome(
            violations,
            story,
            dict(verdict.answers),
            dict(self._bites),
            dict(report.judged),
            ended_at,
            verdict.digest(),
        )

    def _beyond_limits(self) -> list[Violation]:
        ledgers = [log for place, log in self._cluster.kept.items() if place.topic == "jobs"]
        rows = [record for log in ledgers for _, record in log.everything()]
        return passed_limits(rows, self._config.limits.concurrency)

    # -- what lives -------------------------------------------------------------------------------

    def _make_hosts(self) -> dict[str, Host]:
        scenario = self._scenario
        hosts: dict[str, Host] = {}
        for number in range(scenario.dispatchers):
            hosts[f"dispatcher-{number}"] = self._host(f"dispatcher-{number}", self._dispatcher)
        for pool, count in ((POOL, scenario.workers), (SLOW_POOL, 1), (PAID_POOL, 2)):
            self._pools[pool] = tuple(f"{pool}-{number}" for number in range(count))
            for name in self._pools[pool]:
                hosts[name] = self._host(name, self._worker)
        for number in range(2 if scenario.in_full else 0):
            hosts[f"treasury-{number}"] = self._host(f"treasury-{number}", self._treasury)
        for number in range(scenario.reducers):
            hosts[f"reducer-{number}"] = self._host(f"reducer-{number}", self._reducer)
        return hosts

    def _host(self, name: str, build: Builder) -> Host:
        link, clock = Link(self._random, self._bites), SimulatedClock(self._loop)
        return Host(name, self._cluster, link=link, clock=clock, build=build, tell=self._tell)

    def _dispatcher(self, host: Host, bus: Bus) -> Service:
        return DispatcherService(
            f"{host.name}-{self._random.getrandbits(32):08x}",
            bus=bus,
            store=self._store,
            topics=self._topics,
            config=self._config,
            metrics=Metrics(role="dispatcher", version="simulated"),
            clock=host.clock,
            inspector=InlineInspector(CircuitLimits(bytes=self._config.limits.max_circuit_bytes)),
        )

    def _treasury(self, host: Host, bus: Bus) -> Service:
        metrics = Metrics(role="treasury", version="simulated")
        return TreasuryService(
            bus=bus, topics=self._topics, config=self._config, metrics=metrics, clock=host.clock
        )

    def _reducer(self, host: Host, bus: Bus) -> Service:
        metrics = Metrics(role="reducer", version="simulated")
        return ReducerService(
            bus=bus, store=self._store, topics=self._topics, metrics=metrics, clock=host.clock
        )

    def _worker(self, host: Host, bus: Bus) -> Service:
        from shotbus.roles import RunningService

        pool = host.name.rpartition("-")[0]
        settings = WorkerSettings(
            pool=pool,
            adapter=pool,
            worker=f"{host.name}-{self._random.getrandbits(32):08x}",
            slots=self._config.pools[pool].slots,
            attempt_seconds=min(20.0, self._config.pools[pool].attempt_seconds),
            awaits_grants=self._config.pools[pool].paid,
            stop_seconds=8.0,
        )
        random = Random(self._random.getrandbits(64))  # noqa: S311 -- as above
        leases = Leases(random)
        service = WorkerService(
            bus,
            self._store,
            self._topics,
            settings,
            clock=host.clock,
            adapter=SimulatedAdapter(pool, paid=pool == PAID_POOL),
            make_child=lambda: self._child(pool, random, host, leases),
            entropy=leases.draw,
        )
        return RunningService(service)

    def _child(self, pool: str, random: Random, host: Host, leases: Leases) -> SimulatedChild:
        temper = self._scenario.temper
        if self._scenario.timed:
            temper = replace(temper, seconds=SLOWER * temper.seconds)
        if pool == PAID_POOL:
            provider = self._provider
            return PaidChild(random, temper, host.clock, self._bites, provider=provider, leases=leases)
        if pool == SLOW_POOL:
            temper = replace(temper, seconds=4 * temper.seconds)
        return SimulatedChild(random, temper, host.clock, self._bites)

    # -- what happens -----------------------------------------------------------------------------

    async def _trouble(self) -> None:
        """Let faults strike at random moments; each heals by itself, and they overlap."""
        scenario = self._scenario
        if scenario.faults <= 0:
            return
        kinds = list(scenario.kinds or FAULTS)
        weights = [FAULTS[kind][0] for kind in kinds]
        stage = Stage(
            self._random,
            self._hosts,
            self._pools,
            self._client_link,
            self._clients,
            self._cluster,
            self._topics,
            self._store,
            self._provider,
            self._bites,
            self._tell,
            scenario.jump_seconds,
            scenario.victims,
        )
        async with asyncio.TaskGroup() as faults:
            await asyncio.sleep(self._random.expovariate(scenario.faults / 60))
            while self._loop.time() < scenario.seconds:
                kind = self._random.choices(kinds, weights)[0]
                faults.create_task(_strike(kind, stage))
                await asyncio.sleep(self._random.expovariate(scenario.faults / 60))

    def _tell(self, who: str, what: str) -> None:
        self._story.tell(self._loop.time(), who, what)


async def _strike(kind: str, stage: Stage) -> None:
    await FAULTS[kind][1](stage)


def _config() -> Config:
    """Return the default configuration with pools that simulated time suits."""
    pool = PoolConfig(adapter="faulty", kind="none", slots=1, lease_seconds=4.0, start_seconds=6.0)
    base = Config()
    pools = {
        POOL: pool,
        SLOW_POOL: replace(pool, seconds_per_point=0.04),
        PAID_POOL: replace(pool, kind="hardware", bundle_jobs=4),
    }
    return replace(base, pools=pools, routing=replace(base.routing, default=POOL))
