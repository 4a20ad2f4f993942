"""Measurement bases of Pauli observables and the estimators over counts. Pure numpy, no SDK.

Terms that agree letter by letter wherever both are not the identity can be read from one run
("qubit-wise commuting"). Nothing here multiplies matrices of floats: BLAS may add in another order for
another number of rows, and then a chunked run would differ from a whole one in the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shotbus.schemas.packed import Array
from shotbus.schemas.pub import PauliSums
from shotbus.workers.adapters.entries import Entries

X, Y, Z = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Basis:
    """One measurement setting.

    ``paulis`` holds a letter for each qubit (0: not measured). ``terms`` are indices into the observables'
    terms, ``owners`` the observable of each of them.
    """

    paulis: Array
    terms: Array
    owners: Array

    @property
    def measured(self) -> Array:
        """Qubits that are measured, ascending; bit i of an outcome belongs to the i-th of them."""
        return np.flatnonzero(self.paulis)


def owners_of(observables: PauliSums) -> Array:
    """Return the observable each term belongs to."""
    return np.repeat(np.arange(observables.count), np.diff(observables.indptr))


def constants_of(observables: PauliSums) -> Array:
    """Return the identity part of each observable, which needs no measurement."""
    identity = ~observables.paulis.any(axis=1)
    weights = np.where(identity, observables.coefficients, 0.0)
    return np.bincount(owners_of(observables), weights=weights, minlength=observables.count)


def group(observables: PauliSums) -> list[Basis]:
    """Return as few bases as the greedy first-fit finds, the widest terms first; order is deterministic."""
    paulis, owners = observables.paulis, owners_of(observables)
    support = np.count_nonzero(paulis, axis=1)
    settings = np.zeros((0, observables.qubits), dtype=np.uint8)
    members: list[list[int]] = []
    for term in np.argsort(-support, kind="stable")[: np.count_nonzero(support)].tolist():
        place = _first_fit(settings, paulis[term])
        if place == len(members):
            settings = np.vstack([settings, paulis[term]])
            members.append([])
        members[place].append(term)
        settings[place] = np.maximum(settings[place], paulis[term])
    return [_basis(settings[k], sorted(terms), owners) for k, terms in enumerate(members)]


def _first_fit(settings: Array, term: Array) -> int:
    clash = ((settings != term) & (settings != 0) & (term != 0)).any(axis=1)
    return int(np.argmin(clash)) if not clash.all() else len(settings)


def _basis(paulis: Array, terms: list[int], owners: Array) -> Basis:
    indices = np.array(terms)
    return Basis(paulis.copy(), indices, owners[indices])


def _words(outcomes: Array, width: int) -> Array:
    """View outcome bytes (entries x bytes) as little-endian 64-bit words (entries x words)."""
    padded = np.zeros((outcomes.shape[0], -(-width // 64) * 8), dtype=np.uint8)
    padded[:, : outcomes.shape[1]] = outcomes
    return padded.view("<u8")


def _masks(observables: PauliSums, basis: Basis) -> Array:
    """Return which outcome bits each term's parity is taken over, as 64-bit words (terms x words)."""
    support = observables.paulis[np.ix_(basis.terms, basis.measured)] != 0
    return _words(np.packbits(support, axis=1, bitorder="little"), support.shape[1])


def _signs(words: Array, masks: Array) -> Iterator[Array]:
    """Yield, term by term, +1 or -1 for every entry."""
    for mask in masks:
        parity = np.bitwise_count(words & mask).sum(axis=1) & 1
        yield 1.0 - 2.0 * parity


def moments(observables: PauliSums, basis: Basis, sampled: Entries) -> tuple[Array, Array]:
    """Return the basis' share of every expectation value and of its squared standard error.

    Args:
        observables: what is estimated.
        basis: the setting in which the outcomes were taken.
        sampled: bit i of an outcome is the i-th measured qubit; no row is empty.

    Returns:
        Two arrays rows x observables. A shot's value is the weighted sum of all terms of an observable
        in this basis, so correlations between terms count; the variance is unbiased (n - 1).

    """
    values = np.zeros((sampled.outcomes.shape[0], observables.count))
    words = _words(sampled.outcomes, basis.measured.size)
    signs = _signs(words, _masks(observables, basis))
    for term, owner, sign in zip(basis.terms, basis.owners, signs, strict=True):
        values[:, owner] += observables.coefficients[term] * sign
    indptr = sampled.indptr
    weight = sampled.counts.astype(np.float64)
    shots = np.add.reduceat(weight, indptr[:-1])[:, None]
    mean = np.add.reduceat(values * weight[:, None], indptr[:-1]) / shots
    deviation = values - np.repeat(mean, np.diff(indptr), axis=0)
    spread = np.add.reduceat(deviation**2 * weight[:, None], indptr[:-1])
    return mean, _squared_error(spread, shots, observables, basis)


def _squared_error(spread: Array, shots: Array, observables: PauliSums, basis: Basis) -> Array:
    """One shot says nothing about its spread: then the largest possible deviation stands for it."""
    weights = np.abs(observables.coefficients[basis.terms])
    worst = np.bincount(basis.owners, weights=weights, minlength=observables.count) ** 2
    return np.where(shots > 1, spread / (np.maximum(shots - 1, 1) * shots), worst)
