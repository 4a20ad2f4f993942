"""Named arrays as bytes: how bindings, observables, results and reductions travel. Pure.

Layout: ``SBA1``, a little-endian u32 with the length of a JSON header, the header, then the arrays
back to back, each little-endian and row-major, padded to 8 bytes. The header holds ``arrays`` (name,
dtype, shape) and ``meta`` (small strings and numbers). Numbers never travel as JSON lists.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from shotbus.schemas.errors import fail

MAGIC = b"SBA1"
MAX_HEADER_BYTES = 262_144
MAX_ARRAYS = 64
_DTYPES = frozenset({"<f8", "<f4", "<i8", "<i4", "<u8", "<u4", "<u2", "|u1", "<c16"})
_HEAD = struct.Struct("<4sI")

Array = npt.NDArray[Any]


def pack(arrays: Mapping[str, Array], meta: Mapping[str, Any] | None = None) -> bytes:
    """Return the bytes of ``arrays`` (any shape; dtype one of the wire's) and of ``meta``."""
    described, chunks = [], []
    for name, array in arrays.items():
        wire = np.ascontiguousarray(array)
        dtype = wire.dtype.newbyteorder("<").str
        if dtype not in _DTYPES:
            raise ValueError(f"array {name!r} has dtype {array.dtype}, which does not travel")
        raw = wire.astype(dtype, copy=False).tobytes()
        described.append([name, dtype, list(array.shape)])
        chunks.append(raw + b"\0" * (-len(raw) % 8))
    header = json.dumps({"arrays": described, "meta": dict(meta or {})}, separators=(",", ":")).encode()
    header += b" " * (-(len(header) + _HEAD.size) % 8)
    return b"".join([_HEAD.pack(MAGIC, len(header)), header, *chunks])


def unpack(data: bytes) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return read-only arrays over ``data`` and the meta mapping.

    Raises:
        ShotbusError: SB-1004 when anything does not add up; nothing is allocated beyond ``data``.

    """
    header, offset = _header(data)
    arrays: dict[str, Array] = {}
    try:
        for name, dtype, shape in header["arrays"]:
            arrays[str(name)], offset = _array(data, offset, dtype, shape)
    except (TypeError, ValueError, OverflowError) as error:
        raise fail("SB-1004", "$.arrays", detail=str(error)) from error
    if offset != len(data):
        raise fail("SB-1004", "$", limit=f"{offset} bytes", actual=f"{len(data)} bytes")
    return arrays, header["meta"]


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    if len(data) < _HEAD.size:
        raise fail("SB-1004", "$", detail="shorter than its head")
    magic, length = _HEAD.unpack_from(data)
    if magic != MAGIC or length > MAX_HEADER_BYTES or _HEAD.size + length > len(data):
        raise fail("SB-1004", "$", detail="not packed arrays")
    try:
        header = json.loads(data[_HEAD.size : _HEAD.size + length])
    except (ValueError, RecursionError) as error:
        raise fail("SB-1004", "$.header", detail="header is not JSON") from error
    if not _well_formed(header):
        raise fail("SB-1004", "$.header", detail="header has the wrong form")
    return header, _HEAD.size + length


def _well_formed(header: Any) -> bool:
    return (
        isinstance(header, dict)
        and isinstance(header.get("meta"), dict)
        and isinstance(header.get("arrays"), list)
        and len(header["arrays"]) <= MAX_ARRAYS
    )


def _array(data: bytes, offset: int, dtype: str, shape: list[int]) -> tuple[Array, int]:
    if dtype not in _DTYPES:
        raise ValueError(f"dtype {dtype!r:.20} does not travel")
    if len(shape) > 8 or not all(type(n) is int and 0 <= n < 2**40 for n in shape):
        raise ValueError("shape out of range")
    count = math.prod(shape)
    size = count * np.dtype(dtype).itemsize
    if offset + size > len(data):
        raise ValueError("array runs past the end")
    array = np.frombuffer(data, dtype=dtype, count=count, offset=offset).reshape(shape)
    return array, offset + size + (-size % 8)
