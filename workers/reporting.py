"""Publishing outcomes and renewing leases. Writes to the bus.

A report is never given up while the service lives: the bus may be away for minutes, the lease is the
dispatcher's affair. A heartbeat is: the next one follows soon.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from shotbus.broker.bus.base import Bus, BusError, Outgoing
from shotbus.broker.clock import Clock
from shotbus.workers.outcomes import Claim
from shotbus.workers.settings import WorkerCounters

_log = structlog.get_logger(__name__)
_FIRST_WAIT = 0.05
_LONGEST_WAIT = 2.0
_HEARTBEATS_A_LEASE = 3


class Reporter:
    """Publishes on one topic, each bundle's records on its shard's partition."""

    def __init__(self, bus: Bus, topic: str, clock: Clock, counters: WorkerCounters) -> None:
        self._bus = bus
        self._topic = topic
        self._clock = clock
        self._counters = counters

    def outgoing(self, claim: Claim, shard: int, record: bytes) -> Outgoing:
        """Return an outcome record addressed to its shard."""
        return Outgoing(self._topic, shard, claim.bundle_id.encode(), record)

    async def send(self, records: Sequence[Outgoing]) -> None:
        """Publish, trying again for as long as it takes."""
        wait = _FIRST_WAIT
        while True:
            try:
                await self._bus.publish(records)
            except BusError as error:
                self._counters.bus_errors += 1
                _log.warning("outcome not published yet", error=str(error), wait=wait)
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
            else:
                return

    async def start(self, claim: Claim, shard: int) -> None:
        """Publish ``started``; it is durable when this returns."""
        record = claim.record("started", self._clock.wall_ms() * 1000)
        await self.send([self.outgoing(claim, shard, record)])

    async def renew_for_ever(self, claim: Claim, shard: int, lease_ms: int) -> None:
        """Publish a heartbeat every third of a lease until cancelled."""
        while True:
            await asyncio.sleep(lease_ms / 1000 / _HEARTBEATS_A_LEASE)
            record = claim.record("heartbeat", self._clock.wall_ms() * 1000)
            try:
                await self._bus.publish([self.outgoing(claim, shard, record)])
                self._counters.heartbeats += 1
            except BusError as error:
                self._counters.bus_errors += 1
                _log.warning("heartbeat not published", error=str(error))
