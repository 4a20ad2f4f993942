"""What several shards have measured, merged: order-free, runs add up, nothing outside of what was measured."""

import random
from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shotbus.broker.dispatcher.histories import Measured, Together, merged
from shotbus.broker.policy.facts import MEASURES, NO_HISTORY, History

NUMBERS = st.floats(0, 1e6, allow_subnormal=False)
MEASURED = st.builds(
    History,
    runs=st.integers(1, 10_000),
    success=st.floats(0.01, 1),
    turnaround_seconds=NUMBERS,
    deviation=NUMBERS,
    cost=NUMBERS,
    improvement=st.floats(-1, 1),
    comparisons=st.integers(1, 500),
    distance=st.floats(0, 1),
    timed=st.integers(1, 500),
    billed=st.integers(1, 500),
    deviations=st.integers(1, 500),
    distances=st.integers(1, 500),
)


@given(st.lists(MEASURED, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_order_does_not_matter(histories, chance):
    other = chance.sample(histories, len(histories))
    assert astuple(merged(other)) == pytest.approx(astuple(merged(histories)), rel=1e-9, abs=1e-9)


@given(st.lists(MEASURED, min_size=1, max_size=6))
def test_runs_add_up_and_means_lie_between_those_that_were_measured(histories):
    found = merged(histories)
    for name in MEASURES:
        assert found.count(name) == sum(one.count(name) for one in histories)
        values = [getattr(one, name) for one in histories]
        slack = 1e-9 * (1 + max(values))
        assert min(values) - slack <= getattr(found, name) <= max(values) + slack


@given(MEASURED, st.integers(1, 5))
def test_the_same_measured_by_several_is_the_same(history, times):
    found = merged([history] * times)
    for name in MEASURES:
        assert getattr(found, name) == pytest.approx(getattr(history, name))


def observe(shards, seed, jobs=400):
    chance = random.Random(seed)
    for _ in range(jobs):
        answer = {"cost": chance.uniform(1, 3), "deviation": chance.uniform(0, 2)}
        good, seconds = chance.random() < 0.8, chance.uniform(1, 9)
        chance.choice(shards).observe("qft", "qpu", success=good, seconds=seconds, answer=answer)


@given(st.integers(0, 1_000))
def test_four_shards_together_know_what_one_would(seed):
    one, four, together = Measured(), [Measured() for _ in range(4)], Together()
    together.of = {number: shard.view for number, shard in enumerate(four)}
    observe([one], seed)
    observe(four, seed)
    found = together["qft", "qpu"]
    assert found.runs == 400
    assert found.success == pytest.approx(0.8, abs=0.2)
    assert found.turnaround_seconds == pytest.approx(one.view["qft", "qpu"].turnaround_seconds, abs=2.0)


def test_a_shard_that_leaves_takes_what_it_measured_with_it():
    together, shards = Together(), [Measured(), Measured()]
    together.of = {number: shard.view for number, shard in enumerate(shards)}
    observe(shards, 1, jobs=100)
    runs = [shard.view["qft", "qpu"].runs for shard in shards]
    assert together["qft", "qpu"].runs == sum(runs)
    del together.of[0]
    assert together["qft", "qpu"] == shards[1].view["qft", "qpu"]
    assert list(together) == [("qft", "qpu")]
    assert together.get(("qft", "aer"), NO_HISTORY) is NO_HISTORY
