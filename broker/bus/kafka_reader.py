"""Reads explicit Kafka partitions, committed records only, in a few milliseconds even next to a backlog.

aiokafka's consumer keeps one fetch in flight per broker and leaves partitions with undrained buffers out
of it: one that is drained meanwhile waits for the long poll to end (up to 500 ms), and a fresh buffer stops
every fetch for 100 ms. Here a partition that must be read while a long poll runs gets a fetch of its own
on another connection (a *lane*).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from aiokafka import errors
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.memory_records import MemoryRecords

from shotbus.broker.bus.base import BusError, Record, TopicPartition, UnknownTopicError
from shotbus.broker.bus.kafka_batches import repair, tame
from shotbus.broker.bus.kafka_errors import OK, bus_error, retriable
from shotbus.broker.bus.kafka_link import Link
from shotbus.broker.bus.kafka_settings import READ_COMMITTED, RETRY_SECONDS

_log = logging.getLogger(__name__)

# How long a broker may hold a fetch without data, by lane. The last lane returns soon, so a partition
# that finds all lanes taken waits no longer than that.
LANE_WAIT_MS = (500, 200, 100, 20)
_MIN_BYTES = 1
_MAX_BYTES = 50 * 1024 * 1024
_PARTITION_BYTES = 1024 * 1024
_OUTAGE_SECONDS = 10.0
_FORGIVE_SECONDS = 1.0


class _Decoder(PartitionRecords):  # type: ignore[misc]  # aiokafka is untyped
    """aiokafka's decoder (aborted transactions, markers, compaction gaps) making our records."""

    def _consumer_record(self, tp: TopicPartition, record: Any) -> Record:
        headers = tuple(record.headers)
        if any(value is None for _, value in headers):
            headers = tuple((name, value or b"") for name, value in headers)
        return Record(
            tp.topic, tp.partition, record.offset, record.key, record.value, headers, record.timestamp
        )


class _Buffer:
    """Fetched records of one partition, read one ahead so that the position passes trailing markers."""

    def __init__(self, decoder: _Decoder) -> None:
        self._decoder = decoder
        self._head: Record | None = next(decoder, None)

    @property
    def drained(self) -> bool:
        return self._head is None

    @property
    def position(self) -> int:
        offset: int = self._decoder.next_fetch_offset
        return offset if self._head is None else self._head.offset

    def take(self, room: int) -> list[Record]:
        if self._head is None:
            return []
        records = [self._head, *islice(self._decoder, room - 1)]
        # A short answer means the decoder has ended.
        self._head = next(self._decoder, None) if len(records) == room else None
        return records


