"""A simulated process: a bus of its own, one service, and every task that service started. Can be killed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import ContextVar
from typing import Any, Protocol

from shotbus.broker.bus.base import Bus
from shotbus.broker.bus.memory import MemoryBus, MemoryCluster

_OWNER: ContextVar[Process | None] = ContextVar("process", default=None)


class Service(Protocol):
    """What a process runs."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Process:
    """One life of a process.

    Args:
        name: for the story.
        cluster: its bus connects here.
        build: composes the service on the process's bus.

    """

    def __init__(self, name: str, cluster: MemoryCluster, build: Callable[[Bus], Service]) -> None:
        self.name = name
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self._bus = MemoryBus(cluster)
        self._build = build
        self._service: Service | None = None

    async def start(self) -> None:
        """Begin; returns when the service serves."""
        await self._inside(self._start)

    async def stop(self) -> None:
        """Stop gracefully, as SIGTERM would."""
        await self._inside(self._stop)

    async def kill(self) -> None:
        """End as SIGKILL would: the bus first, so that nothing more is said, then every task."""
        self._bus.kill()
        while self.tasks:
            doomed = list(self.tasks)
            for task in doomed:
                task.cancel()
            await asyncio.wait(doomed)

    def expire(self) -> None:
        """Have the groups declare it dead although it lives, as after a long pause."""
        self._bus.expire()

    async def _start(self) -> None:
        await self._bus.start()
        self._service = self._build(self._bus)
        await self._service.start()

    async def _stop(self) -> None:
        if self._service is not None:
            await self._service.stop()
        await self._bus.close()

    async def _inside(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run as a task of this process: whatever it starts belongs to it too."""
        token = _OWNER.set(self)
        try:
            task = asyncio.ensure_future(_call(work))
        finally:
            _OWNER.reset(token)
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


async def _call(work: Callable[[], Awaitable[None]]) -> None:
    await work()


def owned_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any] | Generator[Any, None, Any]
) -> asyncio.Task[Any]:
    """Make a task and note whose it is: the task factory of a simulated loop."""
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop)
    owner = _OWNER.get()
    if owner is not None:
        owner.tasks[task] = None
        task.add_done_callback(lambda done: owner.tasks.pop(done, None))
    return task
