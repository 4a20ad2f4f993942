"""What rules look at in answers."""

import numpy as np
import pytest

from shotbus.schemas.pub import Counts, Estimates
from shotbus.schemas.quantities import quantity
from shotbus.schemas.quantity_names import QUANTITIES

ESTIMATES = Estimates(np.array([[-1.5, 0.0], [0.5, 2.0]]), np.full((2, 2), 0.1))
#: A certain outcome, and two equally likely ones.
COUNTS = Counts(
    (("c", 1),),
    np.array([0, 1, 3], dtype="<i4"),
    np.array([[0], [0], [1]], dtype=np.uint8),
    np.array([10, 50, 50], dtype="<i4"),
)


@pytest.mark.parametrize(
    ("name", "answer", "value"),
    [
        ("min_ev", ESTIMATES, -1.5),
        ("max_ev", ESTIMATES, 2.0),
        ("mean_ev", ESTIMATES, 0.25),
        ("max_probability", COUNTS, 1.0),
        ("entropy", COUNTS, 0.5),
    ],
)
def test_a_quantity_speaks_for_all_points(name, answer, value):
    assert quantity(name, answer) == pytest.approx(value)


@pytest.mark.parametrize("name", QUANTITIES)
@pytest.mark.parametrize(
    "answer",
    [
        None,
        Estimates(np.full((1, 1), np.nan), np.zeros((1, 1))),
        Estimates(np.zeros((0, 1)), np.zeros((0, 1))),
        Counts((("c", 1),), np.zeros(2, "<i4"), np.zeros((0, 1), np.uint8), np.zeros(0, "<i4")),
    ],
)
def test_an_answer_without_numbers_has_none(name, answer):
    assert quantity(name, answer) is None


def test_an_answer_of_the_other_kind_has_none():
    assert quantity("min_ev", COUNTS) is None
    assert quantity("entropy", ESTIMATES) is None
    assert quantity("energy", ESTIMATES) is None
