"""Whether chance explains how far two answers are apart: false alarms are as rare as asked, real ones are found."""

import numpy as np
import pytest

from shotbus.schemas.agreement import agreement
from shotbus.schemas.pub import Estimates
from shotbus.workers.adapters.entries import read_entries


def counts(*rows):
    """Sampled outcomes of two bits, a row of four counts each."""
    tables = [{hex(k): n for k, n in enumerate(row) if n} for row in rows]
    return read_entries(tables, 2).with_registers((("c", 2),))


def drawn(weights, shots, seed):
    return counts(np.random.default_rng(seed).multinomial(shots, weights).tolist())


@pytest.mark.parametrize("weights", [[0.25] * 4, [0.97, 0.01, 0.01, 0.01], [0.5, 0.5, 0, 0]])
def test_samples_of_one_distribution_hardly_ever_differ(weights):
    pairs = [(drawn(weights, 400, 2 * k), drawn(weights, 900, 2 * k + 1)) for k in range(100)]
    assert all(agreement(one, other, 1e-3).holds for one, other in pairs)


def test_samples_of_others_do():
    held = agreement(drawn([0.5, 0, 0, 0.5], 2_000, 1), drawn([0.4, 0.1, 0.1, 0.4], 2_000, 2), 1e-3)
    assert not held.holds
    assert held.deviation > held.allowed > 0


def test_the_point_that_is_worst_decides():
    one, other = counts([500, 0, 0, 500], [1_000, 0, 0, 0]), counts([500, 0, 0, 500], [0, 0, 0, 1_000])
    held = agreement(one, other, 1e-3)
    assert (held.deviation, held.holds) == (1.0, False)


@pytest.mark.parametrize(("apart", "holds"), [(0.0, True), (3.0, True), (5.0, False)])
def test_estimates_are_held_against_their_errors(apart, holds):
    one = Estimates(np.array([[0.5, 0.1]]), np.array([[0.03, 0.03]]))
    other = Estimates(one.evs + [[apart * 0.05, 0.0]], np.array([[0.04, 0.04]]))
    held = agreement(one, other, 1e-3)
    assert (held.deviation, held.holds) == (pytest.approx(apart), holds)


def test_exact_values_differ_by_rounding_alone():
    one = Estimates(np.array([[0.5]]), np.zeros((1, 1)))
    assert agreement(one, Estimates(one.evs + 1e-13, one.stds), 1e-3).holds
    assert not agreement(one, Estimates(one.evs + 1e-3, one.stds), 1e-3).holds


def test_what_cannot_be_compared_agrees_with_nothing():
    one = counts([1, 0, 0, 0])
    assert not agreement(one, None, 1e-3).holds
    assert not agreement(one, counts([1, 0, 0, 0], [1, 0, 0, 0]), 1e-3).holds
    assert not agreement(None, None, 1e-3).holds
