"""Tailing ``revocations``: what dispatchers do not want of this pool any more, and what they grant. Reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from shotbus.broker.bus.base import Bus, Reader, Record, TopicPartition
from shotbus.broker.clock import Clock
from shotbus.broker.topics import Topics
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import ShotbusError

_log = structlog.get_logger(__name__)
#: Takes a bundle's id, the jobs of it that are revoked, and the lease that is granted, empty for none.
Learn = Callable[[str, Sequence[str], str], None]


class RevocationsTail:
    """Feeds the pool's revocations to ``learn``.

    It begins ``seconds`` before its own start: a predecessor may have read a revocation whose bundle is
    left to this worker. The topic has one partition for all pools; cancelling is rare.
    """

    def __init__(
        self, bus: Bus, topics: Topics, pool: str, learn: Learn, *, clock: Clock, seconds: float
    ) -> None:
        self._bus, self._pool, self._learn = bus, pool, learn
        self._clock, self._seconds = clock, seconds
        self._partition = TopicPartition(topics.name("revocations"), 0)
        self._reader: Reader | None = None

    async def catch_up(self) -> None:
        """Read what is there now, so that no bundle is begun that was revoked before. Raises BusError."""
        reader = await self._open()
        end = (await self._bus.ends([self._partition]))[self._partition]
        while reader.position(self._partition) < end:
            self._take(await reader.poll(max_records=1_000, timeout=1.0))

    async def run(self) -> None:
        """Read for ever. Raises BusError when the bus is away; what was read is read again, to no effect."""
        try:
            reader = self._reader or await self._open()
            while True:
                self._take(await reader.poll(max_records=1_000, timeout=1.0))
        finally:
            await self.close()

    async def close(self) -> None:
        """Stop reading."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.close()

    async def _open(self) -> Reader:
        await self.close()
        since = self._clock.wall_ms() - int(self._seconds * 1000)
        start = await self._bus.offset_at(self._partition, since)
        self._reader = self._bus.reader({self._partition: start})
        return self._reader

    def _take(self, records: Sequence[Record]) -> None:
        for record in records:
            try:
                fields = decode(record.value, "revocation")[1]
            except ShotbusError as error:
                _log.warning("unreadable revocation", offset=record.offset, error=str(error))
                continue
            if fields["pool"] == self._pool:
                self._learn(fields["bundle_id"], fields["jobs"], fields["granted"])
