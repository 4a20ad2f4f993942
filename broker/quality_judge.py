"""Holding answers against quality gates. Pure.

Apart from what is said about gates (:mod:`shotbus.broker.quality`): the command line reads it without numpy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from shotbus.broker.quality import ANY, Gate, misfits
from shotbus.schemas.errors import Problem
from shotbus.schemas.packed import Array
from shotbus.schemas.pub import Counts, Estimates, unpack_result


def failures(gates: Sequence[Gate], payload: bytes) -> list[Problem]:
    """Return what an answer fails (SB-5011, SB-1108 for outcomes of another width); empty when it counts.

    ``payload`` is packed (:mod:`shotbus.schemas.pub`); the empty one of pools that compute nothing holds
    nothing to look at. Raises ShotbusError (SB-1004) for one that cannot be read.
    """
    answer = unpack_result(payload)
    if answer is None:
        return []
    judged = _of_counts if isinstance(answer, Counts) else _of_estimates
    return [problem for gate in gates for problem in judged(gate, answer)]


def _of_estimates(gate: Gate, answer: Any) -> Iterator[Problem]:
    if gate.outcomes or gate.parity:
        yield Problem("SB-5011", f"{gate.place}outcomes", limit="counts", actual="expectation values")
    estimates: Estimates = answer
    if gate.max_stderr < math.inf:
        # What is not known is not small.
        over = np.nan_to_num(estimates.stds - gate.max_stderr, nan=math.inf)
        yield from _worst(f"{gate.place}max_stderr", f"{gate.max_stderr:g}", estimates.stds, over)
    if gate.span != ANY:
        low, high = gate.span
        with np.errstate(invalid="ignore"):
            # Neither is an infinite value inside an open range: its distance is not a number.
            apart = np.abs(estimates.evs - np.clip(estimates.evs, low, high))
        over = np.nan_to_num(apart, nan=math.inf)
        yield from _worst(f"{gate.place}range", f"{low:g}..{high:g}", estimates.evs, over)


def _worst(path: str, limit: str, values: Array, over: Array) -> Iterator[Problem]:
    """Yield the problem of the value that is farthest over its limit, if any is."""
    if over.size and over.max() > 0:
        place = np.unravel_index(int(over.argmax()), over.shape)
        where = " of observable ".join(str(number) for number in place)
        yield Problem("SB-5011", path, limit=limit, actual=f"{values[place]:.6g} at point {where}")


def _of_counts(gate: Gate, answer: Any) -> Iterator[Problem]:
    counts: Counts = answer
    if gate.max_stderr < math.inf or gate.span != ANY:
        yield Problem("SB-5011", f"{gate.place}range", limit="expectation values", actual="counts")
    if gate.outcomes:
        wrong = list(misfits(gate, sum(width for _, width in counts.registers)))
        yield from wrong or _short(gate, "outcomes", gate.share, counts, _among(counts, gate.outcomes))
    if gate.parity:
        ones = np.bitwise_count(counts.outcomes).sum(axis=1)
        yield from _short(gate, "parity", gate.parity_share, counts, ones % 2 == (gate.parity == "odd"))


def _among(counts: Counts, outcomes: Sequence[str]) -> Array:
    """Return which entries are one of the outcomes."""
    found = np.zeros(counts.counts.size, dtype=bool)
    for word in outcomes:
        raw = int(word, 2).to_bytes(counts.outcomes.shape[1], "little")
        found |= (counts.outcomes == np.frombuffer(raw, dtype=np.uint8)).all(axis=1)
    return found


def _short(gate: Gate, name: str, share: float, counts: Counts, good: Array) -> Iterator[Problem]:
    """Yield the problem of the point with the smallest share of good shots, if that is too small."""
    shots, kept = _by_point(counts, counts.counts), _by_point(counts, np.where(good, counts.counts, 0))
    shares = kept / np.maximum(shots, 1)
    if shares.size and shares.min() < share:
        point = int(shares.argmin())
        wanted = ",".join(gate.outcomes) if name == "outcomes" else gate.parity
        actual = f"{shares[point]:.6g} at point {point}"
        yield Problem("SB-5011", gate.place + name, limit=f"a share of {share:g} in {wanted}", actual=actual)


def _by_point(counts: Counts, entries: Array) -> Array:
    """Add up entries point by point; a point may have none."""
    ends = np.concatenate([[0], np.cumsum(entries, dtype=np.int64)])[counts.indptr]
    return np.diff(ends)
