"""Predicted waits: the middle follows the drain rate, the interval what became of earlier predictions."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shotbus.broker.dispatcher.drain import DrainRate
from shotbus.broker.dispatcher.eta import Calibration, Eta, Etas, Forecasts

ANY = st.floats(allow_nan=True, allow_infinity=True)
TIMES = st.floats(0, 1e5)


def steady(rate=2.0, seconds=60):
    etas = Etas()
    for second in range(seconds):
        etas.drained("p", rate, float(second))
    return etas


def test_the_middle_is_the_work_ahead_over_the_drain_rate_plus_the_service():
    assert steady().predict("p", 30.0, 3.0, 59.0).mid == pytest.approx(18.0, rel=0.02)


def test_an_empty_queue_leaves_the_service_time():
    assert steady().predict("p", 0.0, 3.0, 59.0).mid == 3.0


def test_a_pool_that_was_never_measured_is_believed_to_have_its_capacity():
    assert Etas().predict("new", 30.0, 1.0, 0.0, capacity=3.0).mid == pytest.approx(11.0)


def test_idle_time_is_no_slowness():
    rate = DrainRate()
    for second in range(20):
        rate.add(2.0, float(second), more=True)
    rate.add(2.0, 20.0, more=False)
    rate.add(2.0, 5_000.0, more=True)
    rate.add(2.0, 5_001.0, more=True)
    assert rate.at(5_001.0) == pytest.approx(2.0)


def test_a_queue_that_does_not_move_is_predicted_to_be_slower_by_the_second():
    etas = steady()
    mids = [etas.predict("p", 30.0, 0.0, 59.0 + wait).mid for wait in (0, 3, 10, 60)]
    assert mids == sorted(mids)
    assert mids[-1] > 1.2 * mids[0]


def test_what_is_the_case_now_is_not_expected_to_last_for_ever():
    etas = steady(2.0, 2_000)
    for second in range(2_000, 2_060):
        etas.drained("p", 0.5, float(second))
    near, far = (etas.predict("p", work, 0.0, 2_059.0).mid for work in (5.0, 2_000.0))
    assert 5.0 / near < 0.8
    assert 2_000.0 / far > 1.5


def test_with_no_history_the_interval_is_wide_and_around_the_middle():
    low, mid, high, _ = steady().predict("p", 30.0, 0.0, 59.0)
    assert 0.3 < low / mid < 0.6
    assert high * low == pytest.approx(mid * mid)


def test_the_interval_is_cut_from_the_errors_and_follows_their_bias():
    etas = steady()
    for number in range(100):
        etas.observe("p", Eta(9.0, 10.0, 11.0, 1), 20.0 + number % 10)
    like = etas.predict("p", 4.0, 1.0, 59.0)
    assert like.low == like.mid
    assert 2.0 < like.high / like.mid < 3.0
    other = etas.predict("p", 400.0, 1.0, 59.0)
    assert other.low < other.mid


def test_intervals_that_were_missed_above_grow_above_alone():
    calibration = Calibration()
    before = calibration.high_level, calibration.low_level
    for _ in range(20):
        calibration.missed(low=False, high=True)
    assert calibration.high_level < before[0]
    assert calibration.low_level > before[1]


@given(ANY, ANY, st.lists(st.tuples(TIMES, TIMES, TIMES), max_size=60), st.lists(TIMES, max_size=40))
def test_predictions_are_finite_ordered_and_not_negative(work, service, observed, drained):
    etas, now = Etas(), 0.0
    for pause in drained:
        now += pause
        etas.drained("p", pause, now, more=pause > 10)
    for low, mid, actual in observed:
        etas.observe("p", Eta(min(low, mid), mid, mid + low), actual)
    said = etas.predict("p", work, service, now)
    assert all(math.isfinite(one) and one >= 0 for one in said[:3])
    assert said.low <= said.mid <= said.high


@given(st.lists(st.tuples(TIMES, TIMES), max_size=260))
def test_a_restored_pool_predicts_what_it_did(observed):
    etas, restored = steady(), Etas()
    for predicted, actual in observed:
        etas.observe("p", Eta(predicted, predicted, predicted), actual)
    row = etas.snapshot("p")
    assert len(row) < 4_000
    restored.restore("p", row)
    assert restored.snapshot("p") == row
    assert Etas().snapshot("p") is None


def test_a_job_past_its_interval_counts_as_missed_once():
    etas = Etas()
    forecasts = Forecasts(etas)
    assert forecasts.follow("j", "p", Eta(1.0, 2.0, 3.0), 0.0)
    forecasts.advance(2.9)
    assert etas.snapshot("p") is None
    forecasts.advance(3.0)
    level = etas._pools["p"].calibrations[0].high_level
    forecasts.ended("j", 9.0)
    assert etas._pools["p"].calibrations[0].high_level == level
    assert list(etas._pools["p"].calibrations[0].errors) == [pytest.approx(math.log(4.5))]


def test_forecasts_are_a_bounded_sample_and_forget_what_was_dropped():
    etas = Etas()
    forecasts = Forecasts(etas, most=2)
    eta = Eta(1.0, 16.0, 20.0)
    told = [forecasts.follow(f"j{n}", "p", eta, n * 0.5) for n in range(8)]
    assert told == [True, False, True, False, False, False, False, False]
    forecasts.dropped("j0")
    forecasts.ended("j0", 5.0)
    forecasts.advance(100.0)
    assert list(etas._pools["p"].calibrations[0].errors) == []
    assert forecasts.follow("j9", "p", eta, 100.0)


def test_what_was_predicted_of_a_pool_that_stops_is_no_error_and_nor_is_its_pause_slowness():
    etas = Etas()
    forecasts = Forecasts(etas)
    for second in range(30):
        etas.drained("p", 2.0, float(second))
    before = etas.predict("p", 10.0, 0.0, 29.0)
    assert forecasts.follow("j", "p", Eta(1.0, 2.0, 3.0), 29.0)
    assert forecasts.follow("k", "q", Eta(1.0, 2.0, 3.0), 29.0)
    forecasts.halted("p")
    forecasts.advance(3_600.0)
    forecasts.ended("j", 3_600.0)
    assert forecasts.take_told() == {}
    etas.drained("p", 2.0, 3_600.0)
    assert etas.predict("p", 10.0, 0.0, 3_600.0).mid == pytest.approx(before.mid, rel=0.1)
    forecasts.ended("k", 3_600.0)
    assert forecasts.take_told() == {("q", "late"): 1}
