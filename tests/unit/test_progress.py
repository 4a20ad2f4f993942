"""How far the projector is, from outside: waited for while there is one, told when it does not get there."""

import asyncio
import time

import pytest

from shotbus.broker.bus.base import Outgoing, TopicPartition
from shotbus.broker.bus.memory import MemoryBus
from shotbus.broker.topics import Topics
from shotbus.reducers.progress import progress

TOPICS = Topics(partitions=2)
EVENTS = TopicPartition(TOPICS.name("events"), 1)
LONG = 60.0


@pytest.fixture
async def bus():
    bus = MemoryBus()
    await bus.start()
    await bus.create_topics(TOPICS.specs(()))
    await bus.publish([Outgoing(*EVENTS, b"k", b"event")] * 3)
    yield bus
    await bus.close()


async def joined(bus):
    async def note(_):
        pass

    name = TOPICS.name("projector")
    return await bus.join(name, TOPICS.name("shards"), on_assigned=note, on_revoked=note)


async def test_where_no_projector_runs_nobody_is_waited_for(bus):
    made = await progress(bus, TOPICS, timeout=LONG)
    assert (made.members, made.behind, made.positions[EVENTS]) == (0, {EVENTS: 3}, 0)
    assert made.told() == "3 offsets of shotbus.events are not in the read models yet: no projector runs"


async def test_what_a_projector_has_recorded_before_it_ended_is_known(bus):
    member = await joined(bus)
    await member.commit({EVENTS: 3})
    await member.leave()
    made = await progress(bus, TOPICS, timeout=LONG)
    assert (made.behind, made.told()) == ({}, "")


async def test_a_projector_that_is_behind_is_waited_for(bus):
    member = await joined(bus)
    asking = asyncio.create_task(progress(bus, TOPICS, timeout=LONG))
    await member.commit({EVENTS: 2})
    assert not (await asyncio.wait([asking], timeout=0.3))[0]
    await member.commit({EVENTS: 3})
    assert (await asking).behind == {}


async def test_the_wait_is_for_the_ends_of_its_beginning_and_they_bound_what_is_compared(bus):
    member = await joined(bus)
    asking = asyncio.create_task(progress(bus, TOPICS, timeout=LONG))
    await asyncio.wait([asking], timeout=0.05)
    await bus.publish([Outgoing(*EVENTS, b"k", b"later")] * 5)
    await member.commit({EVENTS: 7})
    made = await asking
    assert (made.behind, made.positions[EVENTS]) == ({}, 3)


async def test_a_projector_that_does_not_get_there_is_told_in_time(bus):
    member = await joined(bus)
    await member.commit({EVENTS: 1})
    began = time.monotonic()
    made = await progress(bus, TOPICS, timeout=0.2)
    assert time.monotonic() - began < LONG / 2
    assert (made.members, made.positions[EVENTS], made.behind) == (1, 1, {EVENTS: 2})
    assert made.told().endswith("the projector is behind")


async def test_what_was_deleted_before_it_was_read_is_not_missing(bus):
    await bus.trim({EVENTS: 2})
    assert (await progress(bus, TOPICS, timeout=LONG)).behind == {EVENTS: 1}


async def test_where_nothing_is_yet_nothing_is_behind():
    bus = MemoryBus()
    await bus.start()
    assert (await progress(bus, TOPICS, timeout=LONG)).behind == {}
    await bus.close()
