"""Outcomes shot by shot as packed arrays, counted without a string of any of them. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shotbus.schemas.packed import Array
from shotbus.workers.adapters.entries import Entries


def counted(samples: Array) -> Entries:
    """Count equal outcomes, row by row.

    Args:
        samples: rows x shots x bytes, the least significant byte first.

    """
    tables = [np.unique(_numbers(row), return_counts=True) for row in samples]
    width = samples.shape[2]
    outcomes = [_bytes(numbers, width) for numbers, _ in tables]
    sizes = [len(numbers) for numbers, _ in tables]
    indptr = np.concatenate([[0], np.cumsum(sizes)]).astype("<i4")
    counts = np.concatenate([count for _, count in tables]).astype("<i4")
    return Entries(indptr, np.concatenate(outcomes), counts)


def _numbers(row: Array) -> Array:
    """Return outcomes as something numpy sorts as numbers: integers, or bytes from the greatest down."""
    shots, width = row.shape
    if width <= 8:
        padded = np.zeros((shots, 8), dtype=np.uint8)
        padded[:, :width] = row
        return padded.view("<u8")[:, 0]
    return np.ascontiguousarray(row[:, ::-1]).view(f"V{width}")[:, 0]


def _bytes(numbers: Array, width: int) -> Array:
    if width <= 8:
        raw = np.ascontiguousarray(numbers).astype("<u8").view(np.uint8).reshape(-1, 8)
        return np.ascontiguousarray(raw[:, :width])
    raw = np.ascontiguousarray(numbers).view(np.uint8).reshape(-1, width)
    return np.ascontiguousarray(raw[:, ::-1])


def canonical(outcomes: Sequence[Entries]) -> bytes:
    """Return outcomes as bytes that say the same whenever they are fetched: some SDKs show no raw answer."""
    return b"".join(array.tobytes() for one in outcomes for array in (one.indptr, one.outcomes, one.counts))
