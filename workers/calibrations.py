"""Calibration snapshots that outcomes name: on the bus before those are. Publishes, waits for the bus.

A snapshot is kept under its content address, so that it outlives the worker, its backend and the store; who
publishes it again changes nothing. Each worker does so once, and again after half of what it is kept for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from shotbus.broker.bus.base import Bus, BusError, Outgoing, RecordTooLargeError, UnknownTopicError
from shotbus.broker.clock import Clock
from shotbus.broker.lru import Lru
from shotbus.broker.topics import CALIBRATION_MS, Topics
from shotbus.schemas.codec import encode
from shotbus.schemas.ids import keyed_partition
from shotbus.workers.adapters.base import content_address
from shotbus.workers.settings import WorkerCounters

_log = structlog.get_logger(__name__)
_KEPT = 1_024
_AGAIN_MS = CALIBRATION_MS // 2
_WAIT_SECONDS = 0.5


class Calibrations:
    """Those of one pool.

    Args:
        bus: started bus.
        topics: names and partition count.
        clock: for their times.
        counters: of the worker.
        pool: whose they are.
        executed_on: the backend's name as its provider writes it.

    """

    def __init__(
        self,
        bus: Bus,
        topics: Topics,
        clock: Clock,
        counters: WorkerCounters,
        *,
        pool: str,
        executed_on: str,
    ) -> None:
        self._bus, self._topics, self._clock, self._counters = bus, topics, clock, counters
        self._head = {"pool": pool, "backend": executed_on}
        self._kept: Lru[str, int] = Lru(_KEPT)
        self._pending: dict[str, Outgoing] = {}
        self._publishing = asyncio.Lock()

    def learn(self, calibration_id: str, snapshot: bytes) -> None:
        """Take a snapshot that an outcome will name, unless it is not what it is called by."""
        now_ms = self._clock.wall_ms()
        kept_ms = self._kept.get(calibration_id)
        if kept_ms is not None and now_ms - kept_ms < _AGAIN_MS:
            return
        if content_address(snapshot) != calibration_id:
            _log.warning("a calibration is not what it is called by", calibration=calibration_id)
            return
        fields = {
            **self._head,
            "calibration_id": calibration_id,
            "snapshot": snapshot,
            "at_us": now_ms * 1000,
        }
        partition = keyed_partition(calibration_id, self._topics.partitions)
        self._pending[calibration_id] = Outgoing(
            self._topics.name("calibrations"),
            partition,
            calibration_id.encode(),
            encode("calibration", fields),
        )

    async def keep(self) -> None:
        """Return when all that were learnt are durable; at once when there are none."""
        if not self._pending:
            return
        async with self._publishing:
            for name in list(self._pending):
                await self._publish([self._pending[name]])
                self._kept.put(name, self._clock.wall_ms())
                del self._pending[name]

    async def _publish(self, records: Sequence[Outgoing]) -> None:
        while True:
            try:
                await self._bus.publish(records)
            except (RecordTooLargeError, UnknownTopicError) as error:
                # No waiting would help, and the outcome is worth more than what it was measured under.
                _log.warning("a calibration is not kept", error=str(error))
                return
            except BusError as error:
                self._counters.bus_errors += 1
                _log.warning("a calibration is not kept yet", error=str(error))
                await asyncio.sleep(_WAIT_SECONDS)
            else:
                return
