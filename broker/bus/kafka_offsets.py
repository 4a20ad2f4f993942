"""Where Kafka's logs begin and end, looking offsets up by time, and deleting below an offset."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiokafka import errors
from aiokafka.protocol.admin import DeleteRecordsRequest
from aiokafka.protocol.offset import OffsetRequest

from shotbus.broker.bus.base import TopicPartition
from shotbus.broker.bus.kafka_errors import OK, bus_error, retriable
from shotbus.broker.bus.kafka_link import Link
from shotbus.broker.bus.kafka_settings import CALL_SECONDS, READ_COMMITTED

EARLIEST = -2
LATEST = -1
_NONE = -1

_Answers = Iterable[tuple[TopicPartition, int, int]]


class Offsets:
    """Offset questions to the partitions' leaders."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def at(self, times: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Return the first offsets not older than the given times (or EARLIEST, LATEST).

        LATEST is the last *stable* offset: behind everything committed, before any open transaction.
        """

        def request(parts: list[TopicPartition]) -> Any:
            return OffsetRequest(-1, READ_COMMITTED, _by_topic(parts, times))

        def answers(response: Any) -> _Answers:
            for topic, parts in response.topics:
                for partition, code, _timestamp, offset in parts:
                    yield TopicPartition(topic, partition), code, offset

        return await self._ask("read offsets", times, request, answers)

    async def first_since(self, partition: TopicPartition, timestamp_ms: int) -> int:
        """Return the first offset not older than ``timestamp_ms``, else the end."""
        offset = (await self.at({partition: max(0, timestamp_ms)}))[partition]
        return (await self.at({partition: LATEST}))[partition] if offset == _NONE else offset

    async def delete(self, before: Mapping[TopicPartition, int]) -> None:
        """Delete the records below the given offsets."""

        def request(parts: list[TopicPartition]) -> Any:
            return DeleteRecordsRequest(_by_topic(parts, before), int(CALL_SECONDS * 1000))

        def answers(response: Any) -> _Answers:
            # Flexible versions append tags to every structure.
            for topic, parts, *_ in response.topics:
                for partition, low_water, code, *_tags in parts:
                    yield TopicPartition(topic, partition), code, low_water

        await self._ask("trim", before, request, answers)

    async def _ask(
        self,
        doing: str,
        wanted: Mapping[TopicPartition, int],
        request: Callable[[list[TopicPartition]], Any],
        answers: Callable[[Any], _Answers],
    ) -> dict[TopicPartition, int]:
        async def attempt() -> dict[TopicPartition, int]:
            groups = await self._link.leaders(wanted)
            responses = await asyncio.gather(
                *(self._link.call(node, request(parts)) for node, parts in groups.items())
            )
            result = {}
            for partition, code, offset in (answer for response in responses for answer in answers(response)):
                await self._check(doing, partition, code)
                result[partition] = offset
            return result

        return await self._link.persist(doing, attempt)

    async def _check(self, doing: str, partition: TopicPartition, code: int) -> None:
        if code == OK:
            return
        if retriable(code):
            await self._link.refresh({partition.topic})
            raise errors.for_code(code)
        raise bus_error(code, f"{doing} of {partition.topic}/{partition.partition}")


def _by_topic(
    parts: Iterable[TopicPartition], values: Mapping[TopicPartition, int]
) -> list[tuple[str, list[tuple[int, int]]]]:
    topics: dict[str, list[tuple[int, int]]] = {}
    for partition in parts:
        topics.setdefault(partition.topic, []).append((partition.partition, values[partition]))
    return list(topics.items())
