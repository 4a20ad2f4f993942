"""Conformance: readers see everything committed, once, in order, and never step over what was deleted."""

import asyncio
import time

import pytest
from bus_under_test import create, eventually, poll_until, read_all, to, values

from shotbus.broker.bus.base import BusError, OffsetGapError


async def publish_numbers(bus, partition, count, start=0):
    await bus.publish([to(partition, b"%d" % number) for number in range(start, start + count)])


async def test_replay_goes_over_into_tailing(bus, prefix):
    (partition,) = await create(bus, f"{prefix}a")
    await publish_numbers(bus, partition, 5)
    reader = bus.reader({partition: 0})
    replayed = await poll_until(reader, 5)
    await publish_numbers(bus, partition, 5, start=5)
    tail = await poll_until(reader, 5)
    assert values(replayed + tail) == [b"%d" % number for number in range(10)]


async def test_a_reader_at_the_end_sees_only_what_comes(bus, prefix):
    (partition,) = await create(bus, f"{prefix}a")
    await publish_numbers(bus, partition, 3)
    reader = bus.reader(await bus.ends([partition]))
    assert await reader.poll(max_records=10, timeout=0.05) == []
    await publish_numbers(bus, partition, 1, start=3)
    assert values(await poll_until(reader, 1)) == [b"3"]


async def test_a_waiting_poll_is_woken_by_another_instance(bus_factory, prefix):
    writer, other = await bus_factory(), await bus_factory()
    (partition,) = await create(writer, f"{prefix}a")
    waiting = asyncio.create_task(other.reader({partition: 0}).poll(max_records=1, timeout=30))
    await asyncio.sleep(0.2)
    await publish_numbers(writer, partition, 1)
    assert values(await waiting) == [b"0"]


async def test_an_empty_poll_returns_after_its_timeout(bus, prefix):
    (partition,) = await create(bus, f"{prefix}a")
    reader = bus.reader({partition: 0})
    began = time.monotonic()
    assert await reader.poll(max_records=1, timeout=0.2) == []
    assert 0.15 < time.monotonic() - began < 10
    assert reader.position(partition) == 0


async def test_what_was_published_before_is_there_without_waiting_long(bus_factory, prefix):
    writer, other = await bus_factory(), await bus_factory()
    (partition,) = await create(writer, f"{prefix}a")
    reader = other.reader({partition: 0})
    assert await reader.poll(max_records=10, timeout=0) == []
    await publish_numbers(writer, partition, 3)
    assert values(await poll_until(reader, 3)) == [b"0", b"1", b"2"]


async def test_max_records_bounds_a_poll_and_loses_nothing(bus, prefix):
    partitions = await create(bus, f"{prefix}a", 2)
    for partition in partitions:
        await publish_numbers(bus, partition, 10)
    reader, records = bus.reader(dict.fromkeys(partitions, 0)), []
    while len(records) < 20:
        got = await reader.poll(max_records=3, timeout=5)
        assert 0 < len(got) <= 3
        records += got
    for partition in partitions:
        mine = [record.value for record in records if record.partition == partition.partition]
        assert mine == [b"%d" % number for number in range(10)]


async def test_only_restricts_one_poll_and_loses_nothing_of_the_others(bus, prefix):
    left, right = await create(bus, f"{prefix}a", 2)
    reader = bus.reader({left: 0, right: 0})
    await bus.publish([to(left, b"l0"), to(right, b"r0"), to(left, b"l1"), to(right, b"r1")])
    assert values(await poll_until(reader, 2, only=[right])) == [b"r0", b"r1"]
    assert reader.position(left) == 0
    assert await reader.poll(max_records=10, timeout=0.05, only=[right]) == []
    assert values(await poll_until(reader, 2)) == [b"l0", b"l1"]


async def test_a_busy_partition_does_not_hide_the_others(bus, prefix):
    busy, quiet = await create(bus, f"{prefix}a", 2)
    await publish_numbers(bus, busy, 1000)
    await bus.publish([to(quiet, b"quiet")])
    reader, seen = bus.reader({busy: 0, quiet: 0}), []
    for _ in range(20):
        seen += values(await reader.poll(max_records=40, timeout=5))
    assert b"quiet" in seen


async def test_seek_moves_forth_and_back(bus, prefix):
    (partition,) = await create(bus, f"{prefix}a")
    await publish_numbers(bus, partition, 10)
    offsets = [record.offset for record in await read_all(bus, [partition])]
    reader = bus.reader({partition: offsets[7]})
    assert values(await poll_until(reader, 3)) == [b"7", b"8", b"9"]
    reader.seek(partition, offsets[2])
    assert reader.position(partition) == offsets[2]
    assert values(await poll_until(reader, 8)) == [b"%d" % number for number in range(2, 10)]


