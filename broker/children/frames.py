"""Frames between a process and its child: a length, a kind, bytes; no pickle. Reads streams.

HELLO is a child's first frame. A worker sends RUN (a JSON head and a WorkBundle record); its child asks for
circuits that it does not hold with NEED, gets CIRCUIT records and GO, tells with STAGE what it begins, and
answers with CALIBRATION (an id and the snapshot, which outcomes name), OUTCOME records and DONE. Meanwhile
the worker says with CANCEL (JSON: a bundle's id, jobs of it) what nobody wants any more. Asked between two
runs with SENSE, a child says with SENSED how its backend is (JSON). A dispatcher sends INSPECT (a circuit's
text) and its child answers FACTS (a CircuitFacts record).
"""

from __future__ import annotations

import asyncio
import json
import struct
from enum import IntEnum
from typing import Any, BinaryIO, NamedTuple

#: A bundle record has at most 2 MiB; anything near this bound is a damaged stream.
MAX_FRAME_BYTES = 64 * 1_048_576
_HEAD = struct.Struct("<IB")


class FrameKind(IntEnum):
    """What a frame holds."""

    HELLO = 1
    RUN = 2
    NEED = 3
    CIRCUIT = 4
    GO = 5
    OUTCOME = 6
    DONE = 7
    INSPECT = 8
    FACTS = 9
    STAGE = 10
    SENSE = 11
    SENSED = 12
    CANCEL = 13
    CALIBRATION = 14


_KINDS = {int(kind): kind for kind in FrameKind}


class FrameError(Exception):
    """The stream ended inside a frame, or holds something else."""


class Frame(NamedTuple):
    """One message."""

    kind: FrameKind
    payload: bytes

    def document(self) -> Any:
        """Return the JSON payload."""
        return json.loads(self.payload)


def frame(kind: FrameKind, payload: bytes = b"") -> bytes:
    """Return the bytes of a frame."""
    return _HEAD.pack(len(payload), kind) + payload


def json_frame(kind: FrameKind, document: Any) -> bytes:
    """Return the bytes of a frame with a JSON payload."""
    return frame(kind, json.dumps(document, separators=(",", ":")).encode())


def _parsed_head(head: bytes) -> tuple[int, FrameKind]:
    length, number = _HEAD.unpack(head)
    kind = _KINDS.get(number)
    if length > MAX_FRAME_BYTES or kind is None:
        raise FrameError(f"not a frame: length {length}, kind {number}")
    return length, kind


def read_frame(stream: BinaryIO) -> Frame | None:
    """Block for the next frame; None at the end of the stream. Raises FrameError."""
    head = stream.read(_HEAD.size)
    if not head:
        return None
    if len(head) < _HEAD.size:
        raise FrameError("the stream ended inside a head")
    length, kind = _parsed_head(head)
    payload = stream.read(length)
    if len(payload) < length:
        raise FrameError("the stream ended inside a frame")
    return Frame(kind, payload)


async def receive_frame(stream: asyncio.StreamReader) -> Frame:
    """Wait for the next frame. Raises FrameError, and asyncio.IncompleteReadError at the end."""
    length, kind = _parsed_head(await stream.readexactly(_HEAD.size))
    return Frame(kind, await stream.readexactly(length))
