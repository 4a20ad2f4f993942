"""Adaptive windows, watermarks and shedding: who is held back, when, and that nobody is dropped."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shotbus.broker.config import Config, FlowConfig, PoolConfig, SheddingConfig
from shotbus.broker.config_loader import load_config
from shotbus.broker.dispatcher.messages import Credit
from shotbus.broker.dispatcher.shedding import Shedder, Watermark
from shotbus.broker.dispatcher.window import Answer, Window, Windows
from shotbus.schemas.errors import ShotbusError

GRANTED = 10


def feed(window, count, *, work="c", service=1.0, hand=0.0, blamed=False, granted=GRANTED):
    for _ in range(count):
        window.answered(Answer(work, service, hand, blamed), granted)
    return window.size(granted)


def test_a_healthy_pool_has_all_that_is_granted_from_the_first_bundle_on():
    window = Window(FlowConfig())
    assert window.size(GRANTED) == GRANTED
    assert feed(window, 500) == GRANTED
    assert window.size(3 * GRANTED) == 3 * GRANTED


def test_errors_cut_it_once_a_round_and_down_to_one():
    window = Window(FlowConfig())
    assert feed(window, GRANTED, blamed=True) == 7
    assert feed(window, 200, blamed=True) == 1


def test_a_few_errors_are_tolerated():
    window = Window(FlowConfig(error_rate=0.1))
    for _ in range(50):
        feed(window, 9)
        feed(window, 1, blamed=True)
    assert window.size(GRANTED) == GRANTED


def test_it_recovers_when_the_errors_are_over():
    window = Window(FlowConfig())
    feed(window, 300, blamed=True)
    assert feed(window, 500) == GRANTED


@pytest.mark.parametrize("slow", [{"service": 10.0}, {"service": 1.0, "hand": 12.0}])
def test_more_time_a_bundle_than_usual_makes_it_smaller(slow):
    window = Window(FlowConfig())
    feed(window, 300)
    assert feed(window, 60, **slow) < GRANTED / 2


def test_a_pool_that_became_slow_for_good_gets_everything_again():
    window = Window(FlowConfig())
    feed(window, 300)
    feed(window, 60, service=100.0)
    assert feed(window, 2_000, service=100.0) == GRANTED


def test_a_phase_of_heavy_circuits_is_no_slowness():
    window = Window(FlowConfig())
    feed(window, 300)
    assert feed(window, 60, work="heavy", service=100.0) == GRANTED
    for number in range(1_000):
        feed(window, 1, work=f"heavy {number}", service=float(number))
    assert window.size(GRANTED) == GRANTED


def test_waiting_for_one_bundle_in_hand_is_what_prefetch_is_for():
    window = Window(FlowConfig())
    feed(window, 300)
    assert feed(window, 300, hand=1.0) == GRANTED


def test_one_that_does_not_adapt_is_what_was_granted():
    assert feed(Window(FlowConfig(adaptive=False)), 100, blamed=True) == GRANTED


@given(
    st.lists(
        st.tuples(st.sampled_from(["", "a", "b"]), st.floats(0, 1e6), st.floats(0, 1e6), st.booleans()),
        max_size=200,
    ),
    st.integers(0, 50),
)
def test_the_window_is_between_one_and_what_is_granted(answers, granted):
    window = Window(FlowConfig())
    for answer in answers:
        window.answered(Answer(*answer), max(1, granted))
        assert min(1, granted) <= window.size(granted) <= granted


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 12), st.integers(0, 200))
def test_trimmed_credits_are_a_part_of_the_free_ones_and_fill_the_window(bundles, used, errors):
    windows = Windows({"p": FlowConfig()})
    free = {"p": [Credit(f"w{n}", n, count) for n, count in enumerate(bundles)], "q": [Credit("x", 0, 3)]}
    windows.trim(free, {"p": used})
    for _ in range(errors):
        windows.answered("p", Answer("c", 1.0, 0.0, blamed=True))
    left = windows.trim(free, {"p": used})
    kept = sum(credit.bundles for credit in left.get("p", ()))
    assert kept == max(0, min(sum(bundles), windows.size("p") - used))
    rooms = {credit.worker: credit.bundles for credit in free["p"]}
    assert all(0 < credit.bundles <= rooms[credit.worker] for credit in left.get("p", ()))
    assert left["q"] == free["q"]


@given(st.lists(st.floats(0, 100), max_size=60))
def test_a_mark_is_engaged_from_high_until_low_and_flips_only_there(levels):
    mark = Watermark(60.0, 20.0)
    for waiting in levels:
        before = mark.engaged
        assert mark.update(waiting) == (mark.engaged is not before)
        assert mark.engaged if waiting >= 60 else True
        assert not mark.engaged if waiting <= 20 else True
        assert mark.engaged is before or not 20 < waiting < 60


POOLS = {"p": PoolConfig(high_seconds=100.0, low_seconds=50.0), "q": PoolConfig()}
LEVELS = {
    "busy": SheddingConfig(defer=("bulk",), retry_after_seconds=10.0),
    "full": SheddingConfig(over=2.0, defer=("experiment",), refuse=("bulk",), retry_after_seconds=60.0),
    "elsewhere": SheddingConfig(over=0.1, refuse=("interactive",), pools=("q",)),
}


def actions(shedder, pool="p"):
    classes = ("interactive", "experiment", "bulk")
    return [shed.action if (shed := shedder.decide(pool, name)) else "take" for name in classes]


def test_classes_are_shed_level_by_level_and_taken_again_when_it_is_over():
    shedder = Shedder(POOLS, LEVELS, 1)
    told = []
    for waiting in (99.0, 100.0, 199.0, 200.0, 101.0, 100.0, 51.0, 50.0):
        shedder.update("p", waiting)
        told.append(actions(shedder))
    deferred, refused = ["take", "take", "defer"], ["take", "defer", "refuse"]
    assert told == [["take"] * 3, deferred, deferred, refused, refused, deferred, deferred, ["take"] * 3]


def test_a_refusal_carries_the_numbers():
    shedder = Shedder(POOLS, LEVELS, 1)
    assert shedder.update("p", 300.0) == ["busy", "shedding.busy", "shedding.full"]
    assert shedder.update("p", 300.0) == []
    shed = shedder.decide("p", "bulk")
    assert (shed.level, shed.retry_after_ms, shed.waiting, shed.high) == ("full", 60_000, 300.0, 200.0)
    assert shedder.engaged("p")
    assert shedder.update("p", 0.0) == ["-busy", "-shedding.busy", "-shedding.full"]


def test_a_pools_backlog_sheds_nobody_elsewhere():
    shedder = Shedder(POOLS, LEVELS, 1)
    shedder.update("p", 1e9)
    assert actions(shedder, "q") == ["take"] * 3
    assert actions(shedder, "unknown") == ["take"] * 3


def test_each_of_several_shards_has_its_part_of_the_marks():
    shedder = Shedder(POOLS, LEVELS, 4)
    shedder.update("p", 25.0)
    assert actions(shedder) == ["take", "take", "defer"]


def test_what_is_told_of_marks_and_waiting_work_is_of_the_whole_pool_as_it_is_configured():
    shedder = Shedder(POOLS, LEVELS, 4)
    shedder.update("p", 25.0)
    shed = shedder.decide("p", "bulk")
    assert (shed.waiting, shed.high) == (100.0, POOLS["p"].high_seconds)
    told = shedder.levels()["p"]
    assert {one.waiting for one in told} == {100.0}
    assert (told[0].high, told[0].low) == (POOLS["p"].high_seconds, POOLS["p"].low_seconds)


def test_with_no_levels_nothing_is_shed_but_the_flag_is_there():
    shedder = Shedder(POOLS, {}, 1)
    assert shedder.update("p", 1e9) == ["busy"]
    assert shedder.decide("p", "bulk") is None


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("[shedding.x]\ndefer = ['bulkk']", "$.shedding.x.defer"),
        ("[shedding.x]\npools = ['aeer']", "$.shedding.x.pools"),
        ("[pools.aer]\nhigh_seconds = 1.0\nlow_seconds = 2.0", "$.pools.aer.low_seconds"),
    ],
)
def test_marks_and_levels_that_cannot_work_are_refused(tmp_path, text, path):
    (tmp_path / "shotbus.toml").write_text(text)
    with pytest.raises(ShotbusError) as caught:
        load_config(tmp_path / "shotbus.toml", {})
    assert [problem.path for problem in caught.value.problems] == [path]


def test_by_default_nothing_is_shed():
    assert Config().shedding == {}
    assert dataclasses.asdict(PoolConfig())["flow"]["adaptive"] is True
