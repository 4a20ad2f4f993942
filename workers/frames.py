"""RUN frames: who runs under which lease, and the WorkBundle record; calibrations that a run names. Pure."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

from shotbus.broker.children.frames import FrameKind, frame

_LENGTH = struct.Struct("<I")


def run_frame(head: Mapping[str, Any], bundle: bytes) -> bytes:
    """Return the RUN frame: who runs under which lease, and the WorkBundle record."""
    text = json.dumps(head, separators=(",", ":")).encode()
    return frame(FrameKind.RUN, _LENGTH.pack(len(text)) + text + bundle)


def split_run(payload: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the head and the bundle of a RUN frame."""
    (length,) = _LENGTH.unpack_from(payload)
    end = _LENGTH.size + length
    head: dict[str, Any] = json.loads(payload[_LENGTH.size : end])
    return head, payload[end:]


def calibration_frame(calibration_id: str, snapshot: bytes) -> bytes:
    """Return the CALIBRATION frame: a content address and what it is of."""
    name = calibration_id.encode()
    return frame(FrameKind.CALIBRATION, _LENGTH.pack(len(name)) + name + snapshot)


def split_calibration(payload: bytes) -> tuple[str, bytes]:
    """Return the id and the snapshot of a CALIBRATION frame."""
    (length,) = _LENGTH.unpack_from(payload)
    end = _LENGTH.size + length
    return payload[_LENGTH.size : end].decode(), payload[end:]
