"""Tailing ``pools``: who is there, how much room they have. Reads the bus.

Dispatchers learn credits from it, the command line shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from shotbus.broker.bus.base import Bus, Record, TopicPartition
from shotbus.broker.bus.scan import scan
from shotbus.broker.topics import Topics
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import ShotbusError

_log = structlog.get_logger()
Learn = Callable[[bytes, Mapping[str, Any] | None, int], None]


class PoolsTail:
    """Feeds every advertisement to ``learn(key, fields or None, timestamp_ms)``, oldest first."""

    def __init__(self, bus: Bus, topics: Topics, learn: Learn) -> None:
        self._bus, self._learn = bus, learn
        self._partition = TopicPartition(topics.name("pools"), 0)

    async def catch_up(self) -> None:
        """Read what is there now and return."""
        async for records in scan(self._bus, await self._bus.begins([self._partition])):
            self._take_all(records)

    async def run(self) -> None:
        """Read for ever. Raises BusError when the bus is away."""
        reader = self._bus.reader(await self._bus.begins([self._partition]))
        try:
            while True:
                self._take_all(await reader.poll(max_records=1_000, timeout=1.0))
        finally:
            await reader.close()

    def _take_all(self, records: Sequence[Record]) -> None:
        for record in records:
            self._take(record.key or b"", record.value, record.timestamp_ms)

    def _take(self, key: bytes, value: bytes | None, timestamp_ms: int) -> None:
        if value is None:
            self._learn(key, None, timestamp_ms)
            return
        try:
            self._learn(key, decode(value, "pool_status")[1], timestamp_ms)
        except ShotbusError as error:
            _log.warning("unreadable advertisement", key=key[:80], error=str(error))
