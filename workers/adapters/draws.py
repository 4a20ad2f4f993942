"""Outcomes drawn from known probabilities, every row from a stream of its own. Pure numpy.

A row's stream is Philox keyed by the row's seed, so what a row draws depends on neither the rows beside it
nor how often it was cut. Shots are drawn one by one and sorted (counts are then the steps between the places
of the cumulative probabilities); for many shots of few outcomes the counts are drawn, outcome by outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shotbus.schemas.packed import Array
from shotbus.workers.adapters.aer_run import SEED_STRIDE, row_seed
from shotbus.workers.adapters.entries import Entries

#: From so many shots an outcome on, counts are drawn rather than shots; both are right, this is faster.
_MANY = 8


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What can be measured, in ascending order: ``packed`` is outcomes x bytes, bit i is classical bit i.

    ``order`` are the places of a state by outcome, and outcome k has those from ``starts[k]`` on.
    """

    order: Array
    starts: Array
    packed: Array

    @classmethod
    def of(cls, meaning: Array, measured: Sequence[tuple[int, int]], bits: int) -> Outcomes:
        """Return the outcomes of a state.

        Args:
            meaning: the basis state at each place, bit k is qubit k.
            measured: classical bit and qubit, for every bit that is measured; the others are 0.
            bits: number of classical bits.

        """
        highest = {qubit: bit for bit, qubit in sorted(measured)}
        qubits = sorted(highest, key=highest.__getitem__)
        # A qubit's highest bit decides the order of outcomes, however many bits repeat it.
        ranks = np.zeros(len(meaning), dtype=np.int64)
        for place, qubit in enumerate(qubits):
            ranks |= (meaning >> qubit & 1) << place
        order = np.argsort(ranks, kind="stable")
        starts = np.flatnonzero(np.diff(ranks[order], prepend=-1))
        packed = np.zeros((len(starts), max(1, -(-bits // 8))), dtype=np.uint8)
        states = meaning[order[starts]]
        for bit, qubit in measured:
            packed[:, bit // 8] |= ((states >> qubit & 1) << bit % 8).astype(np.uint8)
        return cls(order, starts, packed)

    def probabilities(self, state: Array) -> Array:
        """Return rows x outcomes; a row of a state is taken for normalised, up to rounding."""
        return self.gathered(state.real**2 + state.imag**2)

    def gathered(self, weights: Array) -> Array:
        """Return rows x outcomes of weights that are given by place, rows x 2^n."""
        weights = np.take(weights, self.order, axis=1)
        if len(self.starts) < len(self.order):
            weights = np.add.reduceat(weights, self.starts, axis=1)
        return weights

    def entries(self, counts: Array) -> Entries:
        """Pack rows x outcomes of counts."""
        rows, outcomes = np.nonzero(counts)
        indptr = np.searchsorted(rows, np.arange(len(counts) + 1)).astype("<i4")
        return Entries(indptr, self.packed[outcomes], counts[rows, outcomes].astype("<i4"))


def seeds_of(seeds: Array, basis: int | None = None, increment: int = 0) -> Array:
    """Return the keys of rows' streams, uint64.

    Args:
        seeds: of the rows themselves, uint64: row r of a job with seed S has S + 2113 r.
        basis: measurement basis, None when sampling.
        increment: number of the increment of a row's shots.

    """
    return seeds + np.uint64(row_seed(0, 0, basis, increment) % 2**64)


def row_seeds(seed: int, rows: int) -> Array:
    """Return the seeds of a job's rows."""
    return np.uint64(seed % 2**64) + np.uint64(SEED_STRIDE) * np.arange(rows, dtype=np.uint64)


class Draw:
    """Draws; holds one generator that is set anew for every row."""

    def __init__(self) -> None:
        self._stream = np.random.Philox(key=0)
        self._generator = np.random.Generator(self._stream)
        self._state = self._stream.state

    def counts(self, weights: Array, keys: Array, shots: int) -> Array:
        """Return rows x outcomes of counts that add up to ``shots`` a row.

        Args:
            weights: rows x outcomes, or 1 x outcomes for all rows alike; they need not add up to 1.
            keys: of the rows' streams.
            shots: of a row.

        """
        if shots >= _MANY * weights.shape[1]:
            return self._by_outcome(weights, keys, shots)
        steps = np.cumsum(weights, axis=1)
        # The last one is past every draw, whatever rounding did.
        steps /= steps[:, -1:]
        places = np.empty((len(keys), weights.shape[1] + 1), dtype=np.int64)
        places[:, 0] = 0
        for row, step in zip(range(len(keys)), _each(steps, len(keys)), strict=True):
            self._set(keys[row])
            drawn = self._generator.random(shots)
            drawn.sort()
            places[row, 1:] = drawn.searchsorted(step)
        return np.diff(places, axis=1)

    def _by_outcome(self, weights: Array, keys: Array, shots: int) -> Array:
        shares = weights / weights.sum(axis=1, keepdims=True)
        counts = np.empty((len(keys), weights.shape[1]), dtype=np.int64)
        for row, share in zip(range(len(keys)), _each(shares, len(keys)), strict=True):
            self._set(keys[row])
            counts[row] = self._generator.multinomial(shots, share)
        return counts

    def _set(self, key: np.uint64) -> None:
        self._state["state"]["key"][0] = key
        self._stream.state = self._state


def _each(values: Array, rows: int) -> Array:
    return values if len(values) == rows else np.broadcast_to(values, (rows, values.shape[1]))
