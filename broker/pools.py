"""Tailing ``pools``: who is there, how much room they have. Reads the bus.

Dispatchers learn credits from it, the command line shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from shotbus.broker.bus.base import Bus, Record, TopicPartition
from shotbus.broker.bus.scan import scan
from shotbus.broker.clock import Clock, SystemClock
from shotbus.broker.topics import Topics
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import ShotbusError

_log = structlog.get_logger()
#: Takes key, fields (None when it was withdrawn) and the monotonic time at which it was news, in seconds.
Learn = Callable[[bytes, Mapping[str, Any] | None, float], None]


class PoolsTail:
    """Feeds every advertisement to ``learn``, oldest first.

    History is dated by its age on the bus, so that a worker long gone does not look alive. What comes while
    tailing is dated by its arrival, so that clocks of two hosts that differ make nobody look silent.
    """

    def __init__(self, bus: Bus, topics: Topics, learn: Learn, clock: Clock | None = None) -> None:
        self._bus, self._learn, self._clock = bus, learn, clock or SystemClock()
        self._partition = TopicPartition(topics.name("pools"), 0)

    async def catch_up(self) -> None:
        """Read what is there now and return."""
        async for records in scan(self._bus, await self._bus.begins([self._partition])):
            for record in records:
                self._take(record, self._clock.monotonic() - self._age(record))

    async def run(self) -> None:
        """Read for ever. Raises BusError when the bus is away."""
        history = (await self._bus.ends([self._partition]))[self._partition]
        reader = self._bus.reader(await self._bus.begins([self._partition]))
        try:
            while True:
                for record in await reader.poll(max_records=1_000, timeout=1.0):
                    age = self._age(record) if record.offset < history else 0.0
                    self._take(record, self._clock.monotonic() - age)
        finally:
            await reader.close()

    def _age(self, record: Record) -> float:
        return max(0.0, (self._clock.wall_ms() - record.timestamp_ms) / 1000)

    def _take(self, record: Record, heard: float) -> None:
        key = record.key or b""
        try:
            fields = None if record.value is None else decode(record.value, "pool_status")[1]
        except ShotbusError as error:
            _log.warning("unreadable advertisement", key=key[:80], error=str(error))
            return
        self._learn(key, fields, heard)
