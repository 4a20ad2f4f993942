"""Reductions: values, standard errors, minima and merged histograms are what the formulas say."""

import numpy as np
import pytest

from shotbus.reducers.minima import grid_minima, sinusoid_minima
from shotbus.reducers.reductions import MAX_ROWS, accumulator
from shotbus.schemas.errors import ShotbusError
from shotbus.schemas.layout import Layout, pack_layout, unpack_layout
from shotbus.schemas.pub import Counts, Estimates, pack_counts, pack_estimates

GRID = np.linspace(-np.pi, np.pi, 33)[1:]


def layout(rows, groups=None, axis=None):
    rows = np.array(rows, dtype="<i4")
    groups = np.zeros(rows.size, dtype="<i4") if groups is None else np.array(groups, dtype="<i4")
    axis = np.arange(rows.sum(), dtype="<f8") if axis is None else np.asarray(axis, dtype="<f8")
    return pack_layout(Layout(rows, groups, axis))


def estimates(evs, stds=None):
    evs = np.array(evs, dtype="<f8")
    return pack_estimates(Estimates(evs, np.zeros_like(evs) if stds is None else np.array(stds, dtype="<f8")))


def feed(reduction, payloads):
    for shard, payload in payloads:
        reduction.add(shard, reduction.digest(shard, payload))
    return reduction.payload()


def sinusoid(x, a=-0.7, b=0.3, c=-0.4):
    return a + b * np.cos(x) + c * np.sin(x)


def code_of(call, *args, **kwargs):
    with pytest.raises(ShotbusError) as caught:
        call(*args, **kwargs)
    return [problem.code for problem in caught.value.problems]


def test_expectation_sums_the_observables_and_adds_their_errors_in_quadrature():
    reduction = accumulator("expectation", {}, layout([2, 1]), 2)
    second = (1, estimates([[5.0, -1.0]], [[0.3, 0.4]]))
    first = (0, estimates([[1.0, 2.0], [3.0, 4.0]], [[3.0, 4.0], [0.0, 0.0]]))
    arrays, meta = feed(reduction, [second, first])
    assert arrays["values"].tolist() == [3.0, 7.0, 4.0]
    assert arrays["stds"] == pytest.approx([5.0, 0.0, 0.5])
    assert meta == {}


def test_rows_of_missing_shards_are_nan():
    arrays, _ = feed(accumulator("expectation", {}, layout([1, 2]), 2), [(0, estimates([[1.0]]))])
    assert arrays["values"][0] == 1.0
    assert np.isnan(arrays["values"][1:]).all()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"garbage",
        estimates([[1.0]]),
        estimates([[1.0], [np.nan]]),
        estimates([[1.0], [1.0]], [[0.1], [-0.1]]),
        estimates(np.zeros((2, 0))),
    ],
)
def test_a_result_that_does_not_fit_its_shard_is_refused(payload):
    reduction = accumulator("expectation", {}, layout([2]), 1)
    assert set(code_of(reduction.digest, 0, payload)) <= {"SB-5005", "SB-1004"}


def test_rows_beyond_a_records_size_are_left_out_and_said_so():
    reduction = accumulator("expectation", {}, layout([MAX_ROWS + 1], axis=[]), 1)
    arrays, meta = reduction.payload()
    assert arrays == {}
    assert meta == {"rows_omitted": MAX_ROWS + 1}


def test_grid_minimum_is_the_smallest_row_of_each_group():
    groups = np.array([7, 7, 7, 2, 2], dtype="<i4")
    values = np.array([3.0, 1.0, 1.0, np.nan, 4.0])
    minima = grid_minima(groups, np.arange(5.0), values, np.full(5, 0.1))
    assert minima.groups.tolist() == [2, 7]
    assert minima.minimum.tolist() == [4.0, 1.0]
    assert minima.argmin.tolist() == [4.0, 1.0]
    assert minima.counted.tolist() == [1, 3]


def test_sinusoid_minimum_lies_between_the_grid_points_to_rounding():
    zeros = np.zeros(GRID.size)
    minima = sinusoid_minima(zeros.astype("<i4"), GRID, sinusoid(GRID), zeros)
    assert minima.minimum[0] == pytest.approx(-1.2, abs=1e-14)
    assert sinusoid(minima.argmin[0]) == pytest.approx(-1.2, abs=1e-14)
    assert minima.stderr[0] == 0.0
    assert minima.residual[0] < 1e-13


def test_residual_tells_when_the_curve_is_no_sinusoid():
    zeros = np.zeros(GRID.size)
    minima = sinusoid_minima(zeros.astype("<i4"), GRID, np.cos(2 * GRID), zeros)
    assert minima.residual[0] == pytest.approx(np.sqrt(GRID.size / 2))


