"""RUN frames: who runs under which lease, and the WorkBundle record. Pure."""

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
