"""Conformance: what is published is what is kept, in order, and what cannot be kept is refused as a whole."""

import asyncio
import itertools
import time

import pytest
from bus_under_test import create, read_all, to, values

from shotbus.broker.bus.base import (
    BusError,
    Outgoing,
    RecordTooLargeError,
    TopicPartition,
    TopicSpec,
    UnknownTopicError,
)


async def test_capabilities_are_declared(bus, bus_kind):
    assert bus.capabilities.name == bus_kind
    assert bus.capabilities.multi_process or not bus.capabilities.multi_host


async def test_topics_are_created_once_and_listed(bus, prefix):
    specs = [TopicSpec(f"{prefix}a", 3), TopicSpec(f"{prefix}b", 1, "compact")]
    await bus.create_topics(specs)
    await bus.create_topics(specs)
    listed = {name: count for name, count in (await bus.topics()).items() if name.startswith(prefix)}
    assert listed == {f"{prefix}a": 3, f"{prefix}b": 1}


async def test_another_partition_count_is_refused(bus, prefix):
    await create(bus, f"{prefix}a", 2)
    with pytest.raises(BusError):
        await bus.create_topics([TopicSpec(f"{prefix}a", 3)])
    assert (await bus.topics())[f"{prefix}a"] == 2


async def test_topics_are_known_to_other_instances(bus_factory, prefix):
    first, second = await bus_factory(), await bus_factory()
    (partition,) = await create(first, f"{prefix}a")
    assert len(await second.publish([to(partition, b"1")])) == 1


async def test_publish_returns_rising_offsets_of_what_is_read(bus, prefix):
    first, second = await create(bus, f"{prefix}a", 2)
    offsets = await bus.publish([to(first, b"0"), to(second, b"1"), to(first, b"2")])
    read = {record.value: record.offset for record in await read_all(bus, [first, second])}
    assert offsets == [read[b"0"], read[b"1"], read[b"2"]]
    assert offsets[0] < offsets[2]


async def test_publishing_nothing_is_allowed(bus):
    assert await bus.publish([]) == []


async def test_order_is_kept_within_a_call_and_between_calls(bus, prefix):
    (partition,) = await create(bus, f"{prefix}a")
    for start in range(0, 300, 30):
        await bus.publish([to(partition, b"%d" % number) for number in range(start, start + 30)])
    assert values(await read_all(bus, [partition])) == [b"%d" % number for number in range(300)]


async def test_concurrent_publishes_all_arrive_each_in_its_own_order(bus, prefix):
    partitions = await create(bus, f"{prefix}a", 3)

    async def publish(source):
        for number in range(10):
            await bus.publish([to(partition, b"%d" % number, key=b"%d" % source) for partition in partitions])

    await asyncio.gather(*[publish(source) for source in range(20)])
    records = sorted(await read_all(bus, partitions), key=lambda record: (record.partition, record.key))
    runs = itertools.groupby(records, key=lambda record: (record.partition, record.key))
    assert [values(run) for _, run in runs] == [[b"%d" % number for number in range(10)]] * 60


async def test_published_records_survive_their_writer(bus_factory, prefix, bus):
    (partition,) = await create(bus, f"{prefix}a")
    await bus.publish([to(partition, b"kept")])
    await bus.close()
    assert values(await read_all(await bus_factory(), [partition])) == [b"kept"]


@pytest.mark.parametrize("key", [b"", b"\x00\xff", b"k"])
@pytest.mark.parametrize("value", [None, b"", bytes(range(256))])
async def test_keys_and_values_come_back_byte_for_byte(bus, prefix, key, value):
    (partition,) = await create(bus, f"{prefix}a")
    await bus.publish([to(partition, value, key=key), to(partition, value, key=None)])
    records = await read_all(bus, [partition])
    assert [(record.key, record.value) for record in records] == [(key, value), (None, value)]


async def test_headers_come_back_in_order_with_duplicates(bus, prefix):
    (partition,) = await create(bus, f"{prefix}a")
    headers = (
        ("traceparent", b"00-\xff"),
        ("empty", b""),
        ("twice", b"1"),
        ("twice", b"2"),
        ("ключ", b"\x00"),
    )
    await bus.publish([to(partition, b"v", headers=headers), to(partition, b"w")])
    assert [record.headers for record in await read_all(bus, [partition])] == [headers, ()]


async def test_records_carry_the_wall_time_of_their_writing(bus, prefix):
    (partition,) = await create(bus, f"{prefix}a")
    before = time.time() * 1000
    await bus.publish([to(partition, b"v")])
    (record,) = await read_all(bus, [partition])
    assert before - 1 <= record.timestamp_ms <= time.time() * 1000 + 1
    assert isinstance(record.timestamp_ms, int)


async def test_too_large_a_record_is_refused_and_nothing_of_the_call_written(bus, prefix):
    (partition,) = await create(bus, f"{prefix}a", max_record_bytes=10_000)
    with pytest.raises(RecordTooLargeError):
        await bus.publish([to(partition, b"small"), to(partition, bytes(10_001))])
    await bus.publish([to(partition, bytes(9_000))])
    assert values(await read_all(bus, [partition])) == [bytes(9_000)]


async def test_the_default_limit_is_a_mebibyte(bus, prefix):
    (partition,) = await create(bus, f"{prefix}a")
    await bus.publish([to(partition, bytes(1_000_000))])
    with pytest.raises(RecordTooLargeError):
        await bus.publish([to(partition, bytes(1_048_577))])
    assert [len(record.value) for record in await read_all(bus, [partition])] == [1_000_000]


async def test_unknown_topics_and_partitions_are_refused_by_every_verb(bus, prefix):
    (partition,) = await create(bus, f"{prefix}a")
    for unknown in (TopicPartition(f"{prefix}nowhere", 0), TopicPartition(f"{prefix}a", 1)):
        with pytest.raises(UnknownTopicError):
            await bus.publish([to(partition, b"1"), Outgoing(*unknown, None, b"2")])
        with pytest.raises(UnknownTopicError):
            await bus.ends([unknown])
        with pytest.raises(UnknownTopicError):
            await bus.begins([unknown])
        with pytest.raises(UnknownTopicError):
            await bus.offset_at(unknown, 0)
    assert await read_all(bus, [partition]) == []


async def test_a_compacted_topic_restores_the_last_value_of_each_key(bus, prefix):
    (partition,) = await create(bus, f"{prefix}a", cleanup="compact")
    for step in range(20):
        rows = [to(partition, b"%d" % step, key=b"%d" % key) for key in range(50)]
        await bus.publish(rows if step < 19 else [to(partition, None, key=b"0"), *rows[1:]])
    last = {record.key: record.value for record in await read_all(bus, [partition])}
    assert last.pop(b"0", None) is None
    assert last == {b"%d" % key: b"19" for key in range(1, 50)}


async def test_a_compacted_topic_refuses_a_record_without_key(bus, prefix):
    (partition,) = await create(bus, f"{prefix}a", cleanup="compact")
    with pytest.raises(BusError):
        await bus.publish([to(partition, b"v", key=None)])
    await bus.publish([to(partition, b"v", key=b"k")])
    assert values(await read_all(bus, [partition])) == [b"v"]


async def test_a_closed_bus_refuses_politely(bus, prefix):
    (partition,) = await create(bus, f"{prefix}a")
    await bus.close()
    await bus.close()
    with pytest.raises(BusError):
        await bus.publish([to(partition, b"v")])
