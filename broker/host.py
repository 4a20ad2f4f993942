"""Hosts shards: joins the group, runs one task a held shard, lets go when told. I/O through the bus."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from shotbus.broker.bus.base import Bus, BusError, CommitUnknownError, FencedError, Membership
from shotbus.broker.runner import ShardRunner

_log = structlog.get_logger()
_RETRY_SECONDS = 0.5
_STOP_SECONDS = 5.0
_STEP_SECONDS = 4.0
# Long enough for an eager rebalance to give a shard back, short enough not to keep dead state.
_GRACE_SECONDS = 3.0


class ShardHost:
    """One process's share of a group's shards.

    Args:
        bus: started bus.
        group: group name, the same in every process of this role.
        topic: the small membership topic whose partitions number the shards.
        make_runner: builds the runner of a shard number.

    """

    def __init__(
        self, bus: Bus, *, group: str, topic: str, make_runner: Callable[[int], ShardRunner]
    ) -> None:
        self._bus, self._group, self._topic, self._make = bus, group, topic, make_runner
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._allowed: dict[int, asyncio.Event] = {}
        self._farewells: dict[int, asyncio.TimerHandle] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._membership: Membership | None = None
        self._stopping = False
        self.runners: dict[int, ShardRunner] = {}
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Join the group; shards start as they are assigned."""
        self._membership = await self._bus.join(
            self._group,
            self._topic,
            on_assigned=self._assigned,
            on_revoked=self._revoked,
            on_lost=self._fail,
        )

    async def stop(self) -> None:
        """Finish the running micro-batches, hand every shard over and leave."""
        self._stopping = True
        for shard in list(self._tasks):
            self._let_go(shard)
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=_STOP_SECONDS)
        if self._membership:
            await self._membership.leave()

    async def _assigned(self, shards: frozenset[int]) -> None:
        if self._stopping:
            return
        for shard in sorted(shards):
            farewell = self._farewells.pop(shard, None)
            if farewell:
                farewell.cancel()
            if shard not in self._tasks:
                self._begin(shard)
            self._allowed[shard].set()

    def _begin(self, shard: int) -> None:
        self._allowed[shard] = asyncio.Event()
        task = asyncio.create_task(self._run(shard), name=f"{self._group}-{shard}")
        self._tasks[shard] = task
        task.add_done_callback(self._report)

    async def _revoked(self, shards: frozenset[int]) -> None:
        """Pause the shards; one that comes back soon keeps its state, as nobody has fenced it.

        Kafka's eager rebalance takes everything away and gives most of it back at once. A commit that
        is on its way is protected by fencing.
        """
        loop = asyncio.get_running_loop()
        for shard in sorted(shards & set(self._tasks)):
            self._allowed[shard].clear()
            if shard not in self._farewells:
                self._farewells[shard] = loop.call_later(_GRACE_SECONDS, self._let_go, shard)

    def _let_go(self, shard: int) -> None:
        farewell = self._farewells.pop(shard, None)
        if farewell:
            farewell.cancel()
        task = self._tasks.pop(shard, None)
        if task:
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
            task.cancel()

    def _report(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self.failure.done():
            self.failure.set_exception(error)

    async def _run(self, shard: int) -> None:
        runner, allowed = self._make(shard), self._allowed[shard]
        self.runners[shard] = runner
        try:
            while True:
                await allowed.wait()
                await self._live(shard, runner, allowed)
                await asyncio.sleep(_RETRY_SECONDS)
        finally:
            if self.runners.get(shard) is runner:
                del self.runners[shard]
            await asyncio.shield(self._release(shard, runner))

    async def _release(self, shard: int, runner: ShardRunner) -> None:
        try:
            await runner.release()
        except BusError as error:
            # The shard is gone either way; a bus that is away must not end the process with it.
            _log.warning("shard not closed", group=self._group, shard=shard, error=str(error))

    async def _live(self, shard: int, runner: ShardRunner, allowed: asyncio.Event) -> None:
        """Run one life of a shard; return when it must be taken again."""
        try:
            await runner.take()
            _log.info("shard taken", group=self._group, shard=shard)
            while True:
                await allowed.wait()
                await _whole_step(runner)
        except FencedError:
            _log.warning("shard fenced", group=self._group, shard=shard)
        except CommitUnknownError as error:
            _log.warning("commit unknown", group=self._group, shard=shard, error=str(error))
        except BusError as error:
            _log.warning("bus away", group=self._group, shard=shard, error=str(error))


async def _whole_step(runner: ShardRunner) -> None:
    """Run one micro-batch; when the task is cancelled meanwhile, the micro-batch is finished first.

    A transaction that is cut off stays open until the shard's next fence, and holds readers back so long.
    """
    step = asyncio.ensure_future(runner.step())
    try:
        await asyncio.shield(step)
    except asyncio.CancelledError:
        await asyncio.wait([step], timeout=_STEP_SECONDS)
        step.cancel()
        await asyncio.gather(step, return_exceptions=True)
        raise
