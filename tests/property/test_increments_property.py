"""Counts of increments added up are those of one run, and so is everything that is computed from them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shotbus.schemas.pub import PauliSums
from shotbus.workers.adapters.bases import group, moments
from shotbus.workers.adapters.entries import read_entries
from shotbus.workers.adapters.increments import MAX_INCREMENTS, added, increments_of

SUMS = PauliSums.from_terms([[("ZZZ", 0.7), ("IZI", -1.3)], [("ZII", 1.0)]])
(BASIS,) = group(SUMS)
shot = st.integers(0, 7)


@st.composite
def runs(draw):
    """Rows of single shots, each cut into the same number of increments, none of them empty."""
    count = draw(st.integers(1, 5))
    rows = draw(st.integers(1, 4))
    return [[draw(st.lists(shot, min_size=1, max_size=12)) for _ in range(rows)] for _ in range(count)]


def tallied(rows):
    return read_entries([{hex(one): row.count(one) for one in row} for row in rows], 3)


@given(runs())
def test_increments_added_are_the_run_in_one_call(increments):
    whole = tallied([[one for part in increments for one in part[row]] for row in range(len(increments[0]))])
    merged = added(map(tallied, increments))
    for name in ("indptr", "outcomes", "counts"):
        assert getattr(merged, name).tobytes() == getattr(whole, name).tobytes()


@given(runs())
def test_values_and_standard_errors_of_increments_are_those_of_all_their_shots(increments):
    mean, squares = moments(SUMS, BASIS, added(map(tallied, increments)))
    for row in range(len(increments[0])):
        shots = [one for part in increments for one in part[row]]
        bits = 1 - 2 * np.array([[one >> k & 1 for k in range(3)] for one in shots])
        values = np.stack([0.7 * bits.prod(axis=1) - 1.3 * bits[:, 1], bits[:, 2]], axis=1)
        np.testing.assert_allclose(mean[row], values.mean(axis=0), atol=1e-12)
        if len(shots) > 1:
            np.testing.assert_allclose(squares[row], values.var(axis=0, ddof=1) / len(shots), atol=1e-12)


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_increments_are_all_shots_none_too_large_and_only_the_last_smaller(shots, most):
    if most * MAX_INCREMENTS < shots:
        return
    parts = increments_of({"shots_per_call": str(most)}, shots)
    assert sum(parts) == shots
    assert set(parts[:-1]) <= {most}
    assert 0 < parts[-1] <= most
