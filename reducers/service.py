"""A reducer process: folds of the sweeps of its shards, and the projector of read models."""

from __future__ import annotations

import asyncio
from collections import Counter

from shotbus.broker.bus.base import Bus, TopicPartition
from shotbus.broker.clock import Clock, SystemClock
from shotbus.broker.host import ShardHost
from shotbus.broker.runner import ShardRunner
from shotbus.broker.store.base import Store
from shotbus.broker.telemetry import Metrics
from shotbus.broker.topics import Topics
from shotbus.reducers.fold_edge import FoldEdge
from shotbus.reducers.projector import Projector


class ReducerService:
    """Runs the folds this process is given, and a projector.

    Args:
        bus: started bus whose topics exist.
        store: started store, written by the projector alone.
        topics: names and partition count.
        metrics: of this process.
        clock: None is this machine's.

    """

    def __init__(
        self, *, bus: Bus, store: Store, topics: Topics, metrics: Metrics, clock: Clock | None = None
    ) -> None:
        self._bus, self._topics, self._clock = bus, topics, clock or SystemClock()
        self._observe = metrics.stage.labels("reduce").observe
        self._ended: Counter[str] = Counter()
        self._counting: dict[int, Counter[str]] = {}
        metrics.export("reducer", {}, self._counts)
        self._projector = Projector(bus, store, topics, metrics.deviation.observe)
        self._task: asyncio.Task[None] | None = None
        self._host = ShardHost(
            bus, group=topics.name("reducers"), topic=topics.name("shards"), make_runner=self._make_runner
        )
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._host.failure.add_done_callback(self._fail)

    def _fail(self, part: asyncio.Future[None]) -> None:
        error = None if part.cancelled() else part.exception()
        if error is not None and not self._failure.done():
            self._failure.set_exception(error)

    async def start(self) -> None:
        """Join both groups."""
        self._task = asyncio.create_task(self._projector.run(), name="projector")
        self._task.add_done_callback(self._fail)
        await self._host.start()

    async def stop(self) -> None:
        """Hand everything over."""
        await self._host.stop()
        self._projector.stop()
        if self._task:
            await asyncio.wait([self._task])  # how it ended has been told by ``failure``

    @property
    def failure(self) -> asyncio.Future[None]:
        """Fails when a shard's task or the projector ended by a defect, or another process has its place."""
        return self._failure

    def _make_runner(self, shard: int) -> ShardRunner:
        return ShardRunner(
            self._bus,
            lambda: self._make_edge(shard),
            shard=f"{self._topics.name('reducer')}-{shard}",
            dead_letters=TopicPartition(self._topics.name("dead-letters"), shard),
            clock=self._clock,
        )

    def _make_edge(self, shard: int) -> FoldEdge:
        """Make the edge of a shard that was taken; what its fold before counted here stays counted."""
        edge = FoldEdge(self._topics, shard, self._observe)
        self._ended.update(self._counting.get(shard, {}))
        self._counting[shard] = edge.machine.stats
        return edge

    def _counts(self) -> dict[str, float]:
        """Return shards by fate over all folds of this process so far, and records read by the projector."""
        shards = sum(self._counting.values(), self._ended.copy())
        records = self._projector.stats
        return {
            **{f"records_{name}": count for name, count in records.items()},
            **{f"shards_{name}": count for name, count in shards.items()},
        }
