"""What a bus refuses before anything is written: sizes, unknown partitions, missing keys. Pure, no I/O."""

from __future__ import annotations

from shotbus.broker.bus.base import BusError, Cleanup, Outgoing, RecordTooLargeError, UnknownTopicError

#: Header of a record that stands for a compressed batch which would unpack to too much; its value is the
#: batch as it came, the header's value its size. Nobody decodes it.
OVERSIZE_BATCH = "oversize-batch"


def record_bytes(record: Outgoing) -> int:
    """Return the payload size that ``max_record_bytes`` bounds: key, value and headers."""
    size = len(record.key or b"") + len(record.value or b"")
    if record.headers:
        size += sum(len(name) + len(value) for name, value in record.headers)
    return size


def check_record(record: Outgoing, *, partitions: int, max_record_bytes: int, cleanup: Cleanup) -> int:
    """Return the size of ``record`` in bytes when its topic, described by the arguments, takes it.

    Raises :class:`UnknownTopicError`, :class:`RecordTooLargeError`, or :class:`BusError` for a record
    without key in a compacted topic.
    """
    check_partition(record.topic, record.partition, partitions)
    size = record_bytes(record)
    if size > max_record_bytes:
        raise RecordTooLargeError(f"a record of {size} bytes, but {record.topic} takes {max_record_bytes}")
    if record.key is None and cleanup.startswith("compact"):
        raise BusError(f"{record.topic} is compacted: its records need a key")
    return size


def check_partition(topic: str, partition: int, partitions: int) -> None:
    """Raise :class:`UnknownTopicError` unless ``topic`` with ``partitions`` has this one."""
    if not 0 <= partition < partitions:
        raise UnknownTopicError(f"{topic} has no partition {partition}, only {partitions}")


def check_trim(topic: str, cleanup: Cleanup) -> None:
    """Raise :class:`BusError` when the records of ``topic`` cannot be deleted by offset."""
    if cleanup == "compact":
        raise BusError(f"{topic} is compacted: its records cannot be trimmed")
