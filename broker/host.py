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
        self._leaving: set[asyncio.Task[None]] = set()
        self._membership: Membership | None = None
        self.runners: dict[int, ShardRunner] = {}
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Join the group; shards start as they are assigned."""
        self._membership = await self._bus.join(
            self._group, self._topic, on_assigned=self._assigned, on_revoked=self._revoked
        )

    async def stop(self) -> None:
        """Finish the running micro-batches, hand every shard over and leave."""
        await self._revoked(frozenset(self._tasks))
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=_STOP_SECONDS)
        if self._membership:
            await self._membership.leave()

    async def _assigned(self, shards: frozenset[int]) -> None:
        for shard in sorted(shards - set(self._tasks)):
            task = asyncio.create_task(self._run(shard), name=f"{self._group}-{shard}")
            self._tasks[shard] = task
            task.add_done_callback(self._report)

    async def _revoked(self, shards: frozenset[int]) -> None:
        """Tell the tasks to end; fencing protects a shard whose last commit is still on its way."""
        for shard in sorted(shards):
            task = self._tasks.pop(shard, None)
            if task:
                self._leaving.add(task)
                task.add_done_callback(self._leaving.discard)
                task.cancel()

    def _report(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() and not self.failure.done():
            self.failure.set_exception(task.exception() or RuntimeError(task.get_name()))

    async def _run(self, shard: int) -> None:
        runner = self._make(shard)
        self.runners[shard] = runner
        try:
            while True:
                await self._live(shard, runner)
                await asyncio.sleep(_RETRY_SECONDS)
        finally:
            self.runners.pop(shard, None)
            await asyncio.shield(runner.release())

    async def _live(self, shard: int, runner: ShardRunner) -> None:
        """Run one life of a shard; return when it must be taken again."""
        try:
            await runner.take()
            _log.info("shard taken", group=self._group, shard=shard)
            while True:
                await runner.step()
        except FencedError:
            _log.warning("shard fenced", group=self._group, shard=shard)
        except CommitUnknownError as error:
            _log.warning("commit unknown", group=self._group, shard=shard, error=str(error))
        except BusError as error:
            _log.warning("bus away", group=self._group, shard=shard, error=str(error))
