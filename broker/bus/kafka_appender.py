"""Idempotent appends to Kafka: record batches with sequence numbers, repeated until acked by all replicas.

Used in place of aiokafka's producer, which never gives a batch up (its ``stop`` hangs while a broker is
away), waits 100 ms at every busy transaction, and cannot be shared or abandoned safely. Its record
encoding, protocol structures and connections are used as they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import errors
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from shotbus.broker.bus.base import BusError, Outgoing, TopicPartition
from shotbus.broker.bus.kafka_errors import (
    DUPLICATE_SEQUENCE,
    OK,
    bus_error,
    coordinator_moved,
    describe,
    retriable,
)
from shotbus.broker.bus.kafka_link import TRANSACTION, Link
from shotbus.broker.bus.kafka_settings import ALL_REPLICAS, CALL_SECONDS, RETRY_SECONDS

_MAGIC = 2
_SEQUENCES = 2**31
_NO_TIMEOUT_MS = 2**31 - 1
# A transaction's markers are written within a millisecond or two: ask at once a few times, then wait.
_EAGER_TRIES = 4
_BUSY_SECONDS = 0.001
_BUSY_LIMIT_SECONDS = 0.05


@dataclass(slots=True)
class Identity:
    """A producer id and epoch, with the next sequence number of each partition."""

    producer: int
    epoch: int
    sequences: dict[TopicPartition, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Batch:
    """Encoded records of one partition and their number."""

    data: bytes
    count: int


class Busy:
    """The waits while an earlier transaction finishes: none at first, then 1 ms, doubling to 50 ms."""

    def __init__(self) -> None:
        self._tries = 0

    async def wait(self) -> None:
        self._tries += 1
        if self._tries > _EAGER_TRIES:
            seconds = _BUSY_SECONDS * 2 ** min(10, self._tries - _EAGER_TRIES - 1)
            await asyncio.sleep(min(_BUSY_LIMIT_SECONDS, seconds))


async def take_identity(link: Link, shard: str | None, timeout_ms: int = _NO_TIMEOUT_MS) -> Identity:
    """Get a producer id; for a shard, raise its epoch and end what an older writer left open.

    Raises :class:`BusError` when the cluster does not answer in time.
    """
    busy = Busy()
    try:
        async with asyncio.timeout(2 * CALL_SECONDS):
            while True:
                identity = await _ask_identity(link, shard, timeout_ms)
                if identity is not None:
                    return identity
                await busy.wait()
    except TimeoutError as error:
        msg = f"Kafka gave no producer id for {shard or 'publishing'} in time"
        raise BusError(msg) from error


async def _ask_identity(link: Link, shard: str | None, timeout_ms: int) -> Identity | None:
    try:
        node = link.any_node() if shard is None else await link.coordinator(TRANSACTION, shard)
        response = await link.call(node, InitProducerIdRequest(shard, timeout_ms))
    except errors.KafkaError as error:
        await recover(link, shard, error)
        return None
    if response.error_code == OK:
        return Identity(response.producer_id, response.producer_epoch)
    if not retriable(response.error_code):
        msg = f"take shard {shard!r}: {describe(response.error_code)}"
        raise BusError(msg)
    if shard is not None and coordinator_moved(response.error_code):
        link.forget_coordinator(TRANSACTION, shard)
    return None


async def recover(link: Link, shard: str | None, error: errors.KafkaError) -> None:
    """Prepare another try after ``error``; raise it as :class:`BusError` when it would be the same."""
    if not error.retriable:
        msg = f"{shard or 'publish'}: {error!r}"
        raise BusError(msg) from error
    if shard is not None:
        link.forget_coordinator(TRANSACTION, shard)
    await asyncio.sleep(RETRY_SECONDS)
    await link.refresh(())


class Packer:
    """Packs records of one partition into batches for one identity.

    Not compressed: lz4 halved the rate of 100 KB records and cost a quarter of that of 2 KB ones, for
    payloads that are mostly float64 parameters and bit-packed shots.
    """

    def __init__(self, identity: Identity, *, transactional: bool) -> None:
        self._identity = identity
        self._transactional = int(transactional)

    def pack(self, partition: TopicPartition, records: Sequence[Outgoing], batch_bytes: int) -> list[Batch]:
        """Encode ``records`` in order and take sequence numbers for them."""
        batches = []
        builder, count = self._builder(batch_bytes), 0
        for record in records:
            if not self._append(builder, count, record):
                batches.append(self._close(partition, builder, count))
                builder, count = self._builder(batch_bytes), 0
                # A batch takes its first record whatever the size.
                self._append(builder, count, record)
            count += 1
        return [*batches, self._close(partition, builder, count)]

    def _builder(self, batch_bytes: int) -> Any:
        return DefaultRecordBatchBuilder(
            _MAGIC, DefaultRecordBatch.CODEC_NONE, self._transactional, -1, -1, 0, batch_bytes
        )

    @staticmethod
    def _append(builder: Any, offset: int, record: Outgoing) -> bool:
        headers = list(record.headers)
        return builder.append(offset, None, record.key, record.value, headers) is not None

    def _close(self, partition: TopicPartition, builder: Any, count: int) -> Batch:
        identity = self._identity
        sequence = identity.sequences.get(partition, 0)
        identity.sequences[partition] = (sequence + count) % _SEQUENCES
        builder.set_producer_state(identity.producer, identity.epoch, sequence)
        return Batch(bytes(builder.build()), count)


async def append(
    link: Link, shard: str | None, batches: Mapping[TopicPartition, Batch]
) -> dict[TopicPartition, int]:
    """Write one batch to each partition and return their base offsets (-1: repeated, offset forgotten).

    Repeats what a broker may take later, with the same sequence numbers, so nothing is doubled. Gives up
    only when cancelled. Raises :class:`BusError`; what was written then is unknown.
    """
    offsets: dict[TopicPartition, int] = {}
    while waiting := [partition for partition in batches if partition not in offsets]:
        groups = await link.leaders(waiting)
        answers = await asyncio.gather(
            *(_produce(link, node, shard, parts, batches) for node, parts in groups.items())
        )
        for partition, code, offset in (answer for node in answers for answer in node):
            if code in (OK, DUPLICATE_SEQUENCE):
                offsets[partition] = offset
            elif not retriable(code):
                raise bus_error(code, f"write to {partition.topic}/{partition.partition}")
        if len(offsets) < len(batches):
            await asyncio.sleep(RETRY_SECONDS)
            await link.refresh({partition.topic for partition in waiting})
    return offsets


async def _produce(
    link: Link,
    node: int,
    shard: str | None,
    parts: Iterable[TopicPartition],
    batches: Mapping[TopicPartition, Batch],
) -> list[tuple[TopicPartition, int, int]]:
    topics: dict[str, list[tuple[int, bytes]]] = {}
    for partition in parts:
        topics.setdefault(partition.topic, []).append((partition.partition, batches[partition].data))
    request = ProduceRequest(shard, ALL_REPLICAS, int(CALL_SECONDS * 1000), list(topics.items()))
    try:
        response = await link.call(node, request)
    except errors.KafkaError as error:
        if not error.retriable:
            msg = f"write: {error!r}"
            raise BusError(msg) from error
        return []
    return [
        (TopicPartition(topic, partition), code, offset)
        for topic, answers in response.topics
        for partition, code, offset, *_ in answers
    ]
