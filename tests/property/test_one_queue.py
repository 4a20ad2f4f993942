"""Several shards with common clocks and an arbiter serve as one big queue would, whoever hears of a credit."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting_kit import WEIGHTS, Queue, Shards, Waiting

from shotbus.broker.config import FairnessConfig

STRICT = FairnessConfig(mode="strict", ageing_seconds=0)
SEEDS = st.integers(0, 1_000)


def seconds(jobs, field):
    found = Counter()
    for job in jobs:
        found[getattr(job, field)] += job.cost
    return found


def jain(shares):
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


def deal_jobs(seed, shards, jobs):
    """Put each job into some shard; one of them hears of nearly every credit."""
    chance = random.Random(seed)
    for job in jobs:
        shards.queues[chance.randrange(len(shards.queues))].push(job)
    return chance


def who_hears(chance, shards):
    return 0 if chance.random() < 0.9 else chance.randrange(len(shards.queues))


@settings(max_examples=25)
@given(SEEDS, st.integers(2, 4), st.sampled_from([1, 2, 5]), st.sampled_from([1, 10]))
def test_classes_get_what_one_big_queue_would_give_them(seed, count, freed, bundle_jobs):
    jobs = [Waiting(priority=name, cost=0.5 + n % 3) for name in WEIGHTS for n in range(200)]
    shards = Shards(count, bundle_jobs=bundle_jobs)
    chance = deal_jobs(seed, shards, jobs)
    while len(shards.served) < 300:
        shards.turn(who_hears(chance, shards), freed)
    one = Queue(*jobs)
    expected = seconds([one.pop() for _ in range(len(shards.served))], "priority")
    got = seconds([job for _, job in shards.served], "priority")
    total = sum(got.values())
    for name in WEIGHTS:
        assert got[name] / total == pytest.approx(
            expected[name] / sum(expected.values()), rel=0.1, abs=3 * bundle_jobs / total
        )


@settings(max_examples=25)
@given(SEEDS, st.sampled_from([1, 4]), st.sampled_from([1, 10]))
def test_tenants_are_alike_over_four_shards_while_one_floods(seed, freed, bundle_jobs):
    """Some tenants are on one shard only, some on all."""
    shards = Shards(4, bundle_jobs=bundle_jobs)
    flood = [Waiting("flood") for _ in range(600)]
    chance = deal_jobs(seed, shards, [*flood, *[Waiting(f"t{n % 5}") for n in range(500)]])
    for number in range(4):
        shards.queues[number].push(*[Waiting(f"only-{number}") for _ in range(100)])
    while len(shards.served) < 800:
        shards.turn(who_hears(chance, shards), freed)
    got = seconds([job for _, job in shards.served], "tenant")
    assert len(got) == 10
    assert jain(list(got.values())) >= 0.99


@given(SEEDS, st.integers(2, 4), st.integers(0, 3), st.sampled_from([None, STRICT]))
def test_an_interactive_job_in_any_shard_gets_the_next_credit(seed, count, place, fairness):
    shards = Shards(count, bundle_jobs=5, **({"fairness": fairness} if fairness else {}))
    chance = deal_jobs(seed, shards, [Waiting() for _ in range(150)])
    for _ in range(20):
        shards.turn(who_hears(chance, shards))
    hurried = Waiting("hurry", "interactive")
    shards.queues[place % count].push(hurried)
    before = len(shards.served)
    shards.turn(who_hears(chance, shards))
    assert hurried in [job for _, job in shards.served[before : before + 5]]


@given(SEEDS, st.integers(2, 4))
def test_strict_classes_are_strict_over_all_shards(seed, count):
    shards = Shards(count, fairness=STRICT)
    chance = deal_jobs(seed, shards, [Waiting(priority=name) for name in WEIGHTS for _ in range(30)])
    while any(queue.jobs for queue in shards.queues):
        shards.turn(who_hears(chance, shards))
    assert [job.priority for _, job in shards.served] == [name for name in WEIGHTS for _ in range(30)]


@given(SEEDS, st.sampled_from([{"session": 1}, {"tenant": 2}, {"backend": 3}, {"tenant:a": 1, "session": 2}]))
def test_limits_of_each_shard_hold_and_no_credit_is_kept_for_what_may_not_go(seed, limits):
    shards = Shards(3, limits=limits)
    jobs = [Waiting("ab"[n % 2], session_id="st"[n % 3 == 0]) for n in range(60)]
    chance = deal_jobs(seed, shards, jobs)
    ended = 0
    for _ in range(300):
        shards.turn(who_hears(chance, shards), 0 if shards.free else 1)
        if shards.free:
            # Whoever may go has gone: nobody has a claim.
            assert shards.claims() == {"aer": {}}
        if ended < len(shards.served):
            shard, job = shards.served[ended]
            shards.queues[shard].end(job)
            ended += 1
    assert sorted(job.number for _, job in shards.served) == sorted(job.number for job in jobs)


@given(SEEDS, st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["push", "pop", "leave"])), max_size=60))
def test_a_shard_that_leaves_the_clocks_leaves_nothing_behind(seed, steps):
    shards = Shards(3)
    chance = random.Random(seed)
    clocks = shards.queues[0].waiting._clocks
    for number, step in steps:
        if step == "push":
            shards.queues[number].push(Waiting(chance.choice("abc"), chance.choice(list(WEIGHTS))))
        elif step == "pop":
            shards.queues[number].pop()
        else:
            shards.queues[number].waiting.use(type(clocks)())
            shards.queues[number].drain()
            shards.queues[number].waiting.use(clocks)
    for queue in shards.queues:
        queue.drain()
    for name in WEIGHTS:
        clock = clocks.of(name)
        assert (clock.offered, clock._tenants, clock._left) == (0, {}, {})
