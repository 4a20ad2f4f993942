"""The way in: membership, resuming, reading bundles, committing positions. Reads and writes the bus.

Callbacks of the group only note what is wanted; :meth:`Intake.poll` does the work. A change of partitions
throws the reader away and opens another at the lanes' own positions, so a cancelled poll loses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog

from shotbus.broker.bus.base import (
    Bus,
    BusError,
    LostCallback,
    Membership,
    OffsetGapError,
    Reader,
    Record,
    TopicPartition,
)
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import ShotbusError
from shotbus.workers.lanes import Lane, Taken
from shotbus.workers.settings import WorkerCounters

_log = structlog.get_logger(__name__)
_POLL_SECONDS = 1.0
_TRIM_EVERY = 256
# A rebalance waits for this; losing the bookmark costs repeated work, never a result.
_BOOKMARK_SECONDS = 1.0


class Intake:
    """Reads one pool's work as a member of its group.

    ``notify`` is called whenever the held partitions have changed; it must only take note.
    ``announced`` waits until the claim of every bundle that has begun is durable.
    """

    def __init__(
        self,
        bus: Bus,
        topic: str,
        group: str,
        counters: WorkerCounters,
        *,
        notify: Callable[[], None],
        announced: Callable[[], Awaitable[None]],
    ) -> None:
        self._changed = asyncio.Event()
        self._notify = notify
        self._announced = announced
        self._bus = bus
        self._topic = topic
        self._group = group
        self._counters = counters
        self._lanes: dict[int, Lane] = {}
        self._wanted: frozenset[int] = frozenset()
        self._reader: Reader | None = None
        self._membership: Membership | None = None
        self._untrimmed = 0

    @property
    def partitions(self) -> list[int]:
        """The partitions that are read now."""
        return sorted(self._lanes)

    def holds(self, taken: Taken) -> bool:
        """Say whether a bundle's partition has been held without interruption since it was read."""
        number = taken.lane.partition
        return number in self._wanted and self._lanes.get(number) is taken.lane

    async def join(self, on_lost: LostCallback | None = None) -> None:
        """Join the group; ``on_lost`` is the bus's. Raises BusError."""
        self._membership = await self._bus.join(
            self._group, self._topic, on_assigned=self._assigned, on_revoked=self._revoked, on_lost=on_lost
        )

    async def _assigned(self, partitions: frozenset[int]) -> None:
        self._wanted |= partitions
        self._changed.set()

    async def _revoked(self, partitions: frozenset[int]) -> None:
        self._wanted -= partitions
        await self._bookmark()
        # Forgotten at once: should they come back, a successor may have moved their positions.
        for number in partitions:
            self._lanes.pop(number, None)
        self._changed.set()
        self._notify()

    async def _bookmark(self) -> None:
        """Record what has begun before a successor reads: it would begin it again, for nothing."""
        try:
            async with asyncio.timeout(_BOOKMARK_SECONDS):
                await self._announced()
                await self.commit()
        except (BusError, TimeoutError) as error:
            self._counters.bus_errors += 1
            _log.warning("positions not recorded before handing over", error=str(error))

    def interrupt(self) -> None:
        """Make a poll that waits return now, with nothing."""
        self._changed.set()

    async def poll(self, room: int) -> list[Taken]:
        """Return up to ``room`` bundles (at least 1); nothing when the partitions change or after a second.

        Raises BusError; the next call starts again from the lanes' positions.
        """
        self._changed.clear()
        try:
            await self._follow_assignment()
            if self._reader is None:
                await _first(self._changed, None)
                return []
            records = await self._read(self._reader, room)
        except OffsetGapError:
            await self._skip_gap()
            return []
        except BusError:
            await self._close_reader()
            raise
        return [taken for record in records if (taken := self._take(record)) is not None]

    async def _read(self, reader: Reader, room: int) -> list[Record]:
        reading = asyncio.ensure_future(reader.poll(max_records=room, timeout=_POLL_SECONDS))
        try:
            await _first(self._changed, reading)
            if reading.done():
                return reading.result()
            # Given up; what it may have been about to return is read again from the lanes' positions.
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await self._close_reader()
            return []
        finally:
            reading.cancel()

    async def _follow_assignment(self) -> None:
        """Bring lanes and reader in line with what the group has assigned."""
        if self._reader is not None and self._wanted == self._lanes.keys():
            return
        await self._close_reader()
        fresh = [TopicPartition(self._topic, n) for n in sorted(self._wanted - self._lanes.keys())]
        starts = await self._starts(fresh)
        # The group may have changed its mind while we asked; only what is still wanted becomes a lane.
        for partition, offset in starts.items():
            if partition.partition in self._wanted:
                self._lanes[partition.partition] = Lane(partition.partition, offset)
        if self._lanes:
            positions = {TopicPartition(self._topic, n): lane.next_read for n, lane in self._lanes.items()}
            self._reader = self._bus.reader(positions)
        self._notify()

    async def _starts(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        if not partitions or self._membership is None:
            return {}
        begins = await self._bus.begins(partitions)
        committed = await self._membership.committed(partitions)
        return {one: max(begins[one], committed.get(one, 0)) for one in partitions}

    async def _skip_gap(self) -> None:
        """Bundles were deleted unread: their jobs come again, since nobody has started them in time."""
        self._counters.gaps += 1
        _log.warning("work was deleted before it was read", topic=self._topic)
        await self._close_reader()
        begins = await self._bus.begins([TopicPartition(self._topic, n) for n in self._lanes])
        for partition, begin in begins.items():
            lane = self._lanes.get(partition.partition)
            if lane is not None:
                lane.next_read = max(lane.next_read, begin)

    def _take(self, record: Record) -> Taken | None:
        lane = self._lanes.get(record.partition)
        if lane is None:
            return None
        lane.read(record.offset)
        try:
            bundle = decode(record.value, "work_bundle")[1]
        except ShotbusError as error:
            self._counters.bundles_unreadable += 1
            _log.warning(
                "unreadable bundle", partition=record.partition, offset=record.offset, error=str(error)
            )
            lane.done(record.offset)
            return None
        return Taken(bundle, record.value or b"", lane, record.offset)

    async def commit(self) -> None:
        """Record the group's positions of the held lanes where they moved, and trim behind them.

        Raises BusError.
        """
        moved = {
            TopicPartition(self._topic, lane.partition): lane.position
            for lane in self._lanes.values()
            if lane.position > lane.committed
        }
        if not moved or self._membership is None:
            return
        await self._membership.commit(moved)
        for partition, position in moved.items():
            lane = self._lanes.get(partition.partition)
            if lane is not None:
                self._untrimmed += position - lane.committed
                lane.committed = position
        if self._untrimmed >= _TRIM_EVERY:
            self._untrimmed = 0
            await self._bus.trim(moved)

    async def leave(self) -> None:
        """Leave the group and stop reading; in-hand bundles are the successor's now."""
        if self._membership is not None:
            await self._membership.leave()
            self._membership = None
        self._wanted = frozenset()
        self._lanes.clear()
        await self._close_reader()

    async def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.close()


async def _first(event: asyncio.Event, other: asyncio.Future[list[Record]] | None) -> None:
    """Wait until the event is set or ``other`` is done, two seconds at most."""
    waiting = asyncio.ensure_future(event.wait())
    futures: set[asyncio.Future[Any]] = {waiting} if other is None else {waiting, other}
    try:
        await asyncio.wait(futures, timeout=2 * _POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