def test_standard_error_of_the_minimum_matches_the_scatter_of_repeats():
    rng = np.random.default_rng(5)
    repeats = 4000
    stds = np.tile(np.where(GRID > 0, 0.02, 0.05), repeats)
    groups = np.repeat(np.arange(repeats, dtype="<i4"), GRID.size)
    x = np.tile(GRID, repeats)
    minima = sinusoid_minima(groups, x, sinusoid(x) + stds * rng.standard_normal(x.size), stds)
    pulls = (minima.minimum + 1.2) / minima.stderr
    assert abs(pulls.mean()) < 0.1
    assert pulls.std() == pytest.approx(1.0, abs=0.05)


def test_two_angles_do_not_determine_a_sinusoid():
    groups = np.array([0, 0, 1, 1, 1], dtype="<i4")
    x = np.array([0.0, 1.0, 0.0, 1.0, 2.0])
    minima = sinusoid_minima(groups, x, sinusoid(x), np.zeros(5))
    assert np.isnan(minima.minimum[0])
    assert np.isnan(minima.stderr[0])
    assert minima.minimum[1] == pytest.approx(-1.2)


def test_a_sampled_row_without_scatter_does_not_get_infinite_weight():
    x, stds = GRID, np.full(GRID.size, 0.01)
    stds[3] = 0.0
    minima = sinusoid_minima(np.zeros(x.size, dtype="<i4"), x, sinusoid(x), stds)
    assert minima.minimum[0] == pytest.approx(-1.2)
    assert 0 < minima.stderr[0] < 0.01


def test_minimum_reports_rows_and_groups_that_span_shards():
    axis = np.array([0.0, 1.0, 2.0, 3.0])
    reduction = accumulator("minimum", {"model": "sinusoid"}, layout([2, 2], [4, 4], axis), 2)
    values = sinusoid(axis)[:, None]
    arrays, meta = feed(reduction, [(1, estimates(values[2:])), (0, estimates(values[:2]))])
    assert arrays["groups"].tolist() == [4]
    assert arrays["minimum"][0] == pytest.approx(-1.2)
    assert arrays["values"].tolist() == values[:, 0].tolist()
    assert meta["model"] == "sinusoid"


def counts(rows, registers=(("c", 2),)):
    indptr = np.cumsum([0] + [len(row) for row in rows])
    outcomes = np.array([[key] for row in rows for key in row], dtype="|u1").reshape(-1, 1)
    numbers = np.array([number for row in rows for number in row.values()], dtype="<i8")
    return pack_counts(Counts(registers, indptr.astype("<i4"), outcomes, numbers))


def test_histogram_sums_rows_and_shards_exactly_in_the_order_of_outcomes():
    reduction = accumulator("histogram", {}, b"", 2)
    arrays, meta = feed(reduction, [(1, counts([{3: 2**40, 0: 1}])), (0, counts([{3: 5}, {1: 7}]))])
    assert arrays["outcomes"].ravel().tolist() == [0, 1, 3]
    assert arrays["counts"].tolist() == [1, 7, 2**40 + 5]
    assert meta == {"registers": [["c", 2]], "rest": 0, "other_registers": 0}


def test_histogram_follows_the_registers_of_the_lowest_shard_in_any_order():
    shards = [(0, counts([{1: 1}])), (1, counts([{2: 9}], (("d", 2),)))]
    expected = feed(accumulator("histogram", {}, b"", 2), shards)
    arrays, meta = feed(accumulator("histogram", {}, b"", 2), shards[::-1])
    assert meta == expected[1]
    assert meta["other_registers"] == 1
    assert arrays["counts"].tolist() == [1]


def test_histogram_before_the_first_shard_and_with_nothing_counted_is_empty():
    assert accumulator("histogram", {}, b"", 1).payload() == ({}, {})
    arrays, _ = feed(accumulator("histogram", {}, b"", 1), [(0, counts([{}]))])
    assert arrays["counts"].size == 0


def test_collect_keeps_nothing_of_a_result():
    assert feed(accumulator("collect", {}, b"", 1), [(0, b"")]) == ({}, {})


def test_everything_wrong_with_a_declaration_is_reported():
    assert code_of(accumulator, "minimun", {}, b"", 1) == ["SB-1108"]
    options = {"model": "cubic", "min_success": "9", "colour": "red"}
    assert code_of(accumulator, "minimum", options, b"", 3) == ["SB-2001", "SB-1108", "SB-1108"]
    assert code_of(accumulator, "expectation", {}, b"", 1) == ["SB-1107"]
    assert code_of(accumulator, "minimum", {}, layout([2], axis=[]), 1) == ["SB-1108"]


def test_a_layout_that_does_not_fit_is_refused():
    assert code_of(unpack_layout, layout([1, 2]), 3) == ["SB-1108"]
    assert code_of(unpack_layout, layout([1, 0]), 2) == ["SB-1108"]
    assert code_of(unpack_layout, layout([1, 2], axis=[0.0, 1.0]), 2) == ["SB-1108"]
    assert code_of(unpack_layout, layout([1], axis=[np.inf]), 1) == ["SB-1108"]
    assert code_of(unpack_layout, b"SBA", 1) == ["SB-1004"]
