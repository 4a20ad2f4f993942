"""Fetched Kafka batches made safe to decode: what unpacks to too much, and names that are no text. Pure.

Whoever may write to a topic chooses the compression and the headers. A megabyte of zstd unpacks to ten
gigabytes, and aiokafka unpacks before it looks; a header name that is not UTF-8 makes it raise. Either would
end the reading of the partition for good. Here such a batch becomes one record that holds its bytes, and such
a name is repaired; both are then refused like any other record that is none of ours.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import cramjam
from aiokafka.codec import _detect_xerial_stream  # not public, but what the decoder itself asks
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c, decode_varint

from shotbus.broker.bus.limits import OVERSIZE_BATCH

#: A batch that unpacks to more becomes one record; with our headers its dead letter still fits a record.
MAX_UNPACKED_BYTES = 3 * 1_048_576

# Base offset, length, leader epoch, magic, CRC, attributes, last offset delta, first and last timestamp,
# producer id and epoch, base sequence, number of records.
_HEAD = struct.Struct(">qiibIhiqqqhii")
_LENGTH_AT, _MAGIC_AT, _CRC_AT, _ATTRIBUTES_AT, _LAST_DELTA_AT = 8, 16, 17, 21, 23
_BEFORE_LENGTH = 12
_CODEC, _TRANSACTIONAL, _CONTROL = 0x07, 0x10, 0x20
_ROOM = 16 * 1_048_576


class _Batch(NamedTuple):
    raw: memoryview
    base: int
    attributes: int
    last_delta: int
    first_timestamp: int
    producer: tuple[int, int, int]
    records: int

    @property
    def body(self) -> memoryview:
        return self.raw[_HEAD.size :]


class _Item(NamedTuple):
    delta: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def tame(data: bytes) -> bytes:
    """Return fetched batches with each that unpacks to too much replaced; mostly ``data`` itself."""
    if not any(_is_compressed(raw) for raw in _batches(data)):
        return data
    return b"".join(_within_bounds(raw) for raw in _batches(data))


def repair(data: bytes) -> bytes:
    """Return fetched batches, tame ones, with every header name as text; for those that do not decode."""
    return b"".join(_repaired(raw) for raw in _batches(data))


def _batches(data: bytes) -> Iterator[memoryview]:
    """Yield the batches of the present format; the last one of a fetch may be cut off."""
    view, at = memoryview(data), 0
    while at + _HEAD.size <= len(view):
        (length,) = struct.unpack_from(">i", view, at + _LENGTH_AT)
        end = at + _BEFORE_LENGTH + length
        if length < 0 or end > len(view):
            break
        yield view[at:end]
        at = end


def _is_compressed(raw: memoryview) -> bool:
    return raw[_MAGIC_AT] == 2 and bool(raw[_ATTRIBUTES_AT + 1] & _CODEC)


def _read(raw: memoryview) -> _Batch:
    base, _, _, _, _, attributes, last_delta, first, _, *producer, count = _HEAD.unpack_from(raw)
    identifier, epoch, sequence = producer
    return _Batch(raw, base, attributes, last_delta, first, (identifier, epoch, sequence), count)


def _within_bounds(raw: memoryview) -> bytes:
    if not _is_compressed(raw):
        return bytes(raw)
    batch = _read(raw)
    if _unpacked(batch) is not None:
        return bytes(raw)
    headers = [(OVERSIZE_BATCH, str(len(raw)).encode())]
    return _rebuilt(batch, [_Item(batch.last_delta, batch.first_timestamp, None, bytes(raw), headers)])


def _unpacked(batch: _Batch) -> bytes | None:
    """Return the batch's body, None when it is more than allowed, or cannot be unpacked at all."""
    unpack = _UNPACKERS.get(batch.attributes & _CODEC)
    if unpack is None:
        return None
    room = bytearray(MAX_UNPACKED_BYTES)
    try:
        return bytes(memoryview(room)[: unpack(bytes(batch.body), room)])
    except (cramjam.DecompressionError, struct.error, ValueError):
        return None


def _snappy(data: bytes, room: bytearray) -> int:
    """Unpack raw snappy, or the blocks that Java's clients write, into ``room``."""
    if not _detect_xerial_stream(data):
        return int(cramjam.snappy.decompress_raw_into(data, room))
    at, filled = 16, 0
    while at < len(data):
        (size,) = struct.unpack_from(">i", data, at)
        block = data[at + 4 : at + 4 + size]
        if size <= 0 or filled + cramjam.snappy.decompress_raw_len(block) > len(room):
            raise ValueError("no block, or more than allowed")
        unpacked = bytes(cramjam.snappy.decompress_raw(block))
        room[filled : filled + len(unpacked)] = unpacked
        at, filled = at + 4 + size, filled + len(unpacked)
    return filled


_UNPACKERS: dict[int, Callable[[bytes, bytearray], int]] = {
    1: lambda data, room: int(cramjam.gzip.decompress_into(data, room)),
    2: _snappy,
    3: lambda data, room: int(cramjam.lz4.decompress_into(data, room)),
    4: lambda data, room: int(cramjam.zstd.decompress_into(data, room)),
}


def _repaired(raw: memoryview) -> bytes:
    if raw[_MAGIC_AT] != 2:
        return bytes(raw)
    batch = _read(raw)
    if batch.attributes & _CONTROL or batch.records <= 0:
        return bytes(raw)
    body = bytes(batch.body) if not batch.attributes & _CODEC else _unpacked(batch)
    if body is None:
        return bytes(raw)
    return _rebuilt(batch, list(_items(batch, bytearray(body))))


def _items(batch: _Batch, body: bytearray) -> Iterator[_Item]:
    at = 0
    for _ in range(batch.records):
        length, at = decode_varint(body, at)
        end = at + length
        timestamp, start = decode_varint(body, at + 1)
        delta, start = decode_varint(body, start)
        key, start = _bytes(body, start)
        value, start = _bytes(body, start)
        yield _Item(delta, batch.first_timestamp + timestamp, key, value, _headers(body, start))
        at = end


def _headers(body: bytearray, at: int) -> list[tuple[str, bytes]]:
    count, at = decode_varint(body, at)
    headers = []
    for _ in range(count):
        name, at = _bytes(body, at)
        value, at = _bytes(body, at)
        headers.append(((name or b"").decode("utf-8", "replace"), value or b""))
    return headers


def _bytes(body: bytearray, at: int) -> tuple[bytes | None, int]:
    length, at = decode_varint(body, at)
    return (None, at) if length < 0 else (bytes(body[at : at + length]), at + length)


def _rebuilt(batch: _Batch, items: list[_Item]) -> bytes:
    """Return an uncompressed batch of these records in the place of ``batch``."""
    identifier, epoch, sequence = batch.producer
    transactional = bool(batch.attributes & _TRANSACTIONAL)
    builder: Any = DefaultRecordBatchBuilder(2, 0, int(transactional), identifier, epoch, sequence, _ROOM)
    for item in items:
        builder.append(item.delta, item.timestamp, item.key, item.value, item.headers)
    built = bytearray(builder.build())
    # The builder begins at 0 and ends at its last record; others behind it may have been compacted away.
    struct.pack_into(">q", built, 0, batch.base)
    struct.pack_into(">i", built, _LAST_DELTA_AT, batch.last_delta)
    struct.pack_into(">I", built, _CRC_AT, calc_crc32c(bytes(built[_ATTRIBUTES_AT:])))
    return bytes(built)
