"""How shards share a limit on jobs with workers: who asks, who gives back, what a changed limit does."""

import pytest
from places_kit import Shards

QPU = {"backend:qpu": 1}


def busy(shards, *numbers, jobs=100, pool="qpu"):
    for number in numbers:
        shards.nodes[number].wait("ada", pool, jobs)
    return shards


def test_without_limits_and_with_one_shard_nobody_says_anything():
    for shards in (busy(Shards(2, {}), 0, 1), busy(Shards(1, QPU), 0)):
        shards.settle()
        assert shards.log == []
        assert (
            shards.running() == min(100, shards.most("backend:qpu")) * len(shards.nodes) or shards.running()
        )


def test_with_the_even_part_nobody_has_to_ask():
    shards = busy(Shards(4, {"backend:qpu": 8}), 0, 1, 2, 3, jobs=2)
    shards.settle()
    assert (shards.running(), shards.log) == (8, [])


def test_one_place_is_used_by_one_shard_after_the_other():
    shards, order = busy(Shards(4, QPU), 0, 1, 2, 3), []
    shards.settle()
    for _ in range(12):
        (node,) = [node for node in shards.nodes if node.with_workers]
        order.append(node.number)
        node.end()
        shards.settle()
    assert all(set(order[at : at + 4]) == {0, 1, 2, 3} for at in range(4, 9))


def test_a_shard_that_has_the_limit_and_all_the_work_says_nothing_more():
    shards = busy(Shards(3, {"backend:qpu": 3}), 1)
    shards.settle()
    before = len(shards.log)
    for _ in range(20):
        shards.nodes[1].end()
        shards.settle(1)
    assert (shards.running(), len(shards.log)) == (3, before)


def test_two_busy_shards_share_evenly_and_hand_nothing_round():
    shards = busy(Shards(2, {"backend:qpu": 5}), 0)
    shards.settle()
    assert len(shards.nodes[0].with_workers) == 5
    busy(shards, 1)
    for _ in range(10):
        shards.settle(1)
        shards.nodes[0].end()
        shards.settle()
    assert sorted(len(node.with_workers) for node in shards.nodes) == [2, 3]
    before = len(shards.log)
    for _ in range(6):
        for node in shards.nodes:
            node.end()
        shards.settle(1)
    assert len(shards.log) == before


def test_places_of_a_shard_that_nobody_runs_wait_with_it():
    shards = busy(Shards(2, QPU), 0)
    shards.settle()
    busy(shards, 1)
    for _ in range(30):
        shards.step(1)
    assert not shards.nodes[1].with_workers
    shards.nodes[0].begin_again()
    shards.settle()
    shards.nodes[0].end()
    shards.settle()
    assert shards.nodes[1].with_workers


def test_what_was_asked_for_in_vain_is_asked_for_again():
    """Whoever heard it may have had another limit then."""
    shards = busy(Shards(2, QPU), 0, 1)
    shards.nodes[1].step([], 9)
    shards.nodes[0].step([], 9)
    shards.settle()
    assert shards.running() == 0
    for node in shards.nodes:
        node.seen = 30.0
    shards.settle()
    assert shards.running() == 1


@pytest.mark.parametrize("limit", [3, 0])
def test_another_limit_begins_anew_and_leaves_no_row_of_the_former(limit):
    shards = busy(Shards(2, {"backend:qpu": 7}), 0)
    shards.settle()
    assert any(node.lasting for node in shards.nodes)
    shards.nodes[0].with_workers.clear()
    shards.nodes[0].waiting.clear()
    shards.log.clear()
    for node in shards.nodes:
        node.limits, node.position = ({"backend:qpu": limit} if limit else {"tenant": 9}), 0
        node.begin_again()
    shards.settle()
    assert [node.lasting for node in shards.nodes] == [{}, {}]
    if limit:
        assert [node.shared.places.held("backend:qpu", limit) for node in shards.nodes] == [1, 1]
