"""What Kafka's error codes mean for the bus. Pure."""

from __future__ import annotations

from aiokafka import errors

from shotbus.broker.bus.base import (
    BusError,
    CommitUnknownError,
    FencedError,
    OffsetGapError,
    RecordTooLargeError,
    UnknownTopicError,
)

OK = 0
OFFSET_OUT_OF_RANGE = 1
UNKNOWN_TOPIC_OR_PARTITION = 3
MESSAGE_TOO_LARGE = 10
TOPIC_ALREADY_EXISTS = 36
NOT_CONTROLLER = 41
DUPLICATE_SEQUENCE = 46
CONCURRENT_TRANSACTIONS = 51
OPERATION_NOT_ATTEMPTED = 55
# aiokafka has no classes for these: 74, 75 leader epochs, 78 offset not available.
_RETRIABLE_WITHOUT_CLASS = frozenset({74, 75, 78})
# Coordinators that move or load; aiokafka marks some of them as retriable and some not.
_COORDINATOR_MOVED = frozenset({14, 15, 16})
# 47 is what old request versions are told, 90 what new ones are told.
_FENCED = frozenset({47, 90})


def retriable(code: int) -> bool:
    """Whether the same request may succeed after a metadata refresh."""
    if code in _RETRIABLE_WITHOUT_CLASS or code in _COORDINATOR_MOVED or code == CONCURRENT_TRANSACTIONS:
        return True
    return bool(errors.for_code(code).retriable)


def coordinator_moved(code: int) -> bool:
    """Whether the coordinator must be looked up again."""
    return code in _COORDINATOR_MOVED


def fenced(code: int) -> bool:
    """Whether a newer producer epoch exists."""
    return code in _FENCED


def describe(code: int) -> str:
    """Return the error's name and Kafka's explanation of it."""
    error = errors.for_code(code)
    return (
        f"{error.__name__} ({code}): {getattr(error, 'description', None) or getattr(error, 'message', '')}"
    )


def bus_error(code: int, doing: str) -> BusError:
    """Return the bus error for a broker's refusal of ``doing``."""
    if code == OFFSET_OUT_OF_RANGE:
        return OffsetGapError(f"{doing}: the offset is not in the log (deleted, or the log was replaced)")
    if code == UNKNOWN_TOPIC_OR_PARTITION:
        return UnknownTopicError(f"{doing}: no such topic or partition")
    if code == MESSAGE_TOO_LARGE:
        return RecordTooLargeError(f"{doing}: larger than the topic's max.message.bytes")
    if fenced(code):
        return FencedError(f"{doing}: another writer has taken over")
    return BusError(f"{doing}: {describe(code)}")


def unknown_commit(shard: str, why: object) -> CommitUnknownError:
    """Return the error for a transaction whose end was not confirmed."""
    return CommitUnknownError(f"shard {shard!r}: cannot tell whether the transaction committed ({why})")
