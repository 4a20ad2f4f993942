"""The Treasury's process part: runs the shards it is given. I/O through the bus."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

from shotbus.broker.bus.base import Bus, TopicPartition
from shotbus.broker.clock import Clock, SystemClock
from shotbus.broker.config import BudgetConfig, Config
from shotbus.broker.host import ShardHost
from shotbus.broker.runner import ShardRunner
from shotbus.broker.telemetry import Metrics
from shotbus.broker.topics import Topics
from shotbus.broker.treasury.budgets import Budgets, is_gauge
from shotbus.broker.treasury.edge import TreasuryEdge
from shotbus.broker.treasury.machine import STATS, Passed
from shotbus.broker.treasury.prices import MICRO


def thresholds(budgets: Mapping[str, BudgetConfig]) -> list[Passed]:
    """Return the thresholds that are configured, each once; what is counted at a time has none."""
    spent = {name: config for name, config in budgets.items() if not is_gauge(config.resource)}
    return sorted({Passed(name, float(part)) for name, config in spent.items() for part in config.alerts})


class TreasuryService:
    """Runs shards of the Treasury; every dispatcher process has one where a budget is configured.

    Its group is its own; its shards are dealt out by the membership topic ``shards``, as the dispatcher's.

    Args:
        bus: started bus whose topics exist.
        topics: names and partition count.
        config: its budgets are taken.
        metrics: of this process.
        clock: None is this machine's.

    """

    def __init__(
        self, *, bus: Bus, topics: Topics, config: Config, metrics: Metrics, clock: Clock | None = None
    ) -> None:
        self._bus, self._topics, self._clock = bus, topics, clock or SystemClock()
        self._budgets = Budgets(config.budgets)
        self._ended: Counter[str | Passed] = Counter()
        self._counting: dict[int, Counter[str | Passed]] = {}
        metrics.export("treasury", {}, lambda: {word: self._count(word) for word in STATS})
        for passed in thresholds(config.budgets):
            # A threshold that nobody has passed is shown as 0: an alert needs something to grow.
            metrics.export(
                "treasury",
                {"budget": passed.budget, "threshold": str(float(passed.part))},
                lambda passed=passed: {"alert": self._count(passed)},  # type: ignore[misc]  # mypy cannot infer it
            )
        for resource in sorted({budget.resource for budget in config.budgets.values()}):
            metrics.export(
                "budget",
                {"resource": resource},
                lambda resource=resource: self._spent(resource),  # type: ignore[misc]  # mypy cannot infer it
                {"spent_units"},
            )
        self._host = ShardHost(
            bus, group=topics.name("treasurers"), topic=topics.name("shards"), make_runner=self._make_runner
        )

    async def start(self) -> None:
        """Join the group."""
        await self._host.start()

    async def stop(self) -> None:
        """Hand the shards over."""
        await self._host.stop()

    @property
    def failure(self) -> asyncio.Future[None]:
        """Fails when a shard's task ended by a defect."""
        return self._host.failure

    def edges(self) -> list[TreasuryEdge]:
        """Return the edges of the shards that are held now."""
        edges = (runner.edge for runner in self._host.runners.values())
        return [edge for edge in edges if isinstance(edge, TreasuryEdge)]

    def _make_runner(self, shard: int) -> ShardRunner:
        return ShardRunner(
            self._bus,
            lambda: self._make_edge(shard),
            shard=f"{self._topics.name('treasury')}-{shard}",
            dead_letters=TopicPartition(self._topics.name("dead-letters"), shard),
            clock=self._clock,
        )

    def _make_edge(self, shard: int) -> TreasuryEdge:
        """Make the edge of a shard that was taken; what its machine before counted here stays counted."""
        edge = TreasuryEdge(self._topics, shard, self._budgets)
        self._ended.update(self._counting.get(shard, {}))
        self._counting[shard] = edge.machine.stats
        return edge

    def _count(self, what: str | Passed) -> int:
        """Return how often the shards did something."""
        return self._ended[what] + sum(stats[what] for stats in self._counting.values())

    def _spent(self, resource: str) -> dict[str, float]:
        """Return what was spent in the present periods, in currency units, seconds, shots."""
        now_ms = self._clock.wall_ms()
        units = sum(edge.machine.spent(now_ms).get(resource, 0) for edge in self.edges())
        return {"spent_units": units / MICRO if resource in ("money", "backend_seconds") else units}
