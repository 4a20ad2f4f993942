"""Kafka topics: creating them as declared, and knowing their partitions and record limits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import errors
from aiokafka.protocol.admin import CreateTopicsRequest, DescribeConfigsRequest
from aiokafka.protocol.metadata import MetadataRequest

from shotbus.broker.bus.base import BusError, Cleanup, Outgoing, TopicPartition, TopicSpec, UnknownTopicError
from shotbus.broker.bus.kafka_errors import (
    NOT_CONTROLLER,
    OK,
    TOPIC_ALREADY_EXISTS,
    UNKNOWN_TOPIC_OR_PARTITION,
    bus_error,
    describe,
    retriable,
)
from shotbus.broker.bus.kafka_link import Link
from shotbus.broker.bus.kafka_settings import BATCH_BYTES, CALL_SECONDS, KafkaSettings
from shotbus.broker.bus.limits import check_record

_TOPIC_RESOURCE = 2
_FOR_EVER = "-1"
_SAFE_REPLICATION = 3


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """What a writer must know: partition count, bytes of a record, bytes of a batch, clean-up policy."""

    partitions: int
    record_bytes: int
    batch_bytes: int
    cleanup: Cleanup


def topic_configs(spec: TopicSpec, replication_factor: int) -> dict[str, str]:
    """Return the Kafka settings of a declared topic."""
    policy = "delete" if spec.cleanup == "trim" else spec.cleanup
    retention = _FOR_EVER if spec.cleanup == "trim" or spec.retention_ms is None else str(spec.retention_ms)
    configs = {
        "cleanup.policy": policy,
        "retention.ms": retention,
        "retention.bytes": _FOR_EVER,
        "max.message.bytes": str(spec.max_record_bytes + BATCH_BYTES),
        "message.timestamp.type": "CreateTime",
    }
    if "compact" in policy:
        # A ledger is read in full when a shard is taken: dead rows must go soon, in small steps.
        configs |= {
            "segment.bytes": "67108864",
            "min.cleanable.dirty.ratio": "0.1",
            "max.compaction.lag.ms": "600000",
        }
    if replication_factor >= _SAFE_REPLICATION:
        # An ack then means two copies, and one broker can be away.
        configs["min.insync.replicas"] = "2"
    return configs


class Catalog:
    """The topics of a cluster as this process knows them."""

    def __init__(self, link: Link, settings: KafkaSettings) -> None:
        self._link = link
        self._settings = settings
        self._facts: dict[str, TopicFacts] = {}

    async def counts(self) -> dict[str, int]:
        """Return every topic's partition count, Kafka's internal ones left out."""
        return {name: len(parts) for name, internal, parts in await self._metadata(None) if not internal}

    async def create(self, specs: Iterable[TopicSpec]) -> None:
        """Create what is missing and wait until it can be written to."""
        wanted = {spec.name: spec for spec in specs}
        existing = await self.counts()
        missing = [spec for name, spec in wanted.items() if name not in existing]
        if missing:
            await self._link.persist("create topics", lambda: self._create(missing))
            created = [TopicPartition(spec.name, p) for spec in missing for p in range(spec.partitions)]
            await self._link.leaders(created, created=True)
            existing = await self.counts()
        for name, spec in wanted.items():
            _check_count(spec, existing[name])
        await self._load(wanted)

    async def check(self, records: Sequence[Outgoing]) -> None:
        """Raise for a record that its topic does not take, before anything is written."""
        missing = {record.topic for record in records} - self._facts.keys()
        if missing:
            await self._load(missing)
        for record in records:
            facts = self._facts[record.topic]
            check_record(
                record,
                partitions=facts.partitions,
                max_record_bytes=facts.record_bytes,
                cleanup=facts.cleanup,
            )

    def batch_bytes(self, topic: str) -> int:
        """Return the size that a batch for ``topic`` may have."""
        facts = self._facts.get(topic)
        return BATCH_BYTES if facts is None else facts.batch_bytes

    def forget(self, topics: Iterable[str]) -> None:
        """Read the facts of ``topics`` again next time: a broker knew better."""
        for topic in topics:
            self._facts.pop(topic, None)

    async def require(self, topic: str) -> None:
        """Raise :class:`UnknownTopicError` unless ``topic`` exists."""
        if topic not in self._facts:
            await self._load({topic})

    async def _create(self, specs: Sequence[TopicSpec]) -> None:
        factor = self._settings.replication_factor
        request = CreateTopicsRequest(
            [(s.name, s.partitions, factor, [], list(topic_configs(s, factor).items())) for s in specs],
            int(CALL_SECONDS * 1000),
            validate_only=False,
        )
        response = await self._link.call(self._link.controller(), request)
        for name, code, message in response.topic_errors:
            if code in (OK, TOPIC_ALREADY_EXISTS):
                continue
            if retriable(code) or code == NOT_CONTROLLER:
                await self._link.refresh(())
                raise errors.for_code(code)
            msg = f"cannot create topic {name!r}: {message or describe(code)}"
            raise BusError(msg)

    async def _metadata(self, topics: list[str] | None) -> list[tuple[str, bool, list[Any]]]:
        async def attempt() -> list[tuple[str, bool, list[Any]]]:
            request = MetadataRequest(topics, allow_auto_topic_creation=False)
            response = await self._link.call(self._link.any_node(), request)
            return [_topic(*entry) for entry in response.topics if entry[0] != UNKNOWN_TOPIC_OR_PARTITION]

        return await self._link.persist("read topics", attempt)

    async def _load(self, topics: Iterable[str]) -> None:
        names = sorted(topics)
        counts = {name: len(parts) for name, _, parts in await self._metadata(names)}
        if absent := [name for name in names if name not in counts]:
            msg = f"no such topic: {', '.join(absent)}"
            raise UnknownTopicError(msg)
        limits = await self._link.persist("read topic limits", lambda: self._limits(names))
        for name, (limit, cleanup) in limits.items():
            # A topic that others created may allow less than one of our batches.
            batch = BATCH_BYTES if limit > BATCH_BYTES else limit // 2
            self._facts[name] = TopicFacts(counts[name], limit - batch, batch, cleanup)

    async def _limits(self, names: Sequence[str]) -> dict[str, tuple[int, Cleanup]]:
        wanted = ["max.message.bytes", "cleanup.policy"]
        request = DescribeConfigsRequest([(_TOPIC_RESOURCE, name, wanted) for name in names])
        response = await self._link.call(self._link.any_node(), request)
        limits = {}
        for code, _message, _kind, name, entries in response.resources:
            if code != OK:
                raise errors.for_code(code) if retriable(code) else bus_error(code, f"read limits of {name}")
            values = {entry[0]: entry[1] for entry in entries}
            limits[name] = int(values["max.message.bytes"]), values["cleanup.policy"]
        return limits


def _topic(code: int, name: str, internal: bool, partitions: list[Any]) -> tuple[str, bool, list[Any]]:
    if code != OK:
        raise errors.for_code(code) if retriable(code) else bus_error(code, f"read topic {name}")
    return name, internal, partitions


def _check_count(spec: TopicSpec, count: int) -> None:
    if count != spec.partitions:
        msg = (
            f"topic {spec.name!r} has {count} partitions, {spec.partitions} were declared; use another prefix"
        )
        raise BusError(msg)