async def test_the_position_is_behind_the_last_record_returned(bus, prefix):
    (partition,) = await create(bus, f"{prefix}a")
    await publish_numbers(bus, partition, 10)
    reader, got = bus.reader({partition: 0}), []
    while len(got) < 4:
        got += await reader.poll(max_records=4 - len(got), timeout=5)
    assert reader.position(partition) == got[-1].offset + 1


async def test_readers_of_one_instance_are_independent(bus, prefix):
    (partition,) = await create(bus, f"{prefix}a")
    await publish_numbers(bus, partition, 3)
    first, second = bus.reader({partition: 0}), bus.reader({partition: 0})
    assert values(await poll_until(first, 3)) == values(await poll_until(second, 3))


async def test_trim_moves_the_begin_and_reading_below_is_an_error(bus, prefix):
    (partition,) = await create(bus, f"{prefix}a", cleanup="trim")
    await publish_numbers(bus, partition, 10)
    offsets = [record.offset for record in await read_all(bus, [partition])]
    await bus.trim({partition: offsets[6]})
    assert await bus.begins([partition]) == {partition: offsets[6]}
    with pytest.raises(OffsetGapError):
        await bus.reader({partition: offsets[5]}).poll(max_records=10, timeout=5)
    reader = bus.reader({partition: offsets[6]})
    assert values(await poll_until(reader, 4)) == [b"6", b"7", b"8", b"9"]


async def read_for_ever(reader, got):
    """Read until an error ends it; what came before is in ``got``."""
    while True:
        got += await reader.poll(max_records=10, timeout=5)


async def test_a_gap_in_one_partition_loses_nothing_of_the_others(bus, prefix):
    first, second = await create(bus, f"{prefix}a", partitions=2, cleanup="trim")
    await publish_numbers(bus, first, 5)
    await publish_numbers(bus, second, 5)
    reader = bus.reader({first: 0, second: 0})
    await bus.trim({second: 3})
    got = []
    for _ in range(2):
        with pytest.raises(OffsetGapError):
            await read_for_ever(reader, got)
        reader.seek(second, reader.position(second))
    reader.seek(second, 3)
    got += await poll_until(reader, 7 - len(got))
    assert values(one for one in got if one.partition == first.partition) == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_trim_of_everything_keeps_the_offsets_going(bus_factory, prefix):
    bus = await bus_factory()
    (partition,) = await create(bus, f"{prefix}a", cleanup="trim")
    await publish_numbers(bus, partition, 10)
    ends = await bus.ends([partition])
    await bus.trim(ends)
    other = await bus_factory()
    assert await other.begins([partition]) == await other.ends([partition]) == ends
    (offset,) = await other.publish([to(partition, b"next")])
    assert offset >= ends[partition]
    assert values(await read_all(other, [partition])) == [b"next"]


async def test_a_position_behind_the_end_is_an_error(bus, prefix):
    (partition,) = await create(bus, f"{prefix}a")
    await publish_numbers(bus, partition, 3)
    with pytest.raises(OffsetGapError):
        await bus.reader({partition: 1_000}).poll(max_records=10, timeout=5)


async def test_offset_at_finds_the_first_record_not_older(bus, prefix):
    (partition,) = await create(bus, f"{prefix}a")
    for number in range(5):
        await publish_numbers(bus, partition, 1, start=number)
        await asyncio.sleep(0.005)
    records = await read_all(bus, [partition])
    for record in records:
        first = next(r.offset for r in records if r.timestamp_ms >= record.timestamp_ms)
        assert await bus.offset_at(partition, record.timestamp_ms) == first
    assert await bus.offset_at(partition, 0) == records[0].offset
    later = records[-1].timestamp_ms + 60_000
    assert await bus.offset_at(partition, later) == (await bus.ends([partition]))[partition]


async def test_closing_a_reader_ends_its_waiting_poll(bus, prefix):
    (partition,) = await create(bus, f"{prefix}a")
    reader = bus.reader({partition: 0})
    waiting = asyncio.create_task(reader.poll(max_records=1, timeout=30))
    await asyncio.sleep(0.05)
    await reader.close()
    await eventually(waiting.done)
    assert isinstance(waiting.exception(), BusError)


async def test_a_poll_that_is_cancelled_at_any_moment_loses_nothing(bus, prefix):
    (partition,) = await create(bus, f"{prefix}a")
    reader = bus.reader({partition: 0})
    sent, found = [], []
    for number in range(40):
        sent.append(b"%d" % number)
        publishing = asyncio.ensure_future(bus.publish([to(partition, sent[-1])]))
        polling = asyncio.ensure_future(reader.poll(max_records=10, timeout=1))
        await asyncio.sleep(number % 8 * 0.0005)
        polling.cancel()
        found += [
            one for one in await asyncio.gather(polling, return_exceptions=True) if isinstance(one, list)
        ]
        await publishing
    got = [record for records in found for record in records]
    got += await poll_until(reader, len(sent) - len(got)) if len(got) < len(sent) else []
    assert values(got) == sent
