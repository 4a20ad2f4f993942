"""What a point takes, as measured: the first run replaces the guess, rows bring it back, shards share it."""

import pytest

from shotbus.broker.dispatcher.speeds import Speed, Speeds, is_speed_key, merged

KEY = b"speed/aer"


def speeds(*seconds):
    known = Speeds({"aer": 0.002})
    for one in seconds:
        known.observe("aer", one)
    return known


def test_until_something_was_measured_the_configured_figure_counts():
    known = speeds()
    assert (known.by_pool, known.measured) == ({"aer": 0.002}, {})
    assert known.snapshot(KEY) is None


def test_the_first_measurements_count_evenly_and_later_ones_a_tenth():
    assert speeds(6.0).by_pool["aer"] == 6.0
    assert speeds(6.0, 2.0, 4.0).by_pool["aer"] == pytest.approx(4.0)
    assert speeds(*[1.0] * 50, 2.0).by_pool["aer"] == pytest.approx(1.1)


def test_the_best_case_is_the_best_run_of_late():
    assert speeds(6.0, 1.0, 8.0).measured["aer"].least < 2.0
    assert speeds(0.1, *[6.0] * 60).measured["aer"].least > 5.0
    assert speeds(6.0, 6.0).measured["aer"].least == 6.0


def test_a_row_is_written_for_the_first_run_and_when_the_mean_has_moved():
    known = speeds()
    written = [number for number in range(1, 40) if known.observe("aer", 2.0)]
    assert written == [1, 3, 10]
    assert known.observe("aer", 2.5) == []
    assert known.observe("aer", 5.0) == [KEY]


def test_a_row_brings_back_what_was_measured_and_none_takes_it_away():
    row = speeds(6.0, 4.0).snapshot(KEY)
    assert is_speed_key(KEY)
    again = speeds()
    again.restore(KEY, row)
    assert (again.by_pool["aer"], again.measured["aer"]) == (5.0, Speed(2, 5.0, 4.0))
    again.restore(KEY, None)
    assert (again.by_pool["aer"], again.measured) == (0.002, {})


def test_shards_of_a_process_know_what_all_have_measured_until_one_leaves():
    group, here, there = [], speeds(2.0), speeds()
    for one in (here, there):
        one.join(group)
    assert there.by_pool["aer"] == 2.0
    there.observe("aer", 4.0)
    assert here.by_pool["aer"] == there.by_pool["aer"] == 3.0
    here.leave()
    assert (here.by_pool["aer"], there.by_pool["aer"]) == (2.0, 4.0)
    there.leave()
    assert group == []


def test_who_stays_forgets_what_only_the_one_that_left_had_measured():
    group, here, there = [], speeds(2.0), speeds()
    for one in (here, there):
        one.join(group)
    here.leave()
    assert (there.by_pool["aer"], there.measured) == (0.002, {})


def test_means_of_several_count_by_the_runs_that_they_remember():
    assert merged([Speed(1, 4.0, 4.0), Speed(3, 2.0, 1.0)]) == Speed(4, 2.5, 1.0)
    assert merged([Speed(1_000, 1.0, 1.0), Speed(10, 3.0, 3.0)]).mean == 2.0
