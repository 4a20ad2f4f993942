"""Writes outside any shard on Kafka: concurrent calls share batches, one batch in flight per partition."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from shotbus.broker.bus.base import BusError, Outgoing, TopicPartition
from shotbus.broker.bus.kafka_appender import Identity, Packer, append, take_identity
from shotbus.broker.bus.kafka_link import Link
from shotbus.broker.bus.kafka_settings import DELIVERY_SECONDS
from shotbus.broker.bus.kafka_topics import Catalog
from shotbus.broker.bus.limits import record_bytes


class _Entry(NamedTuple):
    record: Outgoing
    done: asyncio.Future[int]


class Publisher:
    """Batches records per partition while the batch before them is on its way."""

    def __init__(self, link: Link, catalog: Catalog) -> None:
        self._link = link
        self._catalog = catalog
        self._pending: dict[TopicPartition, deque[_Entry]] = {}
        self._flushing: dict[TopicPartition, asyncio.Task[None]] = {}
        self._identity: Identity | None = None
        self._taking = asyncio.Lock()

    async def publish(self, records: Sequence[Outgoing]) -> list[int]:
        """Write ``records`` and return their offsets; see :meth:`Bus.publish`."""
        await self._catalog.check(records)
        loop = asyncio.get_running_loop()
        entries = [_Entry(record, loop.create_future()) for record in records]
        for entry in entries:
            self._enqueue(entry)
        if len(entries) == 1:
            return [await entries[0].done]
        # Every future is awaited even when one fails, or its error would be reported as never seen.
        outcomes = await asyncio.gather(*(entry.done for entry in entries), return_exceptions=True)
        offsets = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            offsets.append(outcome)
        return offsets

    async def close(self) -> None:
        """Fail what is still on its way."""
        tasks = list(self._flushing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _enqueue(self, entry: _Entry) -> None:
        partition = TopicPartition(entry.record.topic, entry.record.partition)
        self._pending.setdefault(partition, deque()).append(entry)
        if partition not in self._flushing:
            # The task starts when this call yields, so all of the call's records are in the first batch.
            self._flushing[partition] = asyncio.create_task(self._flush(partition))

    async def _flush(self, partition: TopicPartition) -> None:
        queue = self._pending[partition]
        try:
            while queue:
                await self._send(partition, self._next_batch(queue))
        finally:
            del self._flushing[partition], self._pending[partition]
            _fail(queue, BusError("the bus was closed before the record was written"))

    def _next_batch(self, queue: deque[_Entry]) -> list[_Entry]:
        limit = self._catalog.batch_bytes(queue[0].record.topic)
        entries: list[_Entry] = []
        size = 0
        while queue and (not entries or size + record_bytes(queue[0].record) < limit):
            entries.append(queue.popleft())
            size += record_bytes(entries[-1].record)
        return entries

    async def _send(self, partition: TopicPartition, entries: list[_Entry]) -> None:
        try:
            async with asyncio.timeout(DELIVERY_SECONDS):
                await self._write(partition, entries)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the callers' to see
            # The sequence numbers of this identity are in doubt: the next batch takes a new one.
            self._identity = None
            self._catalog.forget({partition.topic})
            _fail(entries, _publish_error(partition, error))
        finally:
            _fail(entries, BusError("the bus was closed while the record was being written"))

    async def _write(self, partition: TopicPartition, entries: list[_Entry]) -> None:
        identity = await self._current()
        packer = Packer(identity, transactional=False)
        records = [entry.record for entry in entries]
        rest = entries
        for batch in packer.pack(partition, records, self._catalog.batch_bytes(partition.topic)):
            base = (await append(self._link, None, {partition: batch}))[partition]
            for delta, entry in enumerate(rest[: batch.count]):
                if not entry.done.done():
                    entry.done.set_result(base if base < 0 else base + delta)
            rest = rest[batch.count :]

    async def _current(self) -> Identity:
        async with self._taking:
            if self._identity is None:
                self._identity = await take_identity(self._link, None)
            return self._identity


def _publish_error(partition: TopicPartition, error: Exception) -> Exception:
    where = f"publish to {partition.topic}/{partition.partition}"
    if isinstance(error, TimeoutError):
        return BusError(f"{where}: no ack within {DELIVERY_SECONDS:g} s; it may still have been written")
    return type(error)(f"{where}: {error}") if isinstance(error, BusError) else error


def _fail(entries: Sequence[_Entry] | deque[_Entry], error: Exception) -> None:
    for entry in entries:
        if not entry.done.done():
            entry.done.set_exception(error)
