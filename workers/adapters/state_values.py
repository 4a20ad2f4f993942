"""Exact expectation values of Pauli sums from state vectors, all points at once. Pure numpy.

Terms that flip the same qubits share one product of amplitudes; the values of all their signs are one
Walsh-Hadamard transform of that, n passes of additions, whose order does not depend on other points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import or_

import numpy as np

from shotbus.schemas.packed import Array
from shotbus.schemas.pub import PauliSums
from shotbus.workers.adapters.bases import X, Y, Z, owners_of

#: So many sums cost less than a transform.
_FEW = 4


@dataclass(frozen=True, slots=True)
class _Flip:
    """Terms that flip ``mask``: their signs, observables and weights; ``imaginary``: an odd number of Y."""

    mask: int
    imaginary: bool
    signs: Array
    owners: Array
    weights: Array


def exact_values(observables: PauliSums, state: Array) -> Array:
    """Return points x observables.

    Args:
        observables: what is asked for.
        state: points x 2^n amplitudes, bit k of a place is qubit k.

    """
    values = np.zeros((len(state), observables.count))
    places = np.arange(state.shape[1])
    for flip in _flips(observables):
        partner = state if flip.mask == 0 else np.take(state, places ^ flip.mask, axis=1)
        if flip.imaginary:
            products = partner.real * state.imag - partner.imag * state.real
        else:
            products = partner.real * state.real + partner.imag * state.imag
        for column, owner, weight in zip(
            _signed(products, flip.signs), flip.owners, flip.weights, strict=True
        ):
            values[:, owner] += weight * column
    return values


def _signed(values: Array, signs: Array) -> Iterator[Array]:
    """Yield, sign by sign, the sums over all places b of (-1)^popcount(sign & b) times the value."""
    if len(signs) > _FEW:
        yield from _transformed(values)[:, signs].T
        return
    places = np.arange(values.shape[1])
    for sign in signs:
        # Along rows, not by BLAS: its order of additions may depend on how many rows there are.
        yield (values * (1.0 - 2.0 * (np.bitwise_count(places & sign) & 1))).sum(axis=1)


def _transformed(values: Array) -> Array:
    """Return sums over all places b of (-1)^popcount(a & b) times the value, for every a."""
    size = values.shape[1]
    step = 1
    while step < size:
        pairs = values.reshape(len(values), -1, 2, step)
        low, high = pairs[:, :, 0], pairs[:, :, 1]
        values = np.stack([low + high, low - high], axis=2).reshape(len(values), size)
        step *= 2
    return values


def _flips(observables: PauliSums) -> list[_Flip]:
    paulis = observables.paulis
    flips = _masks((paulis == X) | (paulis == Y))
    signs = _masks((paulis == Z) | (paulis == Y))
    ys = np.count_nonzero(paulis == Y, axis=1)
    owners = owners_of(observables)
    groups: dict[tuple[int, bool], list[int]] = {}
    for term in range(len(paulis)):
        groups.setdefault((flips[term], bool(ys[term] % 2)), []).append(term)
    return [
        _Flip(
            mask,
            odd,
            np.array([signs[term] for term in terms]),
            owners[terms],
            observables.coefficients[terms] * _TURNS[ys[terms] % 4],
        )
        for (mask, odd), terms in groups.items()
    ]


#: Y turns basis states by i besides flipping and signing them: what i^k leaves of a sum's real part (k even)
#: or imaginary part (k odd).
_TURNS: Array = np.array([1.0, -1.0, -1.0, 1.0])


def _masks(letters: Array) -> list[int]:
    """Return rows of booleans as numbers, column k is bit k."""
    return [reduce(or_, (1 << int(k) for k in np.flatnonzero(row)), 0) for row in letters]
