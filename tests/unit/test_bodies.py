"""Requests by reference: found again whatever waits between, in any order, with bounded memory."""

import pytest
from shard_kit import Plant

from shotbus.broker.bus.base import BusError, Outgoing, TopicPartition
from shotbus.broker.dispatcher.bodies import Bodies
from shotbus.broker.dispatcher.job import Reference

PLACE = TopicPartition("out", 0)


class Counted:
    """A bus that counts what is read from it."""

    def __init__(self, bus):
        self.bus, self.polls = bus, 0

    def reader(self, positions):
        reader = self.bus.reader(positions)
        poll = reader.poll

        async def counted(**options):
            self.polls += 1
            return await poll(**options)

        reader.poll = counted
        return reader


@pytest.fixture
async def world():
    bus = await Plant().bus()
    await bus.publish([Outgoing(*PLACE, b"", b"%d" % number) for number in range(2_000)])
    reader = bus.reader({PLACE: 0})
    records = []
    while len(records) < 2_000:
        records += await reader.poll(max_records=500, timeout=1.0)
    await reader.close()
    return Counted(bus), records


def references(records):
    return [Reference(*record[:3]) for record in records]


async def test_what_was_just_kept_is_not_read_again(world):
    bus, records = world
    bodies = Bodies(bus, [PLACE])
    kept = [bodies.keep(record) for record in records[:10]]
    assert await bodies.fetch(kept) == dict(zip(kept, records[:10], strict=True))
    assert bus.polls == 0


async def test_what_waited_is_read_again_in_runs_and_only_once(world):
    bus, records = world
    bodies = Bodies(bus, [PLACE])
    for start in range(0, 2_000, 50):
        batch = records[start : start + 50]
        assert list((await bodies.fetch(references(batch))).values()) == batch
    assert bus.polls == 4
    await bodies.close()


async def test_tenants_whose_jobs_stand_in_blocks_do_not_cost_a_run_each_time(world):
    bus, records = world
    bodies = Bodies(bus, [PLACE])
    for start in range(0, 500, 50):
        batch = [record for block in range(0, 2_000, 500) for record in records[block + start :][:50]]
        assert list((await bodies.fetch(references(batch))).values()) == batch
    assert bus.polls == 4
    await bodies.close()


async def test_a_deep_backlog_leaves_the_newest_requests_a_part_of_the_room(world):
    bus, records = world
    bodies = Bodies(bus, [PLACE], capacity=500 * 1_600)
    for record in records[:400]:
        bodies.keep(record)
    bodies.expect(400)
    await bodies.fetch(references(records[:400]))
    assert bus.polls == 0
    bodies.expect(10_000)
    await bodies.fetch(references(records[300:400]))
    assert bus.polls == 0
    await bodies.fetch(references(records[:100]))
    assert bus.polls == 1
    await bodies.close()


async def test_a_request_that_is_gone_is_an_error(world):
    bus, records = world
    bodies = Bodies(bus, [PLACE])
    await bus.bus.trim({PLACE: records[10].offset})
    with pytest.raises(BusError):
        await bodies.fetch(references(records[:1]))
    await bodies.close()
