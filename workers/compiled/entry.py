"""A compiled circuit as one file: what it is kept under, how it is framed and checked. Pure.

A file is a fixed head, a JSON object and bytes that its adapter understands. The checksum covers the key
too: an entry that stands under another name, or was cut off or changed, is none.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from shotbus.schemas.ids import digest

MAGIC = b"SBCC"
#: Of the frame and of what our own code makes of a circuit before an SDK compiles it.
VERSION = 2
_CHECK_BYTES = 32
_HEAD = struct.Struct(f"<4sHII{_CHECK_BYTES}s")


class Entry(NamedTuple):
    """What was kept: ``told`` is JSON (wires, registers), ``body`` the circuit in its adapter's own form."""

    told: Mapping[str, Any]
    body: bytes


def key_of(
    circuit_id: str,
    target: str,
    *,
    calibration_id: str,
    options: Mapping[str, Any],
    bare: bool,
    versions: Mapping[str, str],
) -> str:
    """Return under what a compiled circuit is kept, 64 hex digits.

    Args:
        circuit_id: content address of the text.
        target: adapter and what it compiles for.
        calibration_id: content address of what was known of the target, empty where nothing is.
        options: all that change what compiling makes of it; JSON values.
        bare: whether final measurements are left out.
        versions: of the packages that compile.

    """
    known = {"options": dict(options), "bare": bare, "versions": dict(versions), "format": VERSION}
    return digest(circuit_id, target, calibration_id, json.dumps(known, sort_keys=True), size=32).hex()


def pack(key: str, entry: Entry) -> bytes:
    """Return the bytes of a file under ``key``. Raises ValueError for what JSON has no word for."""
    told = json.dumps(entry.told, separators=(",", ":"), allow_nan=False).encode()
    check = _check(key, told, entry.body)
    return _HEAD.pack(MAGIC, VERSION, len(told), len(entry.body), check) + told + entry.body


def unpack(key: str, data: bytes) -> Entry | None:
    """Return what a file under ``key`` holds, None for anything that :func:`pack` did not make for it."""
    if len(data) < _HEAD.size:
        return None
    magic, version, told_size, body_size, check = _HEAD.unpack_from(data)
    body_at = _HEAD.size + told_size
    if (magic, version) != (MAGIC, VERSION) or len(data) != body_at + body_size:
        return None
    told, body = data[_HEAD.size : body_at], data[body_at:]
    if _check(key, told, body) != check:
        return None
    return Entry(json.loads(told), body)


def _check(key: str, told: bytes, body: bytes) -> bytes:
    hashed = hashlib.blake2b(digest_size=_CHECK_BYTES)
    # With their lengths, so that no byte can move from one part to the next.
    for part in (key.encode(), told, body):
        hashed.update(len(part).to_bytes(8, "little"))
        hashed.update(part)
    return hashed.digest()
