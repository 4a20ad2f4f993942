"""Measurement bases and estimators: pure numpy against brute force."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shotbus.schemas.pub import PauliSums
from shotbus.workers.adapters.bases import constants_of, group, moments
from shotbus.workers.adapters.entries import Entries

LABELS = st.text("IXYZ", min_size=4, max_size=4)
SUMS = st.lists(
    st.lists(st.tuples(LABELS, st.floats(-2, 2)), min_size=1, max_size=6), min_size=1, max_size=4
).map(PauliSums.from_terms)


@given(SUMS)
def test_every_term_but_the_identity_is_in_exactly_one_basis_that_measures_it(observables):
    bases = group(observables)
    placed = [term for basis in bases for term in basis.terms.tolist()]
    assert sorted(placed) == np.flatnonzero(observables.paulis.any(axis=1)).tolist()
    for basis in bases:
        letters = observables.paulis[basis.terms]
        assert ((letters == 0) | (letters == basis.paulis)).all()


@given(SUMS)
def test_grouping_is_deterministic(observables):
    once, twice = group(observables), group(observables)
    assert [basis.paulis.tolist() for basis in once] == [basis.paulis.tolist() for basis in twice]


def test_compatible_observables_share_a_basis():
    observables = PauliSums.from_terms([[("ZZI", 1.0), ("IZZ", 1.0)], [("ZII", 2.0)], [("XXX", 1.0)]])
    assert len(group(observables)) == 2


def test_identity_needs_no_measurement():
    observables = PauliSums.from_terms([[("II", 2.0), ("ZI", 1.0)], [("II", -1.0)]])
    assert constants_of(observables).tolist() == [2.0, -1.0]
    assert len(group(PauliSums.from_terms([[("II", 2.0)]]))) == 0


def entries_of(shots):
    """Rows of outcomes (ints of 4 bits), as they would come from the simulator."""
    found = [np.unique(row, return_counts=True) for row in shots]
    indptr = np.cumsum([0, *(values.size for values, _ in found)]).astype("<i4")
    outcomes = np.concatenate([values for values, _ in found]).astype(np.uint8)[:, None]
    return Entries(indptr, outcomes, np.concatenate([counts for _, counts in found]))


@settings(max_examples=30)
@given(SUMS, st.integers(2, 200), st.integers(0, 1000))
def test_moments_are_mean_and_unbiased_error_of_the_weighted_sum_over_shots(observables, shots, seed):
    rng = np.random.default_rng(seed)
    for basis in group(observables):
        width = basis.measured.size
        drawn = rng.integers(0, 2**width, (3, shots))
        mean, square = moments(observables, basis, entries_of(drawn))
        bits = (drawn[:, :, None] >> np.arange(width)) & 1
        values = np.zeros((3, shots, observables.count))
        for term, owner in zip(basis.terms, basis.owners, strict=True):
            touched = observables.paulis[term][basis.measured] != 0
            signs = 1 - 2 * (bits[:, :, touched].sum(axis=2) % 2)
            values[:, :, owner] += observables.coefficients[term] * signs
        np.testing.assert_allclose(mean, values.mean(axis=1), atol=1e-12)
        np.testing.assert_allclose(square, values.var(axis=1, ddof=1) / shots, atol=1e-12)


def test_rows_do_not_feel_how_many_others_are_computed_with_them():
    rng = np.random.default_rng(3)
    observables = PauliSums.from_terms([[("ZZZZ", 0.1), ("ZIII", 0.7), ("IZIZ", -0.3)], [("IIZZ", 1.0)]])
    (basis,) = group(observables)
    drawn = rng.integers(0, 16, (40, 999))
    whole = moments(observables, basis, entries_of(drawn))
    parts = [moments(observables, basis, entries_of(drawn[k : k + 7])) for k in range(0, 40, 7)]
    assert np.concatenate([mean for mean, _ in parts]).tobytes() == whole[0].tobytes()
    assert np.concatenate([square for _, square in parts]).tobytes() == whole[1].tobytes()


def test_a_single_shot_admits_its_ignorance():
    observables = PauliSums.from_terms([[("ZI", 1.0), ("IZ", 2.0)]])
    (basis,) = group(observables)
    _, square = moments(observables, basis, entries_of(np.array([[0]])))
    assert square.tolist() == [[9.0]]


def test_more_than_64_measured_qubits_are_read_across_words():
    label = "Z" * 70
    observables = PauliSums.from_terms([[(label, 1.0), ("Z" + "I" * 69, 1.0)]])
    (basis,) = group(observables)
    outcome = (1 << 69 | 1 << 3).to_bytes(9, "little")
    entries = Entries(np.array([0, 1]), np.frombuffer(outcome, np.uint8)[None, :], np.array([5]))
    mean, _ = moments(observables, basis, entries)
    assert mean.tolist() == [[1.0 - 1.0]]