class KafkaReader:
    """See :class:`~.base.Reader`. Made by :meth:`KafkaBus.reader`; connects at its first poll."""

    def __init__(
        self, link: Link, positions: Mapping[TopicPartition, int], on_close: Callable[[KafkaReader], None]
    ) -> None:
        self._link = link
        self._on_close = on_close
        self._positions = {TopicPartition(*partition): offset for partition, offset in positions.items()}
        self._buffers: dict[TopicPartition, _Buffer] = {}
        self._failures: dict[TopicPartition, BusError] = {}
        #: Partitions whose next records have names that are no text: their next fetch is repaired.
        self._garbled: set[TopicPartition] = set()
        self._in_flight: dict[TopicPartition, object] = {}
        self._lanes: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._lookup: asyncio.Task[None] | None = None
        self._progress = asyncio.Event()
        self._moved = False
        self._closed = False
        self._failing_since: float | None = None
        self._failed_at = 0.0
        self._last_error: errors.KafkaError | None = None

    async def poll(
        self, *, max_records: int, timeout: float, only: Sequence[TopicPartition] | None = None
    ) -> list[Record]:
        if self._closed:
            raise BusError("the reader is closed")
        await self._link.start()
        self._forgive()
        wanted = tuple(self._positions) if only is None else tuple(only)
        deadline = time.monotonic() + timeout
        while True:
            self._progress.clear()
            self._raise_failure(wanted)
            records = self._take(wanted, max_records)
            self._fetch(wanted)
            moved, self._moved = self._moved, False
            remaining = deadline - time.monotonic()
            if records or moved or remaining <= 0:
                break
            # Not wait_for: in Python 3.11 it swallows a cancellation that meets the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(remaining):
                    await self._progress.wait()
        if not records:
            # A caller that polls with timeout 0 in a loop must not starve the fetches.
            await asyncio.sleep(0)
        return records

    def position(self, partition: TopicPartition) -> int:
        return self._positions[partition]

    def seek(self, partition: TopicPartition, offset: int) -> None:
        if partition not in self._positions:
            raise KeyError(partition)
        self._positions[partition] = offset
        self._buffers.pop(partition, None)
        self._failures.pop(partition, None)
        # The fetch under way is for the old position: its answer will not be looked at.
        self._in_flight.pop(partition, None)

    async def close(self) -> None:
        self._closed = True
        tasks = [*self._lanes.values(), *([self._lookup] if self._lookup else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._link.close()
        self._on_close(self)

    def _raise_failure(self, wanted: Iterable[TopicPartition]) -> None:
        for partition in wanted:
            if partition in self._failures:
                error = self._failures[partition]
                raise type(error)(*error.args)
        if self._failing_since is not None and time.monotonic() - self._failing_since > _OUTAGE_SECONDS:
            self._failing_since = time.monotonic()
            msg = f"no broker has answered a fetch for {_OUTAGE_SECONDS:g} s: {self._last_error!r}"
            raise BusError(msg)

    def _forgive(self) -> None:
        """Forget an outage that nobody has tested since: fetches are sent only while somebody polls."""
        if not self._lanes and time.monotonic() - self._failed_at > _FORGIVE_SECONDS:
            self._failing_since = None

    def _take(self, wanted: Sequence[TopicPartition], max_records: int) -> list[Record]:
        """Take from the buffers, oldest first; one that is not drained goes to the back of the row."""
        records: list[Record] = []
        for partition in [partition for partition in self._buffers if partition in wanted]:
            if len(records) >= max_records:
                break
            buffer = self._buffers.pop(partition)
            try:
                records += buffer.take(max_records - len(records))
            except UnicodeDecodeError:
                self._garbled.add(partition)
                continue
            except errors.KafkaError as error:
                self._failures[partition] = BusError(f"{partition.topic}/{partition.partition}: {error!r}")
                continue
            self._positions[partition] = buffer.position
            if not buffer.drained:
                self._buffers[partition] = buffer
        return records

    def _fetch(self, wanted: Iterable[TopicPartition]) -> None:
        """Send fetches for all that is wanted, empty, and not under way."""
        nodes: dict[int, list[TopicPartition]] = {}
        homeless = []
        for partition in wanted:
            if partition in self._buffers or partition in self._in_flight or partition in self._failures:
                continue
            leader = self._link.leader(partition)
            if leader is None:
                homeless.append(partition)
            else:
                nodes.setdefault(leader, []).append(partition)
        for node, partitions in nodes.items():
            self._fetch_from(node, partitions)
        if homeless and self._lookup is None:
            self._lookup = asyncio.create_task(self._find(homeless))

    def _fetch_from(self, node: int, partitions: list[TopicPartition]) -> None:
        lane = next(
            (number for number in range(len(LANE_WAIT_MS)) if (node, number) not in self._lanes), None
        )
        if lane is None:
            return
        token = object()
        offsets = {partition: self._positions[partition] for partition in partitions}
        self._in_flight.update(dict.fromkeys(partitions, token))
        self._lanes[node, lane] = asyncio.create_task(self._run_lane(node, lane, offsets, token))

    async def _run_lane(
        self, node: int, lane: int, offsets: dict[TopicPartition, int], token: object
    ) -> None:
        try:
            request = FetchRequest(
                LANE_WAIT_MS[lane], _MIN_BYTES, _MAX_BYTES, READ_COMMITTED, _fetch_topics(offsets)
            )
            response = await self._link.call(node, request, lane=lane)
            self._failing_since = None
            await self._absorb(response, offsets, token)
        except errors.KafkaError as error:
            await self._outage(error)
        except Exception as error:  # noqa: BLE001  # in a task of its own: kept for the next poll to raise
            trouble = BusError(f"reading failed: {error!r}")
            self._failures.update(dict.fromkeys(offsets, trouble))
        finally:
            for partition in offsets:
                if self._in_flight.get(partition) is token:
                    del self._in_flight[partition]
            del self._lanes[node, lane]
            self._progress.set()

    async def _outage(self, error: errors.KafkaError) -> None:
        if self._failing_since is None:
            self._failing_since = time.monotonic()
            _log.warning("fetch failed, trying again: %r", error)
        self._failed_at, self._last_error = time.monotonic(), error
        await asyncio.sleep(RETRY_SECONDS)

    async def _absorb(self, response: Any, offsets: Mapping[TopicPartition, int], token: object) -> None:
        stale = set()
        for topic, parts in response.topics:
            for number, code, _high_water, *rest in parts:
                partition = TopicPartition(topic, number)
                if self._in_flight.get(partition) is not token:
                    continue
                if code == OK:
                    self._store(partition, offsets[partition], aborted=rest[2], data=rest[-1])
                elif retriable(code):
                    stale.add(partition.topic)
                else:
                    where = f"read {topic}/{number} at {offsets[partition]}"
                    self._failures[partition] = bus_error(code, where)
        if stale:
            await asyncio.sleep(RETRY_SECONDS)
            await self._link.refresh(stale)

    def _store(self, partition: TopicPartition, offset: int, *, aborted: Any, data: Any) -> None:
        data = tame(data)
        if partition in self._garbled:
            data = repair(data)
        records = MemoryRecords(data)
        if not records.has_next():
            return
        try:
            buffer = _Buffer(_Decoder(partition, records, aborted, offset, None, None, True, READ_COMMITTED))
        except UnicodeDecodeError:
            self._garbled.add(partition)
            return
        except errors.KafkaError as error:
            self._failures[partition] = BusError(f"{partition.topic}/{partition.partition}: {error!r}")
            return
        self._garbled.discard(partition)
        if buffer.drained:
            self._moved = self._moved or buffer.position != offset
            self._positions[partition] = buffer.position
        else:
            self._positions[partition] = buffer.position
            self._buffers[partition] = buffer

    async def _find(self, partitions: list[TopicPartition]) -> None:
        try:
            await self._link.leaders(partitions)
        except UnknownTopicError:
            for partition in partitions:
                if not self._link.knows(partition):
                    msg = f"{partition.topic}/{partition.partition} does not exist"
                    self._failures[partition] = UnknownTopicError(msg)
        except (BusError, errors.KafkaError) as error:
            _log.warning("no leader found, trying again: %s", error)
        finally:
            self._lookup = None
            self._progress.set()


def _fetch_topics(offsets: Mapping[TopicPartition, int]) -> list[tuple[str, list[tuple[int, int, int]]]]:
    topics: dict[str, list[tuple[int, int, int]]] = {}
    for (topic, number), offset in offsets.items():
        topics.setdefault(topic, []).append((number, offset, _PARTITION_BYTES))
    return list(topics.items())
