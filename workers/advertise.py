"""A worker's advertisement: what it is, what it reads, to whom it grants credits. Writes to the bus."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from typing import Any

import structlog

from shotbus.broker.bus.base import Bus, BusError, Outgoing
from shotbus.broker.clock import Clock
from shotbus.broker.topics import Topics
from shotbus.schemas.codec import encode
from shotbus.workers.adapters.base import AdapterCapabilities
from shotbus.workers.credits import Dispatchers, share_credits
from shotbus.workers.settings import WorkerCounters, WorkerSettings

_log = structlog.get_logger(__name__)


class Advertiser:
    """Publishes a PoolStatus at every change and at least once a period."""

    def __init__(
        self,
        bus: Bus,
        topics: Topics,
        settings: WorkerSettings,
        *,
        capabilities: AdapterCapabilities,
        counters: WorkerCounters,
        clock: Clock,
    ) -> None:
        self._bus = bus
        self._topic = topics.name("pools")
        self._settings = settings
        self._capabilities = capabilities
        self._counters = counters
        self._clock = clock
        self._dispatchers = Dispatchers(settings.dispatcher_silent_seconds)
        self._partitions: list[int] = []
        self._state = "ready"
        self._turn = 0
        self._grants: Mapping[str, int] = {}
        self._due = asyncio.Event()

    def learn(self, key: bytes, status: Mapping[str, Any] | None, heard: float) -> None:
        """Take another's advertisement, ``heard`` at this monotonic time."""
        self._dispatchers.learn(key, status, heard)
        if self._share() != self._grants:
            self._due.set()

    def set_partitions(self, partitions: Sequence[int]) -> None:
        """Take note of the partitions that are read from now on."""
        if list(partitions) != self._partitions:
            self._partitions = list(partitions)
            self._due.set()

    async def run(self) -> None:
        """Advertise for ever. Raises BusError."""
        while True:
            self._due.clear()
            await self._publish()
            try:
                async with asyncio.timeout(self._settings.advertise_seconds):
                    await self._due.wait()
            except TimeoutError:
                # Only time moves the turn: a burst of changes must not deal the last credits around.
                self._turn += 1

    async def drain(self) -> None:
        """Say that no more bundles are taken; credits are withdrawn with it."""
        self._state = "draining"
        await self._try([Outgoing(self._topic, 0, self._settings.status_key, self._status())])

    async def withdraw(self) -> None:
        """Leave a tombstone."""
        await self._try([Outgoing(self._topic, 0, self._settings.status_key, None)])

    async def _publish(self) -> None:
        await self._bus.publish([Outgoing(self._topic, 0, self._settings.status_key, self._status())])

    async def _try(self, records: Sequence[Outgoing]) -> None:
        """On the way out nobody waits for the bus: silence says the same, a little later."""
        try:
            await self._bus.publish(records)
        except BusError as error:
            self._counters.bus_errors += 1
            _log.warning("could not advertise the stop", error=str(error))

    def _share(self) -> dict[str, int]:
        if self._state != "ready":
            return {}
        settings = self._settings
        total = settings.inline_bundles if self._capabilities.inline else settings.slots + settings.prefetch
        backlogs = self._dispatchers.backlogs(settings.pool, self._clock.monotonic())
        return share_credits(total, backlogs, self._turn)

    def _status(self) -> bytes:
        self._grants = self._share()
        settings = self._settings
        fields = {
            "role": "worker",
            "name": settings.worker,
            "pool": settings.pool,
            "state": self._state,
            "partitions": self._partitions,
            "slots": settings.slots,
            "prefetch": settings.prefetch,
            "grants": self._grants,
            "backlog": {},
            "done": self._counters.jobs_done,
            "failed": self._counters.jobs_failed,
            "service_seconds": self._counters.service_seconds,
            "kind": self._capabilities.kind,
            "version": _version(),
            "at_ms": self._clock.wall_ms(),
        }
        return encode("pool_status", fields)


@cache
def _version() -> str:
    """Return our version; its source is a file that is parsed anew by every call."""
    return metadata.version("shotbus")
