"""Conformance: a group deals out every partition to exactly one living member, and its positions stay."""

import asyncio

import pytest
from bus_under_test import create, eventually, to

from shotbus.broker.bus.base import TopicPartition

PARTITIONS = 6


class Holder:
    """A member that records what it holds by its callbacks alone."""

    def __init__(self, shared):
        self.holds = set()
        self._shared = shared

    async def on_assigned(self, partitions):
        assert not partitions & self._shared, "a partition was given to two members"
        self._shared |= partitions
        self.holds |= partitions

    async def on_revoked(self, partitions):
        assert partitions <= self.holds
        await asyncio.sleep(0.02)  # a successor that does not wait for us is caught by on_assigned
        self.holds -= partitions
        self._shared -= partitions


@pytest.fixture
async def join(bus_factory, prefix):
    """Join the group from an instance of its own; returns the bus, the membership and the holder."""
    shared, created = set(), []

    async def join():
        bus = await bus_factory()
        if not created:
            created.append(await create(bus, f"{prefix}shards", PARTITIONS))
        holder = Holder(shared)
        membership = await bus.join(
            f"{prefix}g", f"{prefix}shards", on_assigned=holder.on_assigned, on_revoked=holder.on_revoked
        )
        return bus, membership, holder

    return join


def shares(*members):
    """Return what each member holds once membership and callbacks agree, else nothing."""
    if any(set(membership.assigned) != holder.holds for _, membership, holder in members):
        return []
    return [sorted(holder.holds) for _, _, holder in members]


def all_dealt_out(*members):
    dealt = sorted(partition for share in shares(*members) for partition in share)
    return dealt == list(range(PARTITIONS))


def evenly(*members):
    sizes = [len(share) for share in shares(*members)]
    return all_dealt_out(*members) and max(sizes) - min(sizes) <= 1


async def test_the_only_member_holds_everything(join):
    member = await join()
    await eventually(lambda: all_dealt_out(member))
    assert member[1].assigned == frozenset(range(PARTITIONS))


async def test_members_share_evenly_and_rebalance_on_join_and_leave(join):
    first = await join()
    await eventually(lambda: all_dealt_out(first))
    second = await join()
    await eventually(lambda: evenly(first, second))
    third = await join()
    await eventually(lambda: evenly(first, second, third))
    await second[1].leave()
    assert second[2].holds == set()
    await eventually(lambda: evenly(first, third))


async def test_closing_the_bus_leaves_the_group(join):
    first, second = await join(), await join()
    await eventually(lambda: evenly(first, second))
    await second[0].close()
    assert second[2].holds == set()
    await eventually(lambda: all_dealt_out(first))


async def test_more_members_than_partitions_is_allowed(join):
    members = [await join() for _ in range(PARTITIONS + 1)]
    await eventually(lambda: evenly(*members))


async def test_groups_do_not_know_each_other(bus, prefix, join):
    first = await join()
    other = Holder(set())
    await bus.join(
        f"{prefix}other", f"{prefix}shards", on_assigned=other.on_assigned, on_revoked=other.on_revoked
    )
    await eventually(lambda: all_dealt_out(first) and other.holds == set(range(PARTITIONS)))


async def test_leaving_twice_is_leaving_once(join):
    _, membership, holder = member = await join()
    await eventually(lambda: all_dealt_out(member))
    await membership.leave()
    await membership.leave()
    assert holder.holds == set()
    assert membership.assigned == frozenset()


async def test_committed_positions_are_the_groups_and_survive_its_members(join, prefix):
    bus, membership, _ = await join()
    (inputs,) = await create(bus, f"{prefix}input")
    await bus.publish([to(inputs, b"v")] * 20)
    shard = TopicPartition(f"{prefix}shards", 2)
    await membership.commit({inputs: 7, shard: 0})
    await membership.commit({inputs: 11})
    await bus.close()
    _, successor, _ = await join()
    unknown = (
        TopicPartition(f"{prefix}input", 0) if inputs.partition else TopicPartition(f"{prefix}shards", 3)
    )
    assert await successor.committed([inputs, shard, unknown]) == {inputs: 11, shard: 0}


async def test_whoever_looks_from_outside_reads_positions_and_counts_members(bus, join, prefix):
    first = await join()
    shard = TopicPartition(f"{prefix}shards", 1)
    await first[1].commit({shard: 0})
    assert await bus.committed(f"{prefix}g", [shard, shard._replace(partition=2)]) == {shard: 0}
    assert await bus.members(f"{prefix}g", f"{prefix}shards") == 1
    second = await join()
    await eventually(lambda: evenly(first, second))
    assert await bus.members(f"{prefix}g", f"{prefix}shards") == 2
    await asyncio.gather(first[1].leave(), second[1].leave())
    assert await bus.members(f"{prefix}g", f"{prefix}shards") == 0
    assert await bus.committed(f"{prefix}g", [shard]) == {shard: 0}


async def test_a_group_that_never_was_has_no_members_and_no_positions(bus, prefix):
    (shard,) = await create(bus, f"{prefix}shards")
    assert await bus.members(f"{prefix}nobody", f"{prefix}shards") == 0
    assert await bus.committed(f"{prefix}nobody", [shard]) == {}
    assert await bus.committed(f"{prefix}nobody", []) == {}
