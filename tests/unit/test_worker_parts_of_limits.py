"""Parts of a provider's limits: how they are divided, when they count, what a token bucket allows."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shotbus.broker.bucket import TokenBucket
from shotbus.workers.parts import Limits, Parts, PartTimes, Turnstile


def settled(name="b", units=4, now=0.0):
    """A worker that is alone and holds everything at ``now`` + 3."""
    parts = Parts(name, units, PartTimes())
    for second in range(4):
        parts.published(second, parts.wish(0), now + second)
        parts.echoed(second, now + second)
    return parts


@pytest.mark.parametrize(
    ("limits", "units"),
    [(Limits(), 0), (Limits(4), 4), (Limits(0, 2.0, 3), 3), (Limits(4, 2.0, 3), 3), (Limits(2, 2.0, 9), 2)],
)
def test_limits_are_divided_so_that_each_unit_allows_something(limits, units):
    assert limits.units == units
    if units:
        assert limits.runs(1) >= 1
        assert limits.burst * 1 // units >= 1 or not limits.rate_per_second


@given(st.integers(1, 50), st.integers(1, 50), st.data())
def test_what_the_units_allow_together_is_within_the_limits(cap, burst, data):
    limits = Limits(cap, 1.0, burst)
    first = data.draw(st.integers(0, limits.units))
    second = limits.units - first
    assert limits.runs(first) + limits.runs(second) <= cap
    assert limits.burst * first // limits.units + limits.burst * second // limits.units <= burst
    assert limits.runs(limits.needed(min(cap, 7))) >= min(cap, 7)


def test_a_worker_that_is_alone_holds_everything_once_it_has_listened_for_a_while():
    assert settled().held(3.0) == 4


def test_a_part_that_was_not_confirmed_for_a_while_is_not_used():
    assert settled().held(3.0 + PartTimes().fence) == 0


def test_a_claim_counts_when_it_was_read_back_and_a_lower_one_at_once():
    parts = settled()
    parts.published(10, 1, 3.0)
    assert parts.held(3.0) == 1
    parts.published(11, 4, 3.0)
    assert parts.held(3.0) == 1
    parts.echoed(11, 3.1)
    assert parts.held(3.1) == 4


def test_of_two_claims_the_first_in_the_log_counts_in_full():
    late = Parts("b", 4, PartTimes())
    late.published(0, 3, 0.0)
    late.learn("a", 3, 0.0, ready=True, heard=0.0)
    late.echoed(0, 0.1)
    assert late.held(0.1) == 1


def test_a_higher_claim_that_follows_in_the_batch_stands_for_one_that_was_compacted_away():
    parts = Parts("b", 4, PartTimes())
    parts.learn("a", 0, 0.0, ready=True, heard=0.0)
    parts.published(0, 4, 0.0)
    parts.echoed(0, 0.1)
    parts.learn("a", 4, 0.1, ready=True, heard=0.1)
    assert parts.held(0.1) == 0
    parts.learn("a", 0, 0.2, ready=True, heard=0.2)
    assert parts.held(0.2) == 0, "a may have held 4 before, and this worker's own claim came after that"


def test_a_record_of_an_earlier_life_confirms_nothing():
    parts = Parts("b", 4, PartTimes())
    parts.published(7, 4, 0.0)
    parts.echoed(3, 0.1)
    assert parts.held(0.1) == 0


def test_advertisements_of_long_ago_are_nobodys():
    parts = settled()
    parts.learn("a", 4, 3.0, ready=True, heard=-100.0)
    assert parts.held(3.0) == 4


def test_a_worker_that_drains_claims_what_it_still_uses():
    turnstile = Turnstile(Limits(4), settled(), 0.0)
    assert turnstile.begin(3.0)
    assert (turnstile.wish(ready=True), turnstile.wish(ready=False)) == (4, 1)


def test_with_more_workers_than_units_the_first_by_name_hold_one():
    parts = settled("m", units=1)
    parts.learn("z", 0, 3.0, ready=True, heard=3.0)
    assert parts.wish(0) == 1
    parts.learn("a", 0, 3.0, ready=True, heard=3.0)
    assert parts.wish(0) == 0


def test_no_more_credits_than_its_part_and_none_without_one():
    turnstile = Turnstile(Limits(4), settled(), 0.0)
    assert [turnstile.credits(room, 3.0) for room in (2, 9)] == [2, 4]
    assert turnstile.credits(9, 99.0) == 0
    assert math.isinf(turnstile.wait(99.0))


def test_a_rate_lets_bundles_begin_one_after_the_other():
    turnstile = Turnstile(Limits(0, 2.0, 4), settled(), 0.0)
    assert not turnstile.begin(3.0)
    wait = turnstile.wait(3.0)
    assert wait == pytest.approx(0.5)
    assert [turnstile.begin(3.0 + wait), turnstile.begin(3.0 + wait)] == [True, False]


def test_a_bucket_that_can_never_hold_enough_says_so():
    assert math.isinf(TokenBucket(1.0, 1.0, 0.0).wait(0.0, 2.0))
    assert math.isinf(TokenBucket(0.0, 1.0, 0.0, full=False).wait(0.0))


@given(st.floats(0.1, 100), st.integers(1, 20), st.lists(st.floats(0, 3), max_size=60))
def test_a_bucket_never_gives_more_than_burst_and_rate_allow(rate, burst, pauses):
    bucket, now, taken = TokenBucket(rate, burst, 0.0), 0.0, []
    for pause in pauses:
        now += pause
        while bucket.take(now):
            taken.append(now)
        for first, since in enumerate(taken):
            assert len(taken) - first <= burst + rate * (now - since) + 1e-6
        now += bucket.wait(now)
        assert bucket.take(now)
        taken.append(now)
