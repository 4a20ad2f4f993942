"""Circuit breaker: when a pool is left alone, how it is tried again, what a restart keeps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shotbus.broker.config import BreakerConfig
from shotbus.broker.dispatcher.breaker import BLAMED, SUSPECT, TABLE, Breaker, Gate, Push, Report
from shotbus.broker.dispatcher.breakers import Breakers, CommonBreakers
from shotbus.broker.dispatcher.retry import REMEDIES

SETTINGS = BreakerConfig(
    window_seconds=10.0,
    min_calls=4,
    error_rate=0.5,
    pause_seconds=2.0,
    pause_factor=2.0,
    pause_cap=5.0,
    probes=2,
)
NEUTRAL = sorted(
    {"INVALID", "CONSTRAINT", "THROTTLED", "NOT_STARTED", "REVOKED", "CRASHED", "POISON", "UNSTABLE"}
)


def feed(breaker, classes, *, seen=0.0, tenant="a"):
    """One bundle of one job each."""
    return [breaker.observe(f"b{n}", [Report(tenant, one)], seen) for n, one in enumerate(classes)]


def opened(seen=0.0):
    breaker = Breaker(SETTINGS)
    breaker.observe("b", [Report("a", "BACKEND_DOWN")], seen)
    return breaker


def probing():
    breaker = opened()
    breaker.advance(2.0)
    breaker.sent("p1", 2.0)
    breaker.sent("p2", 2.0)
    return breaker


@pytest.mark.parametrize("error_class", sorted(BLAMED - SUSPECT - {"BACKEND_DOWN"}))
def test_it_opens_when_more_than_the_allowed_share_of_enough_bundles_failed(error_class):
    breaker = Breaker(SETTINGS)
    assert feed(breaker, ["", error_class, error_class]) == [False] * 3
    assert feed(breaker, [error_class]) == [True]
    assert (breaker.gate, breaker.room(1.0)) == (Gate.OPEN, 0)
    assert "75% of 4 bundles" in breaker.view(0.0).reason


@pytest.mark.parametrize("error_class", sorted(SUSPECT))
def test_what_a_job_may_have_brought_about_counts_when_it_happens_to_two_tenants(error_class):
    breaker = Breaker(SETTINGS)
    assert not any(feed(breaker, [error_class] * 50, tenant="a"))
    assert feed(breaker, [error_class], tenant="b") == [True]


@pytest.mark.parametrize("error_class", NEUTRAL)
def test_what_is_not_the_backends_fault_never_opens_it(error_class):
    breaker = Breaker(SETTINGS)
    assert not any(feed(breaker, [error_class] * 50))
    assert (breaker.gate, breaker.room(0.0)) == (Gate.CLOSED, None)


def test_every_class_of_the_retry_table_is_either_blamed_or_known_to_be_neutral():
    assert set(REMEDIES) - BLAMED <= {*NEUTRAL, "CANCELLED_BY_PROVIDER", "NOT_ACCEPTED"}


def test_a_backend_that_says_it_is_down_opens_it_at_once():
    assert opened().gate is Gate.OPEN


def test_failures_that_are_older_than_the_window_are_forgotten():
    breaker = Breaker(SETTINGS)
    feed(breaker, ["TRANSIENT"] * 3)
    assert not any(feed(breaker, ["TRANSIENT"], seen=10.1))


def test_a_flood_of_one_tenants_failures_leaves_it_open_to_the_others():
    breaker = Breaker(SETTINGS)
    for number in range(300):
        feed(breaker, [""], tenant="quiet", seen=number / 100)
        feed(breaker, ["TRANSIENT"] * 10, tenant="flood", seen=number / 100)
    assert breaker.gate is Gate.CLOSED


def test_a_lost_bundle_counts_once_however_many_jobs_it_held():
    breaker = Breaker(SETTINGS)
    feed(breaker, [""] * 4)
    assert not breaker.observe("big", [Report("a", "LOST")] * 256, 0.0)


def test_after_the_pause_as_many_probes_go_as_configured():
    breaker = opened()
    assert (breaker.advance(1.9), breaker.advance(2.0), breaker.gate) == (False, True, Gate.HALF_OPEN)
    assert breaker.room(2.0) == 2
    breaker.sent("p1", 2.0)
    assert breaker.room(2.0) == 1


def test_it_closes_when_all_probes_succeeded():
    breaker = probing()
    assert not breaker.observe("p1", [Report("a", "")], 2.5)
    assert breaker.observe("p2", [Report("a", "")], 2.5)
    assert (breaker.gate, breaker.room(2.5), breaker.snapshot()) == (Gate.CLOSED, None, None)


def test_a_failed_probe_opens_it_for_a_longer_pause_up_to_the_cap():
    breaker, seen, pauses = opened(), 0.0, []
    for number in range(4):
        pauses.append(breaker.view(seen).retry_seconds)
        seen += pauses[-1]
        breaker.advance(seen)
        breaker.sent(f"p{number}", seen)
        assert breaker.observe(f"p{number}", [Report("a", "TRANSIENT")], seen)
    assert pauses == [2.0, 4.0, 5.0, 5.0]


def test_answers_of_bundles_from_before_do_not_judge_the_probes():
    breaker = probing()
    assert not breaker.observe("older", [Report("a", "TRANSIENT")], 2.5)
    assert not breaker.observe("older too", [Report("a", "")], 2.5)
    assert breaker.gate is Gate.HALF_OPEN


def test_a_probe_that_says_nothing_is_replaced():
    breaker = probing()
    breaker.observe("p1", [Report("a", "INVALID")], 2.5)
    assert breaker.room(2.5) == 1
    assert breaker.room(100.0) == 2


def test_a_restored_breaker_is_open_for_a_full_pause_with_the_same_streak():
    row = probing().snapshot()
    breakers = Breakers({"aer": SETTINGS})
    breakers.restore("aer", row, 100.0)
    view = breakers.view("aer", 100.0)
    assert (view.gate, view.reason, view.retry_seconds) == (Gate.OPEN, "BACKEND_DOWN", 2.0)
    assert breakers.next_due(101.0) == 1.0
    assert breakers.advance(102.0) == ["aer"]


def test_pools_do_not_know_each_other():
    breakers = Breakers({"a": SETTINGS, "b": SETTINGS})
    breakers.observe("a", "x", [Report("t", "BACKEND_DOWN")], 0.0)
    assert (breakers.room("a", 0.0), breakers.room("b", 0.0), breakers.room("c", 0.0)) == (0, None, None)
    assert breakers.snapshot("b") is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["sent", "observe", "advance"]),
        st.integers(0, 5),
        st.sampled_from(["", *sorted(BLAMED), "INVALID", "THROTTLED"]),
        st.floats(0, 4),
    ),
    max_size=60,
)


@given(STEPS)
def test_it_moves_along_its_table_and_never_lets_more_than_the_probes_through(steps):
    breaker, seen = Breaker(SETTINGS), 0.0
    for verb, number, error_class, pause in steps:
        seen += pause
        before, room = breaker.gate, breaker.room(seen)
        if verb == "sent" and room:
            breaker.sent(f"b{number}-{seen}", seen)
        elif verb == "observe":
            changed = breaker.observe(f"b{number}-{seen}", [Report("t", error_class)], seen)
            assert changed == (before is not breaker.gate)
        elif verb == "advance":
            breaker.advance(seen)
        assert before is breaker.gate or breaker.gate in {TABLE.get((before, push)) for push in Push}
        room = breaker.room(seen)
        assert (room is None) == (breaker.gate is Gate.CLOSED)
        assert room is None or 0 <= room <= (SETTINGS.probes if breaker.gate is Gate.HALF_OPEN else 0)
        assert 0 <= breaker.view(seen).retry_seconds <= SETTINGS.pause_cap


def shards(count=2):
    """The breakers of shards of one process."""
    common = CommonBreakers({"aer": SETTINGS})
    found = [Breakers({"aer": SETTINGS}) for _ in range(count)]
    for one in found:
        one.use(common)
    return found


def down(breakers, seen=0.0):
    return breakers.observe("aer", "b", [Report("a", "BACKEND_DOWN")], seen)


def test_a_breaker_that_opens_in_one_shard_is_open_in_all_and_each_has_its_row():
    one, two = shards()
    assert down(one)
    assert (two.room("aer", 0.0), two.view("aer", 0.0).reason) == (0, "BACKEND_DOWN")
    assert (two.take_moved(), two.take_moved()) == (["aer"], [])
    assert two.snapshot("aer") == one.snapshot("aer") is not None


def test_failures_that_shards_hear_of_add_up_and_go_with_who_heard_them():
    one, two, three = shards(3)
    failed = [Report("a", "TRANSIENT")]
    for name, breakers in (("1", one), ("2", one), ("3", two)):
        assert not breakers.observe("aer", name, failed, 1.0)
    two.use(None)
    assert not three.observe("aer", "4", failed, 1.0)
    assert three.observe("aer", "5", failed, 1.0)
    assert two.room("aer", 1.0) is None


def test_half_open_all_shards_send_its_probes_together():
    one, two = shards()
    down(one)
    assert (one.advance(2.0), two.advance(2.0)) == (["aer"], [])
    assert (one.room("aer", 2.0), two.room("aer", 2.0)) == (2, 2)
    one.sent("aer", "p1", 2.0)
    assert two.room("aer", 2.0) == 1
    two.sent("aer", "p2", 2.0)
    assert (one.room("aer", 2.0), two.room("aer", 2.0)) == (0, 0)
    one.use(None)
    assert two.room("aer", 2.0) == 1


def test_time_goes_on_by_whoever_is_ahead_since_it_came():
    one, two = shards()
    one.advance(100.0)
    late = Breakers({"aer": SETTINGS})
    late.use(one._common)
    down(late)
    assert one.view("aer", 100.0).retry_seconds == 2.0
    assert two.advance(50.0) == []
    assert late.advance(2.0) == ["aer"]
    assert one.view("aer", 100.0).gate is Gate.HALF_OPEN


def test_a_shard_that_comes_with_an_open_breaker_opens_it_for_all_unless_they_try_already():
    row = opened().snapshot()
    one, two = shards()
    two.restore("aer", row, 0.0)
    assert one.room("aer", 0.0) == 0
    one.advance(2.0)
    late = Breakers({"aer": SETTINGS})
    late.use(one._common)
    late.restore("aer", row, 0.0)
    assert one.view("aer", 2.0).gate is Gate.HALF_OPEN
    assert late.take_moved() == ["aer"]


@given(STEPS, st.lists(st.integers(0, 2), min_size=60, max_size=60))
def test_shards_together_decide_as_one_would(steps, who):
    alone, together, seen = Breakers({"aer": SETTINGS}), shards(3), 0.0
    for (step, number, error_class, more), index in zip(steps, who, strict=False):
        seen += more
        one = together[index]
        if step == "observe":
            reports = [Report(f"t{number % 2}", error_class)]
            moved = [at.observe("aer", f"b{number}", reports, seen) for at in (alone, one)]
        elif step == "sent":
            moved = [at.sent("aer", f"b{number}", seen) for at in (alone, one)]
        else:
            moved = [at.advance(seen) for at in (alone, one)]
        assert moved[0] == moved[1]
        assert len({at.view("aer", seen) for at in (alone, *together)}) == 1
        assert len({at.room("aer", seen) for at in (alone, *together)}) == 1
