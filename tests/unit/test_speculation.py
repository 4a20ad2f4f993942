"""The scoring rule of speculation, and estimates that are mixed."""

import numpy as np
import pytest

from shotbus.broker.dispatcher.speculation import Stake, blend, score
from shotbus.schemas.pub import Estimates


@pytest.mark.parametrize(
    ("stake", "improvement", "eta", "value", "now"),
    [
        (Stake(100.0, 1.0), 0.2, 10.0, 10.0, False),
        (Stake(100.0, 1.0), 0.2, 21.0, -1.0, True),
        (Stake(100.0, 1.0, confidence=0.9), None, 5.0, 5.0, False),
        (Stake(100.0, 1.0, confidence=0.9), None, 15.0, -5.0, True),
        # What was measured counts more than what is declared.
        (Stake(100.0, 1.0, confidence=0.0), 0.0, 5.0, -5.0, True),
        # What is not known counts nothing.
        (Stake(100.0, 1.0), None, 5.0, -5.0, True),
        (Stake(None, 1.0), 0.5, 5.0, -5.0, True),
        (Stake(100.0, None), 0.1, 1e9, 10.0, False),
        (Stake(), None, 1e9, 0.0, False),
    ],
)
def test_waiting_is_weighed_against_answering(stake, improvement, eta, value, now):
    found = score(stake, improvement, eta)
    assert (found.value, found.answers_now) == (pytest.approx(value), now)
    assert found.terms["value_of_waiting"] == found.value


def test_a_blend_weighs_by_inverse_variance():
    one = Estimates(np.array([[1.0, 0.0]]), np.array([[0.1, 1.0]]))
    other = Estimates(np.array([[2.0, 4.0]]), np.array([[0.2, 1.0]]))
    mixed = blend(one, other)
    assert mixed.evs == pytest.approx(np.array([[1.2, 2.0]]))
    assert mixed.stds == pytest.approx(np.array([[0.2 / 5**0.5, 0.5**0.5]]))


@pytest.mark.parametrize("errors", [[[0.0]], [[np.nan]], [[0.1, 0.1]]])
def test_estimates_without_comparable_errors_are_not_mixed(errors):
    errors = np.array(errors)
    one = Estimates(np.zeros((1, 1)), np.array([[0.1]]))
    assert blend(one, Estimates(np.zeros_like(errors), errors)) is None
