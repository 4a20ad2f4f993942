"""Reading what a bus keeps now: to which end, past markers of commits, and while records are deleted."""

import pytest

from shotbus.broker.bus.base import OffsetGapError, Outgoing, TopicPartition, TopicSpec
from shotbus.broker.bus.memory import MemoryBus
from shotbus.broker.bus.scan import any_between, despite_deletions, scan

LOG = TopicPartition("log", 0)


@pytest.fixture
async def bus():
    bus = MemoryBus()
    await bus.start()
    await bus.create_topics([TopicSpec("log", 1, "trim")])
    yield bus
    await bus.close()


async def put(bus, count):
    return await bus.publish([Outgoing(*LOG, None, b"v")] * count)


async def offsets(bus, start, **how):
    return [record.offset async for batch in scan(bus, {LOG: start}, **how) for record in batch]


async def test_records_behind_the_ends_that_were_given_are_not_read(bus):
    await put(bus, 5)
    assert await offsets(bus, 1, ends={LOG: 3}) == [1, 2]
    assert await offsets(bus, 1) == [1, 2, 3, 4]


async def test_the_marker_of_a_commit_is_no_record(bus):
    writer = await bus.fence("s")
    await writer.commit([Outgoing(*LOG, None, b"v")])
    end = (await bus.ends([LOG]))[LOG]
    assert end > 1
    assert await any_between(bus, LOG, 0, end)
    assert not await any_between(bus, LOG, 1, end)


async def test_what_was_deleted_meanwhile_is_not_between(bus):
    await put(bus, 5)
    await bus.trim({LOG: 5})
    assert not await any_between(bus, LOG, 1, 5)


async def test_a_reading_begins_anew_when_records_go_before_it_comes_to_them(bus):
    await put(bus, 3)
    begun = []

    async def read():
        begins = await bus.begins([LOG])
        begun.append(begins[LOG])
        if begins[LOG] < 2:
            await bus.trim({LOG: begins[LOG] + 1})
        return await offsets(bus, begins[LOG])

    assert await despite_deletions(read) == [2]
    assert begun == [0, 1, 2]


async def test_who_deletes_faster_than_can_be_read_is_told(bus):
    async def read():
        (offset,) = await put(bus, 1)
        await bus.trim({LOG: offset + 1})
        return await offsets(bus, offset)

    with pytest.raises(OffsetGapError):
        await despite_deletions(read)
