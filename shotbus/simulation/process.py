"""A simulated host and the process on it: link, clock, service, and every task it started. Can be killed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import ContextVar
from typing import Any, Protocol

from shotbus.broker.bus.base import Bus, BusError
from shotbus.broker.bus.memory import MemoryCluster
from shotbus.simulation.loop import SimulatedClock
from shotbus.simulation.network import SESSION_SECONDS, Impairment, Link, LinkedBus

_OWNER: ContextVar[Process | None] = ContextVar("process", default=None)
_RESTART_SECONDS = 1.0


class Service(Protocol):
    """What a process runs."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    @property
    def failure(self) -> asyncio.Future[None]: ...


class Process:
    """One life of a process.

    Args:
        bus: its own connection.
        build: composes the service on it.

    """

    def __init__(self, bus: LinkedBus, build: Callable[[Bus], Service]) -> None:
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.service: Service | None = None
        self._bus = bus
        self._build = build

    async def start(self) -> None:
        """Begin; returns when the service serves. Raises BusError."""
        await self._inside(self._start)

    async def stop(self) -> None:
        """Stop gracefully, as SIGTERM would. Raises BusError."""
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
        self.service = self._build(self._bus)
        await self.service.start()

    async def _stop(self) -> None:
        if self.service is not None:
            await self.service.stop()
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


Builder = Callable[["Host", Bus], Service]


class Host:
    """A place for one process after the other: its link and its clock outlive them.

    A process that ends by itself is started again, as an orchestrator would. ``busy`` while it is being
    started or stopped on purpose.

    Args:
        name: for the story.
        cluster: the bus.
        link: the way there.
        clock: its own.
        build: composes the service of each new process.
        tell: adds a line to the story.

    """

    def __init__(
        self,
        name: str,
        cluster: MemoryCluster,
        *,
        link: Link,
        clock: SimulatedClock,
        build: Builder,
        tell: Callable[[str, str], None],
    ) -> None:
        self.name, self.link, self.clock = name, link, clock
        self.process: Process | None = None
        self.busy = False
        self._cluster, self._build, self._tell = cluster, build, tell
        self._watch: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Start a process and keep one running."""
        while self.process is None:
            process = Process(LinkedBus(self._cluster, self.link), lambda bus: self._build(self, bus))
            try:
                await process.start()
            except BusError as error:
                self._tell(self.name, f"cannot start: {error}")
                await process.kill()
                await asyncio.sleep(_RESTART_SECONDS)
            else:
                self.process = process
        self._tell(self.name, "serves")
        self._watch = asyncio.ensure_future(self._keep(self.process))

    async def kill(self) -> None:
        """End the process at once."""
        process = self._leave()
        if process is not None:
            await process.kill()

    async def stop(self) -> None:
        """End the process gracefully; one that cannot say farewell ends all the same."""
        process = self._leave()
        if process is None:
            return
        try:
            await process.stop()
        except BusError as error:
            self._tell(self.name, f"stops without a farewell: {error}")
        await process.kill()

    async def impaired(self, one: Impairment, seconds: float) -> None:
        """Let something be wrong with the link for a while; a group forgets who is silent for long."""
        self.link.impair(one)
        try:
            early = min(seconds, SESSION_SECONDS)
            await asyncio.sleep(early)
            if seconds > early and self.link.silent and self.process is not None:
                self._tell(self.name, "is declared dead: it was silent")
                self.process.expire()
            await asyncio.sleep(seconds - early)
        finally:
            self.link.heal(one)

    def _leave(self) -> Process | None:
        process, self.process = self.process, None
        if self._watch is not None:
            self._watch.cancel()
        return process

    async def _keep(self, process: Process) -> None:
        """Start again what ends by itself."""
        assert process.service is not None
        await asyncio.wait([process.service.failure])
        error = process.service.failure.exception()
        self._tell(self.name, f"ends by itself: {error!r}")
        self.process = self._watch = None
        await process.kill()
        await asyncio.sleep(_RESTART_SECONDS)
        if not self.busy:
            await self.begin()


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
