"""Records to bytes and back: Avro behind Confluent framing (``0x00`` and a 4-byte schema id). Pure.

Two ways in: :func:`decode` for records our own processes wrote, :func:`decode_untrusted` for records
from outside, which also must be exactly what a canonical writer would have produced. fastavro alone
accepts trailing bytes, over-long varints and negative union indexes; re-encoding finds them all.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from functools import cache
from typing import Any

import fastavro

from shotbus.schemas.errors import fail
from shotbus.schemas.registry import IDS, SchemaKey, latest, parsed_schema, schema_id

MAX_RECORD_BYTES = 1_048_576
_FRAME = struct.Struct(">bI")

# What fastavro raises on hostile or damaged bytes; anything else would be a defect of ours.
_DECODE_ERRORS = (
    EOFError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    StopIteration,
    struct.error,
)

Fields = dict[str, Any]


@cache
def _writer_of(name: str) -> tuple[Any, bytes]:
    key = latest(name)
    return parsed_schema(key), _FRAME.pack(0, schema_id(key))


def encode(name: str, fields: Mapping[str, Any]) -> bytes:
    """Return the framed bytes of a record in its newest version.

    Raises ValueError or TypeError for fields that do not fit the schema: a defect of the caller.
    """
    schema, frame = _writer_of(name)
    stream = io.BytesIO()
    stream.write(frame)
    fastavro.schemaless_writer(stream, schema, fields)
    return stream.getvalue()


def identify(data: bytes | None) -> SchemaKey:
    """Return which record the frame announces. Raises ShotbusError (SB-1001, SB-1005, SB-1006)."""
    if not data:
        raise fail("SB-1005", "$", detail="null" if data is None else "no bytes")
    if len(data) < _FRAME.size:
        raise fail("SB-1006", "$", detail="shorter than the frame")
    magic, number = _FRAME.unpack_from(data)
    key = IDS.get(number)
    if magic != 0 or key is None:
        raise fail("SB-1001", "$", actual=f"magic {magic}, schema id {number}")
    return key


def decode(data: bytes | None, *expected: str) -> tuple[str, Fields]:
    """Return the record's name and fields, read with the newest version's schema.

    Args:
        data: a framed record written by one of our own processes.
        expected: names that may stand here; none given accepts any.

    Raises:
        ShotbusError: SB-1001 for another record, SB-1005 for none, SB-1006 for a damaged one.

    """
    key = identify(data)
    if expected and key.name not in expected:
        raise fail("SB-1001", "$", limit=" or ".join(expected), actual=key.name)
    newest = latest(key.name)
    stream = io.BytesIO(data or b"")
    stream.seek(_FRAME.size)
    try:
        if key == newest:
            fields = fastavro.schemaless_reader(stream, parsed_schema(key), None)
        else:
            fields = fastavro.schemaless_reader(stream, parsed_schema(key), parsed_schema(newest))
    except _DECODE_ERRORS as error:
        raise fail("SB-1006", "$", detail=f"{key.name}: {type(error).__name__}") from error
    return key.name, fields


def decode_untrusted(data: bytes | None, name: str, *, max_bytes: int = MAX_RECORD_BYTES) -> Fields:
    """Return the fields of a record from outside, or refuse it.

    Raises:
        ShotbusError: SB-1003 over ``max_bytes``, SB-1002 readable but not canonical, or as :func:`decode`.

    """
    if data is not None and len(data) > max_bytes:
        raise fail("SB-1003", "$", limit=f"{max_bytes} bytes", actual=f"{len(data)} bytes")
    _, fields = decode(data, name)
    if not _is_canonical(data or b"", fields):
        raise fail("SB-1002", "$", hint="encode with an Avro library and send exactly its bytes")
    return fields


def _is_canonical(data: bytes, fields: Fields) -> bool:
    key = identify(data)
    again = io.BytesIO()
    again.write(data[: _FRAME.size])
    try:
        written = fields if key == latest(key.name) else _as_written(data, key)
        fastavro.schemaless_writer(again, parsed_schema(key), written)
    except _DECODE_ERRORS:
        return False
    return again.getvalue() == data


def _as_written(data: bytes, key: SchemaKey) -> Fields:
    """Read with the writer's own schema: a field that a newer version dropped must compare too."""
    stream = io.BytesIO(data)
    stream.seek(_FRAME.size)
    fields: Fields = fastavro.schemaless_reader(stream, parsed_schema(key), None)
    return fields
