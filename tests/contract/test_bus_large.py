"""Conformance: a partition with a million records is written and read back whole."""

import asyncio

from bus_under_test import create, read_all, to

RECORDS = 1_000_000
BATCH = 5_000


async def test_a_million_records_come_back_in_order(bus, prefix):
    (partition,) = await create(bus, f"{prefix}a")
    for start in range(0, RECORDS, BATCH):
        await bus.publish([to(partition, b"%d" % number, key=None) for number in range(start, start + BATCH)])
    reader, count, last = bus.reader({partition: 0}), 0, -1
    end = (await bus.ends([partition]))[partition]
    async with asyncio.timeout(60):
        while reader.position(partition) < end:
            for record in await reader.poll(max_records=20_000, timeout=1):
                assert (record.value, record.offset > last) == (b"%d" % count, True)
                count, last = count + 1, record.offset
    assert count == RECORDS
    assert reader.position(partition) == end > last


async def test_large_records_pass_in_bulk(bus, prefix):
    (partition,) = await create(bus, f"{prefix}a")
    sizes = [200_000 + number for number in range(120)]
    for start in range(0, 120, 20):
        await bus.publish([to(partition, bytes(size)) for size in sizes[start : start + 20]])
    assert [len(record.value) for record in await read_all(bus, [partition])] == sizes
