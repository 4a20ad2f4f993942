"""Answers as Qiskit's ``DataBin``. Imports Qiskit when asked."""

from __future__ import annotations

from typing import Any

import numpy as np

from shotbus.schemas.pub import Counts, Estimates


def databin_of(payload: Counts | Estimates | None) -> Any:
    """Return bit arrays by register, or ``evs`` and ``stds``; an empty bin for no answer."""
    from qiskit.primitives.containers import DataBin

    if isinstance(payload, Estimates):
        return DataBin(evs=payload.evs, stds=payload.stds, shape=payload.evs.shape)
    if payload is None:
        return DataBin()
    registers = {name: _bit_array(payload, low, width) for name, low, width in _spans(payload)}
    return DataBin(**registers, shape=(payload.points,))


def _spans(counts: Counts) -> list[tuple[str, int, int]]:
    spans, low = [], 0
    for name, width in counts.registers:
        spans.append((name, low, width))
        low += width
    return spans


def _bit_array(counts: Counts, low: int, width: int) -> Any:
    """Repeat each outcome by its count; every point of a job has the same number of shots."""
    from qiskit.primitives.containers import BitArray

    bits = np.unpackbits(counts.outcomes, axis=1, bitorder="little")[:, low : low + width]
    packed = _pad(bits, width)
    rows = np.repeat(packed, counts.counts, axis=0)
    shots = len(rows) // counts.points
    return BitArray(rows.reshape(counts.points, shots, packed.shape[1]), width)


def _pad(bits: Any, width: int) -> Any:
    """Pack most significant bit first, with zeros in front up to whole bytes, as BitArray stores them."""
    front = np.zeros((bits.shape[0], -width % 8), dtype=bits.dtype)
    return np.packbits(np.hstack([front, bits[:, ::-1]]), axis=1, bitorder="big")
