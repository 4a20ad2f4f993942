"""What aiokafka leaves out for static members (KIP-345): heartbeats and commits with their name. Pure.

aiokafka names it when it joins and syncs. Its heartbeats and commits do not, so a member whose place a twin
has taken hears that it is unknown, joins again and takes the place back, and so does the twin, for ever. With
the name the broker says which of them is fenced. The versions are the last before the flexible ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiokafka.protocol.api import Request, RequestStruct
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetCommitRequest_v3, OffsetCommitResponse_v3
from aiokafka.protocol.group import HeartbeatRequest, HeartbeatRequest_v1, HeartbeatResponse_v1
from aiokafka.protocol.types import Array, Int32, Int64, Schema, String

_FENCED_INSTANCE_ID = 82
_NO_EPOCH = -1
_TEXT = String("utf-8")


class HeartbeatResponse_v3(HeartbeatResponse_v1):  # type: ignore[misc]  # noqa: N801  # aiokafka: untyped, names
    API_VERSION = 3


class HeartbeatRequest_v3(RequestStruct):  # type: ignore[misc]  # noqa: N801  # aiokafka: untyped, names
    API_KEY = HeartbeatRequest.API_KEY
    API_VERSION = 3
    RESPONSE_TYPE = HeartbeatResponse_v3
    SCHEMA = Schema(
        ("group", _TEXT), ("generation_id", Int32), ("member_id", _TEXT), ("group_instance_id", _TEXT)
    )


class OffsetCommitResponse_v7(OffsetCommitResponse_v3):  # type: ignore[misc]  # noqa: N801  # the same
    API_VERSION = 7


class OffsetCommitRequest_v7(RequestStruct):  # type: ignore[misc]  # noqa: N801  # aiokafka: untyped, names
    API_KEY = OffsetCommitRequest.API_KEY
    API_VERSION = 7
    RESPONSE_TYPE = OffsetCommitResponse_v7
    _PARTITION = (("partition", Int32), ("offset", Int64), ("leader_epoch", Int32), ("metadata", _TEXT))
    SCHEMA = Schema(
        ("group", _TEXT),
        ("generation_id", Int32),
        ("member_id", _TEXT),
        ("group_instance_id", _TEXT),
        ("topics", Array(("topic", _TEXT), ("partitions", Array(*_PARTITION)))),
    )


class StaticHeartbeat(Request[HeartbeatRequest_v3]):  # type: ignore[misc]  # aiokafka is untyped
    """A heartbeat of an instance."""

    API_KEY = HeartbeatRequest.API_KEY

    def __init__(self, plain: Any, instance: str) -> None:
        """Take over aiokafka's HeartbeatRequest."""
        self._plain, self._instance = plain.build(HeartbeatRequest_v1), instance

    def build(self, request_struct_class: Any) -> Any:
        plain = self._plain
        return request_struct_class(plain.group, plain.generation_id, plain.member_id, self._instance)


class StaticCommit(Request[OffsetCommitRequest_v7]):  # type: ignore[misc]  # aiokafka is untyped
    """Positions committed by an instance."""

    API_KEY = OffsetCommitRequest.API_KEY

    def __init__(self, plain: Any, instance: str) -> None:
        """Take over aiokafka's OffsetCommitRequest."""
        self._plain, self._instance = plain.build(OffsetCommitRequest_v3), instance

    def build(self, request_struct_class: Any) -> Any:
        plain = self._plain
        topics = [
            (topic, [(partition, offset, _NO_EPOCH, told) for partition, offset, told in partitions])
            for topic, partitions in plain.topics
        ]
        member = (plain.consumer_group, plain.consumer_group_generation_id, plain.consumer_id)
        return request_struct_class(*member, self._instance, topics)


def named(request: Any, instance: str) -> Any:
    """Return ``request`` with the instance in it, where aiokafka has no place for that."""
    if isinstance(request, HeartbeatRequest):
        return StaticHeartbeat(request, instance)
    if isinstance(request, OffsetCommitRequest):
        return StaticCommit(request, instance)
    return request


def fenced(response: Any) -> bool:
    """Tell whether the broker says that another member has taken the instance's place."""
    return _FENCED_INSTANCE_ID in _codes(response)


def _codes(response: Any) -> Iterator[int]:
    if isinstance(response, OffsetCommitResponse_v7):
        yield from (code for _, partitions in response.topics for _, code in partitions)
    else:
        yield getattr(response, "error_code", 0)
