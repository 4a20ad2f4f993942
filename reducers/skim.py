"""Reads a few fields of an Avro record without decoding the rest. Pure.

The projector copies nearly everything it reads. Decoding a result and its events to Python objects costs
four times what it takes to step over their fields, and a field that is only copied may stay encoded.
Only for records of our own processes; positions follow from the schema the record was written with.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from shotbus.schemas.codec import identify
from shotbus.schemas.errors import fail
from shotbus.schemas.registry import SchemaKey, raw_schema

FRAME_BYTES = 5
_SIZED, _NUMBER, _ARRAY = range(3)
# Of the tenth and last digit of a long.
_LONGEST_SHIFT = 63

_KINDS = {
    "string": _SIZED,
    "bytes": _SIZED,
    "int": _NUMBER,
    "long": _NUMBER,
    "enum": _NUMBER,
    "boolean": _NUMBER,
}

#: Fields as they stand in the record: encoded, with the length before a text.
Encoded = list[bytes]


class Shape(NamedTuple):
    """The leading fields of a record: where each stands and how it is stepped over."""

    places: Mapping[str, int]
    kinds: tuple[int, ...]


@cache
def shape(key: SchemaKey, last: str) -> Shape:
    """Return the shape of a record's fields up to ``last``."""
    return _shape_of(raw_schema(key)["fields"], last)


@cache
def item_shape(key: SchemaKey, array: str) -> Shape:
    """Return the shape of the records in the array field ``array``."""
    field = next(field for field in raw_schema(key)["fields"] if field["name"] == array)
    fields = field["type"]["items"]["fields"]
    return _shape_of(fields, fields[-1]["name"])


def _shape_of(fields: list[dict[str, Any]], last: str) -> Shape:
    names = [field["name"] for field in fields]
    leading = fields[: names.index(last) + 1]
    return Shape({name: place for place, name in enumerate(names)}, tuple(_kind(f["type"]) for f in leading))


def _kind(kind: Any) -> int:
    name = kind["type"] if isinstance(kind, dict) else kind
    if isinstance(name, list) or name in ("array", "map"):
        return _ARRAY
    try:
        return _KINDS[name]
    except KeyError:
        raise ValueError(f"fields of type {name} cannot be stepped over") from None


def skim(data: bytes, position: int, kinds: tuple[int, ...]) -> tuple[Encoded, int]:
    """Return the encoded fields from ``position`` on, and the position behind them.

    Raises:
        ShotbusError: SB-1006 when the record ends early or a field can only be decoded (an array or a
            union that is not empty).

    """
    fields: Encoded = []
    try:
        for kind in kinds:
            start = position
            byte = data[position]
            position += 1
            if byte >= 0x80:
                value, position = number(data, start)
            else:
                value = byte >> 1
            if kind == _SIZED:
                if value < 0:
                    raise fail("SB-1006", "$", detail="a length below zero")
                position += value
            elif kind == _ARRAY and byte:
                raise fail("SB-1006", "$", detail="a field cannot be stepped over")
            fields.append(data[start:position])
    except IndexError as error:
        raise fail("SB-1006", "$", detail="record ends early") from error
    if position > len(data):
        raise fail("SB-1006", "$", detail="record ends early")
    return fields, position


def number(data: bytes, position: int) -> tuple[int, int]:
    """Return the (zigzag, variable length) number at ``position``, and the position behind it.

    Raises IndexError at the data's end, ShotbusError (SB-1006) for more digits than a long has.
    """
    shift = value = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), position
        shift += 7
        if shift > _LONGEST_SHIFT:
            # A megabyte of digits would be a number that takes hours to build.
            raise fail("SB-1006", "$", detail="a number without end")


def text(encoded: bytes) -> str:
    """Return what an encoded string says."""
    length, start = number(encoded, 0)
    return encoded[start : start + length].decode()


def encode_text(words: str) -> bytes:
    """Return a string as it stands in a record."""
    raw = words.encode()
    value, out = len(raw) << 1, bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out) + raw


def items(data: bytes, before: str, array: str) -> tuple[Encoded, list[Encoded], Shape]:
    """Skim a record that ends with the array ``array``, which follows the field ``before``.

    Returns:
        The fields up to ``before``, the fields of each item, and the items' shape.

    Raises:
        ShotbusError: SB-1001 for another record, SB-1006 for a damaged one.

    """
    key = identify(data)
    head, position = skim(data, FRAME_BYTES, shape(key, before).kinds)
    form = item_shape(key, array)
    found: list[Encoded] = []
    try:
        count, position = number(data, position)
        while count:
            if count < 0:  # the long form of a block: its size in bytes follows
                count, (_, position) = -count, number(data, position)
            for _ in range(count):
                fields, position = skim(data, position, form.kinds)
                found.append(fields)
            count, position = number(data, position)
    except IndexError as error:
        raise fail("SB-1006", "$", detail="record ends early") from error
    return head, found, form
