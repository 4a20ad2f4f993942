"""How far two answers are apart, and late results that are kept beside the answer with that number."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reuse_kit import counts, estimated, record, sampled

from shotbus.reducers.lateness import compared
from shotbus.schemas.codec import decode
from shotbus.schemas.deviation import deviation
from shotbus.schemas.pub import Counts, Estimates, merge_counts


def estimates(evs, stds):
    return Estimates(np.array([evs]), np.array([stds]))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (counts({0: 50, 3: 50}), counts({0: 5, 3: 5}), 0.0),
        (counts({0: 100}), counts({3: 7}), 1.0),
        (counts({0: 75, 1: 25}), counts({0: 25, 1: 75}), 0.5),
        (counts({0: 1}, {0: 4}), counts({0: 1}, {0: 3, 2: 1}), 0.25),
        (estimates([1.0, 0.0], [0.3, 0.1]), estimates([1.0, 0.5], [0.4, 0.0]), 5.0),
        (estimates([0.5], [0.0]), estimates([0.5 + 1e-12], [0.0]), 0.0),
        (estimates([0.5], [0.0]), estimates([0.6], [0.0]), math.inf),
        (counts({0: 1}), estimates([0.5], [0.0]), -1.0),
        (counts({0: 1}), counts({0: 1}, {0: 1}), -1.0),
        (counts({0: 1}), counts({}), -1.0),
        (None, None, -1.0),
    ],
)
def test_the_distance_is_that_of_the_point_farthest_apart(one, other, expected):
    assert deviation(one, other) == pytest.approx(expected)
    assert deviation(other, one) == pytest.approx(expected)


ROW = st.dictionaries(st.integers(0, 3), st.integers(1, 1_000), max_size=4)
PAIRS = st.integers(1, 4).flatmap(lambda n: st.tuples(*[st.lists(ROW, min_size=n, max_size=n)] * 2))


@given(PAIRS)
def test_merged_counts_are_the_sums_in_ascending_order(pair):
    merged = merge_counts(*(counts(*rows) for rows in pair))
    sums = [{o: a.get(o, 0) + b.get(o, 0) for o in a.keys() | b.keys()} for a, b in zip(*pair, strict=True)]
    wanted = counts(*sums)
    for name in ("indptr", "outcomes", "counts"):
        mine, theirs = getattr(merged, name), getattr(wanted, name)
        assert mine.dtype == theirs.dtype
        assert mine.tolist() == theirs.tolist()
    assert merged.least_shots == min(sum(row.values()) for row in sums)


def test_wide_outcomes_are_sorted_as_numbers():
    def wide(*numbers):
        raw = np.array([list(number.to_bytes(2, "little")) for number in numbers], dtype=np.uint8)
        ones = np.ones(len(numbers), dtype="<i4")
        return Counts((("c", 16),), np.array([0, len(numbers)], dtype="<i4"), raw, ones)

    merged = merge_counts(wide(1, 256, 515), wide(2, 257, 515))
    assert [int.from_bytes(bytes(row), "little") for row in merged.outcomes] == [1, 2, 256, 257, 515]
    assert merged.counts.tolist() == [1, 1, 1, 1, 2]


def test_counts_of_other_registers_do_not_add_up():
    with pytest.raises(Exception, match="do not add up"):
        merge_counts(counts({0: 1}), counts({0: 1}, registers=(("d", 2),)))


ANSWER = record(payload=sampled({0: 100}), outcome="succeeded_by_fallback")


@pytest.mark.parametrize(
    ("late", "answer", "expected"),
    [
        ({"payload": sampled({0: 75, 3: 25})}, ANSWER, 0.25),
        ({"payload": estimated([1.0], [0.1])}, ANSWER, -1.0),
        ({"payload": sampled({0: 1})}, None, -1.0),
        ({"payload": sampled({0: 1}), "outcome": "failed"}, ANSWER, -1.0),
        ({"payload": b"junk"}, ANSWER, -1.0),
        ({"payload": sampled({0: 1}), "deviation": 0.7}, ANSWER, 0.7),
    ],
    ids=["compared", "other kind", "answer gone", "failed", "unreadable", "told already"],
)
def test_a_late_result_is_kept_with_its_distance_from_the_answer(late, answer, expected):
    kept = decode(compared(record(late=True, **late), answer), "circuit_result")[1]
    assert (kept["late"], kept["payload"]) == (True, late["payload"])
    assert kept["deviation"] == pytest.approx(expected)
