"""What a point takes, as measured: the first run replaces the guess, rows bring it back, shards share it."""

import json

import pytest

from shotbus.broker.dispatcher.speeds import ANY, Speed, Speeds, is_speed_key, merged
from shotbus.schemas.codec import encode

KEY = b"speed/aer"


def speeds(*seconds, work=7):
    known = Speeds({"aer": 0.002})
    for one in seconds:
        known.observe("aer", one, work)
    return known


def mean(known, work=ANY, pool="aer"):
    return known.of(pool, work).mean


def test_until_something_was_measured_the_configured_figure_counts():
    known = speeds()
    assert (mean(known), known.is_measured("aer"), known.works("aer")) == (0.002, False, {})
    assert known.of("nowhere") is None
    assert known.snapshot(KEY) is None


def test_the_first_measurements_count_evenly_and_later_ones_a_tenth():
    assert mean(speeds(6.0)) == 6.0
    assert mean(speeds(6.0, 2.0, 4.0)) == pytest.approx(4.0)
    assert mean(speeds(*[1.0] * 50, 2.0)) == pytest.approx(1.1)


def test_the_best_case_is_the_best_run_of_late():
    assert speeds(6.0, 1.0, 8.0).of("aer").least < 2.0
    assert speeds(0.1, *[6.0] * 60).of("aer").least > 5.0
    assert speeds(6.0, 6.0).of("aer").least == 6.0


def test_a_row_is_written_for_the_first_run_and_when_the_mean_has_moved():
    known = speeds()
    written = [number for number in range(1, 40) if known.observe("aer", 2.0, 7)]
    assert written == [1, 3, 10]
    assert known.observe("aer", 2.5, 7) == []
    assert known.observe("aer", 5.0, 7) == [KEY]


def test_a_row_brings_back_what_was_measured_and_none_takes_it_away():
    row = speeds(6.0, 4.0).snapshot(KEY)
    assert is_speed_key(KEY)
    again = speeds()
    again.restore(KEY, row)
    assert (mean(again), again.of("aer")) == (5.0, Speed(2, 5.0, 4.0))
    again.restore(KEY, None)
    assert (mean(again), again.is_measured("aer")) == (0.002, False)


def test_shards_of_a_process_know_what_all_have_measured_until_one_leaves():
    group, here, there = [], speeds(2.0), speeds()
    for one in (here, there):
        one.join(group)
    assert mean(there) == 2.0
    there.observe("aer", 4.0, 7)
    assert mean(here) == mean(there) == 3.0
    here.leave()
    assert (mean(here), mean(there)) == (2.0, 4.0)
    there.leave()
    assert group == []


def test_who_stays_forgets_what_only_the_one_that_left_had_measured():
    group, here, there = [], speeds(2.0), speeds()
    for one in (here, there):
        one.join(group)
    here.leave()
    assert (mean(there), there.is_measured("aer")) == (0.002, False)


def test_means_of_several_count_by_the_runs_that_they_remember():
    assert merged([Speed(1, 4.0, 4.0), Speed(3, 2.0, 1.0)]) == Speed(4, 2.5, 1.0)
    assert merged([Speed(1_000, 1.0, 1.0), Speed(10, 3.0, 3.0)]).mean == 2.0


def test_each_class_of_work_has_its_mean_and_one_of_which_nothing_ended_that_of_all():
    known = speeds(1.0, work=1)
    known.observe("aer", 9.0, 2)
    assert [mean(known, work) for work in (1, 2, 3)] == [1.0, 9.0, 5.0]
    assert known.works("aer") == {1: (1.0, 1.0), 2: (9.0, 9.0)}


def test_classes_of_work_are_shared_and_come_back_with_the_row():
    group, here, there = [], speeds(1.0, work=1), speeds(9.0, work=2)
    for one in (here, there):
        one.join(group)
    there.observe("aer", 3.0, 1)
    assert [mean(here, work) for work in (1, 2)] == [2.0, 9.0]
    again = speeds()
    again.restore(KEY, there.snapshot(KEY))
    assert [mean(again, work) for work in (1, 2, 3)] == [3.0, 9.0, 6.0]


def test_a_row_of_an_earlier_version_has_no_classes_of_work():
    data = json.dumps({"runs": 3, "mean": 2.0, "least": 1.0}).encode()
    known = speeds()
    known.restore(KEY, encode("ledger_page", {"kind": "meta", "data": data}))
    assert (known.of("aer", 7), known.works("aer")) == (Speed(3, 2.0, 1.0), {})


def test_no_more_classes_than_64_are_remembered_and_the_one_not_seen_for_longest_goes():
    known = speeds()
    for work in range(63):
        known.observe("aer", 1.0, work)
    known.observe("aer", 1.0, 0)
    known.observe("aer", 1.0, 100)
    assert (len(known.own["aer"]), len(known.works("aer"))) == (64, 63)
    assert {0, 2, 100} < known.works("aer").keys()
    assert 1 not in known.works("aer")


def test_a_mixture_of_short_and_long_runs_does_not_write_its_row_each_time():
    known = speeds()
    written = [n for n in range(100) if known.observe("aer", 0.01 if n % 2 else 1.0, n % 2)]
    assert len(written) < 20
