"""Answers that a job keeps beside itself until its own is there: as text, for its row. Pure."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

import numpy as np

from shotbus.broker.dispatcher.traits import PROBLEM
from shotbus.schemas.deviation import UNKNOWN, deviation
from shotbus.schemas.errors import ShotbusError
from shotbus.schemas.pub import Counts, Estimates, unpack_result

#: A larger payload does not go into a row.
MOST_BYTES = 16_384
_LEAST = 1e-12


def as_text(payload: bytes) -> str:
    """Return a payload as JSON can hold it."""
    return b64encode(payload).decode("ascii")


def as_bytes(text: str) -> bytes:
    """Return the payload of :func:`as_text`."""
    return b64decode(text)


def opened(payload: bytes) -> Counts | Estimates | None:
    """Return what is in a worker's payload; None for nothing, or nothing that can be read."""
    try:
        return unpack_result(payload)
    except ShotbusError:
        return None


def compared(payload: bytes, other: bytes, traits: int) -> dict[str, float]:
    """Return how far an answer is from a cheaper one and, where that is a question, how much better.

    A problem asks for the lowest value: the improvement is the share by which the answer is lower, -1 to 1.
    ``traits`` are the job's, see :mod:`shotbus.broker.dispatcher.traits`.
    """
    mine, theirs = opened(payload), opened(other)
    told = {}
    if (apart := deviation(mine, theirs)) != UNKNOWN:
        told["deviation"] = apart
        if isinstance(mine, Counts):
            # In another unit than that of estimates: what is measured of both is kept apart.
            told["distance"] = apart
    if traits & PROBLEM and isinstance(mine, Estimates) and isinstance(theirs, Estimates):
        lowest = [float(one.evs.min()) for one in (mine, theirs) if one.evs.size]
        if len(lowest) == 2 and np.isfinite(lowest).all():
            share = (lowest[1] - lowest[0]) / max(abs(lowest[1]), _LEAST)
            told["improvement"] = max(-1.0, min(1.0, share))
    return told


def kept(told: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a row keeps of an answer; None when it is too large."""
    provenance = told.get("provenance", b"")
    if len(told["payload"]) + len(provenance) > MOST_BYTES:
        return None
    words = {name: told[name] for name in _WORDS if name in told}
    return {**words, "payload": as_text(told["payload"]), "provenance": as_text(provenance)}


def unkept(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer of :func:`kept`."""
    return {**row, "payload": as_bytes(row["payload"]), "provenance": as_bytes(row["provenance"])}


_WORDS = ("executed_on", "shots", "seed", "age_ms", "cost", "backend_seconds", "pool", "attempt")
