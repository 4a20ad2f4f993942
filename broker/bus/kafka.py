"""The bus on Apache Kafka, over aiokafka: for production, on one host or many."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shotbus.broker.bus.base import (
    BusError,
    Capabilities,
    LostCallback,
    Membership,
    Outgoing,
    Reader,
    ShardCallback,
    ShardWriter,
    TopicPartition,
    TopicSpec,
)
from shotbus.broker.bus.kafka_group import Callbacks, KafkaMembership
from shotbus.broker.bus.kafka_link import Link
from shotbus.broker.bus.kafka_offsets import EARLIEST, LATEST, Offsets
from shotbus.broker.bus.kafka_positions import Groups
from shotbus.broker.bus.kafka_publisher import Publisher
from shotbus.broker.bus.kafka_reader import KafkaReader
from shotbus.broker.bus.kafka_settings import SASL_MECHANISMS, KafkaSettings
from shotbus.broker.bus.kafka_topics import Catalog
from shotbus.broker.bus.kafka_writer import KafkaShardWriter

__all__ = ["KafkaBus", "KafkaSettings"]

_log = logging.getLogger(__name__)

_REPLICAS_THAT_OUTLIVE_A_HOST = 3


class KafkaBus:
    """See :class:`~.base.Bus`. An instance belongs to the event loop in which :meth:`start` ran."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._link = Link(settings)
        self._catalog = Catalog(self._link, settings)
        self._offsets = Offsets(self._link)
        self._groups = Groups(self._link)
        self._publisher = Publisher(self._link, self._catalog)
        # Insertion-ordered: closed in the order in which they were opened.
        self._opened: dict[Any, None] = {}

    @property
    def capabilities(self) -> Capabilities:
        """Kafka acks from the page cache: an ack outlives a power loss only on other replicas."""
        return Capabilities(
            name="kafka",
            durable_on_ack=self._settings.replication_factor >= _REPLICAS_THAT_OUTLIVE_A_HOST,
            multi_process=True,
            multi_host=True,
            offset_gaps=True,
            tls=True,
            sasl=SASL_MECHANISMS,
        )

    async def start(self) -> None:
        await self._link.start()

    async def close(self) -> None:
        for opened in list(self._opened):
            try:
                await (opened.leave() if isinstance(opened, KafkaMembership) else opened.close())
            except BusError as error:
                _log.warning("closing the bus: %s", error)
        await self._publisher.close()
        await self._link.close()

    async def create_topics(self, specs: Iterable[TopicSpec]) -> None:
        await self._catalog.create(specs)

    async def topics(self) -> dict[str, int]:
        return await self._catalog.counts()

    async def publish(self, records: Sequence[Outgoing]) -> list[int]:
        return await self._publisher.publish(records)

    def reader(self, positions: Mapping[TopicPartition, int]) -> Reader:
        reader = KafkaReader(Link(self._settings), positions, self._forget)
        self._opened[reader] = None
        return reader

    async def begins(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return await self._offsets.at(dict.fromkeys(partitions, EARLIEST))

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return await self._offsets.at(dict.fromkeys(partitions, LATEST))

    async def offset_at(self, partition: TopicPartition, timestamp_ms: int) -> int:
        return await self._offsets.first_since(partition, timestamp_ms)

    async def join(
        self,
        group: str,
        topic: str,
        *,
        on_assigned: ShardCallback,
        on_revoked: ShardCallback,
        on_lost: LostCallback | None = None,
    ) -> Membership:
        await self._catalog.require(topic)
        callbacks = Callbacks(on_assigned, on_revoked, on_lost)
        membership = KafkaMembership(self._settings, group, topic, callbacks, self._forget)
        self._opened[membership] = None
        await membership.join()
        return membership

    async def committed(self, group: str, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return await self._groups.committed(group, partitions)

    async def members(self, group: str, topic: str) -> int:
        await self._catalog.require(topic)
        return await self._groups.members(group)

    async def fence(self, shard: str) -> ShardWriter:
        writer = KafkaShardWriter(shard, Link(self._settings), self._catalog, self._settings, self._forget)
        self._opened[writer] = None
        try:
            await writer.take()
        except BaseException:
            await writer.close()
            raise
        return writer

    async def trim(self, before: Mapping[TopicPartition, int]) -> None:
        if before:
            await self._offsets.delete(before)

    def _forget(self, opened: Any) -> None:
        self._opened.pop(opened, None)
