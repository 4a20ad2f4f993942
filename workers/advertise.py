"""A worker's advertisement: what it is, how its backend is, to whom it grants credits. Writes to the bus.

Where the pool has limits of its provider, the worker's claim to a part of them stands among the grants,
under :data:`OWN`; no dispatcher is called so.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import cache
from importlib import metadata
from typing import Any

import structlog

from shotbus.broker.bus.base import Bus, BusError, Outgoing
from shotbus.broker.clock import Clock
from shotbus.broker.topics import Topics
from shotbus.schemas.codec import encode
from shotbus.workers.adapters.base import AdapterCapabilities, BackendState
from shotbus.workers.credits import Dispatchers, share_credits
from shotbus.workers.parts import Parts, Turnstile
from shotbus.workers.settings import WorkerCounters, WorkerSettings

_log = structlog.get_logger(__name__)
#: Where the claimed units of the pool's limits stand among the grants.
OWN = ""
HEALTHY = BackendState()


class Advertiser:
    """Publishes a PoolStatus at every change and at least once a period.

    ``backend``: how it is; None until :meth:`sensed` says it for the first time, and nothing is published
    before. While it can run nothing no credits are granted.
    """

    def __init__(
        self,
        bus: Bus,
        topics: Topics,
        settings: WorkerSettings,
        *,
        capabilities: AdapterCapabilities,
        counters: WorkerCounters,
        clock: Clock,
        backend: BackendState | None = HEALTHY,
        compiles: bool = False,
    ) -> None:
        self._bus = bus
        self._topic = topics.name("pools")
        self._backend = backend
        self._compiles = compiles
        self._known = asyncio.Event()
        if backend is not None:
            self._known.set()
        self._settings = settings
        self._capabilities = capabilities
        self._counters = counters
        self._clock = clock
        self._dispatchers = Dispatchers(settings.dispatcher_silent_seconds)
        units, now = settings.limits.units, clock.monotonic()
        self._parts = Parts(settings.worker, units, settings.part_times)
        self._turnstile = Turnstile(settings.limits, self._parts, now) if units else None
        self._written = 0
        self._partitions: list[int] = []
        self._state = "ready"
        self._turn = 0
        self._grants: Mapping[str, int] = {}
        self._due = asyncio.Event()
        self._news = asyncio.Event()

    def learn(self, key: bytes, status: Mapping[str, Any] | None, heard: float) -> None:
        """Take another's advertisement, or this worker's own, ``heard`` at this monotonic time."""
        self._dispatchers.learn(key, status, heard)
        if self._turnstile is not None:
            self._learn_part(key, status, heard)
        elif not key.startswith(b"d/"):
            return  # another worker's word changes nothing: every one of a large pool is heard every second
        if self._told() != self._grants:
            self._due.set()

    def _learn_part(self, key: bytes, status: Mapping[str, Any] | None, heard: float) -> None:
        role, _, rest = key.decode("utf-8", "replace").partition("/")
        pool, _, name = rest.partition("/")
        if role != "w" or pool != self._settings.pool:
            return
        now = self._clock.monotonic()
        if name == self._settings.worker:
            if status is not None:
                self._parts.echoed(status["at_ms"], now)
        elif status is None:
            self._parts.gone(name)
        else:
            # Whoever does not take part in the division may run anything.
            claim = status["grants"].get(OWN, self._settings.limits.units)
            ready = status["state"] == "ready" and not status.get("unhealthy")
            self._parts.learn(name, claim, now, ready=ready, heard=heard)
        self._news.set()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """Wait until the provider's limits let one more bundle of this worker begin; hold its place.

        Gives False when the worker drains before: the bundle must not begin here any more.
        """
        if self._turnstile is None:
            yield True
            return
        while self._state == "ready" and not self._turnstile.begin(self._clock.monotonic()):
            await self._wait_for_turn(self._turnstile)
        if self._state != "ready":
            yield False
            return
        try:
            yield True
        finally:
            self._turnstile.end()
            self._news.set()
            if self._told() != self._grants:
                self._due.set()

    async def _wait_for_turn(self, turnstile: Turnstile) -> None:
        """Wait for news or as long as the rate demands; all who wait look again."""
        seconds = turnstile.wait(self._clock.monotonic())
        self._news.clear()
        try:
            async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                await self._news.wait()
        except TimeoutError:
            return

    def set_partitions(self, partitions: Sequence[int]) -> None:
        """Take note of the partitions that are read from now on."""
        if list(partitions) != self._partitions:
            self._partitions = list(partitions)
            self._due.set()

    def sensed(self, backend: BackendState) -> None:
        """Take note of how the backend is; what is new is told at once."""
        if backend != self._backend:
            if self._backend is None or backend.unhealthy != self._backend.unhealthy:
                _log.info("backend", pool=self._settings.pool, state=backend.unhealthy or "healthy")
            self._backend = backend
            self._known.set()
            self._due.set()
            self._news.set()

    @property
    def _ready(self) -> bool:
        """Whether bundles are taken."""
        return self._state == "ready" and self._backend is not None and not self._backend.unhealthy

    async def run(self) -> None:
        """Advertise for ever. Raises BusError."""
        await self._known.wait()
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
        self._news.set()
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
        if not self._ready:
            return {}
        settings, now = self._settings, self._clock.monotonic()
        total = settings.inline_bundles if self._capabilities.inline else settings.slots + settings.prefetch
        if self._turnstile is not None:
            total = self._turnstile.credits(total, now)
        return share_credits(total, self._dispatchers.backlogs(settings.pool, now), self._turn)

    def _told(self) -> dict[str, int]:
        """Return what the advertisement says of credits: those of the dispatchers, and the own claim."""
        if self._turnstile is None:
            return self._share()
        return {**self._share(), OWN: self._turnstile.wish(ready=self._ready)}

    def _stamp(self) -> int:
        """Return wall time that rises from record to record: own records are told apart by it."""
        self._written = max(self._written + 1, self._clock.wall_ms())
        return self._written

    def _status(self) -> bytes:
        stamp = self._stamp()
        if self._turnstile is not None:
            # Noted first: a lower claim binds from now on, credits included.
            claim = self._turnstile.wish(ready=self._ready)
            self._parts.published(stamp, claim, self._clock.monotonic())
        self._grants = self._told()
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
            "at_ms": stamp,
            "compiles": self._compiles,
            "errors": self._counters.error_rate,
            **asdict(self._backend or HEALTHY),
        }
        return encode("pool_status", fields)


@cache
def _version() -> str:
    """Return our version; its source is a file that is parsed anew by every call."""
    return metadata.version("shotbus")
