"""Processes by role: dispatcher, worker, reducer, or all in one. Composes what the folders offer."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Protocol

import structlog

from shotbus.ahead import templates_for
from shotbus.broker.bus.base import Bus
from shotbus.broker.config import Config
from shotbus.broker.connect import open_bus, open_store, parse_url, topics_for
from shotbus.broker.dispatcher.service import DispatcherService
from shotbus.broker.store.base import Store
from shotbus.broker.telemetry import Metrics
from shotbus.broker.topics import Topics
from shotbus.broker.treasury.service import TreasuryService
from shotbus.reducers.service import ReducerService
from shotbus.schemas.errors import Problem, ShotbusError
from shotbus.workers.adapters.base import load
from shotbus.workers.compiled.settings import CacheSettings
from shotbus.workers.parts import Limits
from shotbus.workers.service import WorkerService
from shotbus.workers.settings import WORKER_GAUGES, WorkerSettings

_log = structlog.get_logger()


class Service(Protocol):
    """Something that runs in a process until it is stopped."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    @property
    def failure(self) -> asyncio.Future[None]: ...


@dataclass(frozen=True, slots=True)
class Context:
    """What the services of one process share."""

    config: Config
    bus: Bus
    store: Store
    topics: Topics
    metrics: Metrics
    metrics_url: str | None
    name: str
    #: Of an embedded broker.
    data: Path | None = None


def process_name() -> str:
    """Return a name that no other process has."""
    return f"{socket.gethostname()}-{os.getpid()}-{os.urandom(2).hex()}"


@asynccontextmanager
async def process(url: str, config: Config, role: str) -> AsyncIterator[Context]:
    """Connect, make sure that the topics exist, serve metrics; disconnect at the end."""
    address = parse_url(url)
    topics = topics_for(address, config)
    bus, store = open_bus(address, config, client_id=f"shotbus-{role}"), open_store(address, config)
    metrics = Metrics(role=role, version=metadata.version("shotbus"))
    name = process_name()
    structlog.contextvars.bind_contextvars(role=role, process=name)
    await bus.start()
    try:
        await store.start()
        await bus.create_topics(topics.specs(config.pools))
        endpoint = metrics.serve(config.metrics)
        _log.info("connected", bus=bus.capabilities.name, metrics=endpoint)
        yield Context(config, bus, store, topics, metrics, endpoint, name, address.directory)
    finally:
        await bus.close()
        await store.close()


def dispatcher(context: Context) -> Service:
    """Build a dispatcher."""
    return DispatcherService(
        context.name,
        bus=context.bus,
        store=context.store,
        topics=context.topics,
        config=context.config,
        metrics=context.metrics,
    )


def broker(context: Context) -> list[Service]:
    """Build what a dispatcher process runs: where a budget is configured, a part of the Treasury too."""
    if not context.config.budgets:
        return [dispatcher(context)]
    return [treasury(context), dispatcher(context)]


def treasury(context: Context) -> Service:
    """Build a part of the Treasury."""
    return TreasuryService(
        bus=context.bus, topics=context.topics, config=context.config, metrics=context.metrics
    )


def reducer(context: Context) -> Service:
    """Build a reducer."""
    return ReducerService(
        bus=context.bus, store=context.store, topics=context.topics, metrics=context.metrics
    )


def adapter_problems(config: Config, pool: str) -> tuple[Problem, ...]:
    """Return what is wrong with a pool's adapter and its options; no SDK is imported for that."""
    settings = config.pools[pool]
    name = settings.adapter or pool
    try:
        told = load(name, settings.options, place=f"$.pools.{pool}.options").capabilities
    except ShotbusError as error:
        return error.problems
    # By the pool's kind, or by its price, the dispatcher knows that nothing may be sent twice there.
    if told.kind == "hardware" and settings.kind != "hardware":
        limit, hint = f"hardware: {name} is a QPU", f'write kind = "hardware" in [pools.{pool}]'
    elif told.paid and not settings.paid:
        limit, hint = f"hardware, or with a price: {name} costs", f"say how much in [pools.{pool}.price]"
    else:
        return ()
    return (Problem("SB-2002", f"$.pools.{pool}.kind", limit=limit, actual=settings.kind, hint=hint),)


def worker(context: Context, pool: str, *, slots: int | None = None) -> Service:
    """Build a worker of a pool; ``slots`` overrides the configuration."""
    settings = context.config.pools[pool]
    kept = CacheSettings.configured(context.config.workers, settings.compile, context.data, os.environ)
    told = WorkerSettings(
        pool=pool,
        adapter=settings.adapter or pool,
        worker=context.name,
        slots=slots or settings.slots,
        prefetch=settings.prefetch,
        attempt_seconds=settings.attempt_seconds,
        memory_bytes=settings.memory_mb << 20,
        revocation_seconds=max(600.0, settings.start_seconds),
        awaits_grants=settings.paid,
        timeouts=context.config.timeouts,
        limits=Limits(settings.max_in_flight, settings.rate_per_second, settings.burst),
        compile_cache=kept.directory,
        compile_cache_bytes=kept.max_bytes,
        compile_rule=kept.rule,
        templates=templates_for(pool, context.config),
        options=settings.options,
    )
    service = WorkerService(context.bus, context.store, context.topics, told)
    counters = service.counters
    context.metrics.export("worker", {"pool": pool}, lambda: dataclasses.asdict(counters), WORKER_GAUGES)
    return RunningService(service)


class Runnable(Protocol):
    """A service with one long call."""

    async def run(self) -> None: ...

    def stop(self) -> None: ...


class RunningService:
    """Gives a ``run()``-until-``stop()`` service the form of the others."""

    def __init__(self, inner: Runnable) -> None:
        """Wrap; needs a running loop."""
        self._inner = inner
        self._task: asyncio.Task[None] | None = None
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Begin to run."""
        self._task = asyncio.create_task(self._inner.run())
        self._task.add_done_callback(self._report)

    async def stop(self) -> None:
        """Stop gracefully and wait."""
        self._inner.stop()
        if self._task:
            await self._task

    def _report(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() and not self.failure.done():
            self.failure.set_exception(task.exception() or RuntimeError("worker ended"))


async def serve(
    services: list[Service], *, ready: Callable[[], None], until: Awaitable[object] | None = None
) -> None:
    """Run services until SIGTERM, SIGINT or ``until``; stop them in reverse order. A failure is raised."""
    stop = asyncio.get_running_loop().create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _resolve, stop)
    started: list[Service] = []
    try:
        for service in services:
            await service.start()
            started.append(service)
        _settle_memory()
        ready()
        ends = [stop, *(service.failure for service in started)]
        if until is not None:
            ends.append(asyncio.ensure_future(until))
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for future in done:
            future.result()
    finally:
        _log.info("stopping")
        for service in reversed(started):
            with contextlib.suppress(asyncio.CancelledError):
                await service.stop()


def _settle_memory() -> None:
    """Let the collector leave alone what stays for the life of the process, and look less often.

    At the default threshold it walked every micro-batch in the making: 6 % of a busy dispatcher's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
