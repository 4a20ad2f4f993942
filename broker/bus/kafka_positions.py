"""Questions about a Kafka consumer group from outside it: how far it is, and who is in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiokafka import errors
from aiokafka.protocol.admin import DescribeGroupsRequest, DescribeGroupsRequest_v2
from aiokafka.protocol.api import Request
from aiokafka.protocol.commit import OffsetFetchRequest

from shotbus.broker.bus.base import TopicPartition
from shotbus.broker.bus.kafka_errors import OK, UNKNOWN_TOPIC_OR_PARTITION, bus_error, coordinator_moved
from shotbus.broker.bus.kafka_link import GROUP, Link

_NO_POSITION = -1


class _CoordinatorAway(errors.KafkaError):  # type: ignore[misc]  # aiokafka is untyped
    """Look it up again."""

    retriable = True


class _Describe(Request[DescribeGroupsRequest_v2]):  # type: ignore[misc]  # aiokafka is untyped
    """One group. aiokafka would choose v3, whose answer it reads as v2's."""

    API_KEY = DescribeGroupsRequest.API_KEY

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class([self._group])


class Groups:
    """Asks groups' coordinators."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def committed(self, group: str, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the recorded positions of those partitions that have one."""
        topics: dict[str, list[int]] = {}
        for partition in partitions:
            topics.setdefault(partition.topic, []).append(partition.partition)
        if not topics:
            return {}
        doing = f"read positions of group {group!r}"
        answer = await self._ask(doing, group, OffsetFetchRequest(group, list(topics.items())))
        found = {}
        for topic, parts in answer.topics:
            for partition, offset, _, code in parts:
                if code not in (OK, UNKNOWN_TOPIC_OR_PARTITION):
                    raise bus_error(code, doing)
                if offset != _NO_POSITION:
                    found[TopicPartition(topic, partition)] = offset
        return found

    async def members(self, group: str) -> int:
        """Return how many members the group has; a group that nobody ever joined has none."""
        answer = await self._ask(f"describe group {group!r}", group, _Describe(group))
        return sum(len(members) for *_, members in answer.groups)

    async def _ask(self, doing: str, group: str, request: Any) -> Any:
        async def attempt() -> Any:
            try:
                response = await self._link.call(await self._link.coordinator(GROUP, group), request)
            except errors.KafkaError as error:
                self._link.forget_coordinator(GROUP, group)
                if coordinator_moved(getattr(error, "errno", OK)):
                    raise _CoordinatorAway(str(error)) from error
                raise
            code = _code_of(response)
            if coordinator_moved(code):
                self._link.forget_coordinator(GROUP, group)
                raise _CoordinatorAway(doing)
            if code != OK:
                raise bus_error(code, doing)
            return response

        return await self._link.persist(doing, attempt)


def _code_of(response: Any) -> int:
    """Return an answer's error, which a description has in its only group."""
    if hasattr(response, "groups"):
        return next((int(code) for code, *_ in response.groups), OK)
    return int(response.error_code)
