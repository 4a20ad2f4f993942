"""The arbiter: nothing above what is free, patience with the slow, no call without end."""

import pytest
from waiting_kit import Shards, Waiting

from shotbus.broker.config import PoolConfig
from shotbus.broker.dispatcher.arbiter import PATIENCE_SECONDS, Arbiter, Claim, share_out
from shotbus.broker.dispatcher.messages import Credit
from shotbus.broker.dispatcher.waiting import Front


def front(name="bulk", weight=1.0, virtual=0.0, tenant=0.0, due=0, order=0, lines=1, rank=3):
    return Front(name, rank, weight, virtual, tenant, due, order, lines)


def claim(*fronts, jobs=100, seconds=100.0, bundles=100, urgent=0):
    return Claim(fronts or (front(),), jobs, seconds, bundles, urgent)


def backlog(count=2, jobs=50):
    shards = Shards(count)
    for queue in shards.queues:
        queue.push(*[Waiting() for _ in range(jobs)])
    return shards


def test_who_is_alone_gets_everything():
    shards = backlog(1)
    shards.free = 7
    assert shards.ask(0) == ((), 7)


def test_who_has_nothing_to_send_gets_only_what_nobody_wants():
    shards = Shards(2)
    shards.queues[1].push(Waiting())
    shards.free = 3
    others, given = shards.ask(0)
    assert (others, given) == ((1,), 2)


def test_what_is_dealt_to_another_is_not_used_before_it_comes():
    shards = backlog()
    shards.queues[1].push(Waiting("hurry", "interactive"))
    shards.free = 1
    assert shards.ask(0) == ((1,), 0)
    assert shards.ask(1) == ((), 1)


def test_a_shard_that_does_not_come_is_passed_over_until_it_asks():
    shards = backlog()
    shards.queues[1].push(*[Waiting("hurry", "interactive") for _ in range(5)])
    shards.free = 1
    assert shards.ask(0)[1] == 0
    shards.now += PATIENCE_SECONDS * 0.9
    assert shards.ask(0)[1] == 0
    shards.now += PATIENCE_SECONDS * 0.2
    assert shards.ask(0)[1] == 1
    shards.free = 2
    assert shards.ask(0)[1] == 2
    shards.free = 1
    assert shards.ask(1)[1] == 1
    shards.free = 1
    assert shards.ask(0)[1] == 0


def test_a_shard_that_uses_nothing_is_not_called_again_for_the_same_job():
    free, stuck = {"aer": [Credit("w", 0, 1)]}, claim(front(order=1))
    arbiter = Arbiter({"aer": PoolConfig()})
    claims = {"aer": {0: claim(front(order=2)), 1: stuck}}
    assert arbiter.ask(0, free, claims, 0.0).others == (1,)
    assert arbiter.ask(1, free, claims, 0.0).credits == free
    assert arbiter.ask(0, free, claims, 0.0) == (free, ())
    moved = {"aer": {**claims["aer"], 1: claim(front(order=0))}}
    assert arbiter.ask(0, free, moved, 0.0).others == (1,)


def test_a_new_life_of_a_shard_is_waited_for_again():
    shards = backlog()
    shards.queues[1].push(Waiting("hurry", "interactive"))
    shards.free = 1
    shards.ask(0)
    shards.now += 1.0
    shards.arbiter.forget(1)
    assert shards.ask(0) == ((1,), 0)


def test_look_ups_go_before_everything():
    asked = share_out(1, {0: claim(front(rank=0)), 1: Claim((), 0, 0.0, 1, 1)}, 1.0)
    assert asked == {0: 0, 1: 1}


def test_nobody_gets_more_than_its_bundles():
    assert share_out(10, {0: claim(bundles=2, seconds=2.0), 1: claim()}, 1.0) == {0: 2, 1: 8}


def test_several_credits_are_dealt_by_weight():
    best = front("interactive", 8.0, rank=0)
    assert share_out(9, {0: claim(best), 1: claim()}, 1.0) == {0: 8, 1: 1}


@pytest.mark.parametrize("count", range(1, 12))
def test_what_is_dealt_never_exceeds_what_is_free(count):
    free = {"aer": [Credit("v", 0, count // 2), Credit("w", 1, count - count // 2)]}
    claims = {"aer": {0: claim(), 1: claim(front(tenant=0.5)), 2: claim(bundles=1, jobs=1, seconds=1.0)}}
    room = {credit.worker: credit.bundles for credit in free["aer"]}
    given = []
    for shard in range(3):
        arbiter = Arbiter({"aer": PoolConfig(bundle_seconds=1.0)})
        own = arbiter.ask(shard, free, claims, 0.0).credits["aer"]
        assert all(one.bundles <= room[one.worker] for one in own)
        given.append(sum(one.bundles for one in own))
    assert sum(given) == count
