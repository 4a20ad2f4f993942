"""What only the Kafka bus has to bear, beside the conformance suite: its topics, its latency, its open transactions."""

import asyncio
import statistics
import time
import uuid

import pytest

from shotbus.broker.bus.base import (
    BusError,
    CommitUnknownError,
    Outgoing,
    RecordTooLargeError,
    TopicPartition,
    TopicSpec,
)
from shotbus.broker.bus.kafka import KafkaBus, KafkaSettings
from shotbus.broker.bus.kafka_topics import topic_configs
from shotbus.deploy.services.process import free_port

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("sockets_closed")]


@pytest.fixture
async def bus(kafka_address):
    bus = KafkaBus(KafkaSettings(bootstrap=kafka_address))
    await bus.start()
    yield bus
    await bus.close()


@pytest.fixture
def prefix():
    return f"k{uuid.uuid4().hex}."


async def read_to_end(bus, partition, start=0):
    """Read everything that is committed now."""
    reader, end = bus.reader({partition: start}), (await bus.ends([partition]))[partition]
    records = []
    while reader.position(partition) < end:
        records += await reader.poll(max_records=500, timeout=5)
    await reader.close()
    return records


def test_ledger_topics_are_compacted_soon_and_in_small_steps():
    configs = topic_configs(TopicSpec("t", 1, "compact"), replication_factor=1)
    assert configs["cleanup.policy"] == "compact"
    assert configs["segment.bytes"] == str(64 * 1024 * 1024)
    assert configs["min.cleanable.dirty.ratio"] == "0.1"
    assert configs["max.compaction.lag.ms"] == "600000"


def test_trimmed_topics_have_no_retention_of_their_own():
    configs = topic_configs(TopicSpec("t", 1, "trim"), replication_factor=1)
    assert configs["cleanup.policy"] == "delete"
    assert (configs["retention.ms"], configs["retention.bytes"]) == ("-1", "-1")


def test_replicated_topics_ack_with_two_copies():
    assert topic_configs(TopicSpec("t", 1), replication_factor=3)["min.insync.replicas"] == "2"
    assert "min.insync.replicas" not in topic_configs(TopicSpec("t", 1), replication_factor=1)


async def test_record_limit_is_known_to_a_process_that_did_not_declare_the_topic(bus, prefix, kafka_address):
    topic = f"{prefix}small"
    await bus.create_topics([TopicSpec(topic, 1, max_record_bytes=1000)])
    other = KafkaBus(KafkaSettings(bootstrap=kafka_address))
    await other.start()
    with pytest.raises(RecordTooLargeError, match="1001 bytes"):
        await other.publish([Outgoing(topic, 0, None, b"fits"), Outgoing(topic, 0, None, bytes(1001))])
    assert await other.publish([Outgoing(topic, 0, None, bytes(1000))]) == [0]
    await other.close()


async def test_records_larger_than_a_batch_and_batches_of_many_large_records_pass(bus, prefix):
    topic, size = f"{prefix}large", 4 * 1024 * 1024
    await bus.create_topics([TopicSpec(topic, 1, max_record_bytes=size)])
    await bus.publish([Outgoing(topic, 0, None, bytes([n]) * 200_000) for n in range(8)])
    writer = await bus.fence(f"{prefix}shard")
    await writer.commit([Outgoing(topic, 0, None, bytes([n]) * 200_000) for n in range(8)])
    await writer.commit([Outgoing(topic, 0, None, bytes(size))])
    records = await read_to_end(bus, TopicPartition(topic, 0))
    assert [record.value[0] for record in records] == [*range(8), *range(8), 0]
    assert len(records[-1].value) == size


async def test_start_says_what_to_check_when_nobody_listens():
    address = f"127.0.0.1:{free_port()}"
    bus = KafkaBus(KafkaSettings(bootstrap=address))
    with pytest.raises(BusError, match=f"cannot reach Kafka as PLAINTEXT; check address.*{address}"):
        await bus.start()
    await bus.close()


async def test_verbs_before_start_and_after_close_are_bus_errors(kafka_address, prefix):
    bus = KafkaBus(KafkaSettings(bootstrap=kafka_address))
    with pytest.raises(BusError, match="not started, or closed"):
        await bus.topics()
    await bus.start()
    await bus.close()
    with pytest.raises(BusError, match="not started, or closed"):
        await bus.publish([Outgoing(f"{prefix}none", 0, None, b"x")])


async def test_open_transaction_of_a_dead_writer_stops_hiding_records_when_its_shard_is_taken(bus, prefix):
    topic = f"{prefix}open"
    partition = TopicPartition(topic, 0)
    await bus.create_topics([TopicSpec(topic, 1)])
    dead = await bus.fence(f"{prefix}shard")
    rounds = dead._pack([Outgoing(topic, 0, None, b"never committed")])
    await dead._enlist(list(rounds[0]))
    from shotbus.broker.bus.kafka_appender import append

    await append(dead._link, f"{prefix}shard", rounds[0])
    await bus.publish([Outgoing(topic, 0, None, b"behind it")])
    assert (await bus.ends([partition]))[partition] == 0
    await bus.fence(f"{prefix}shard")
    assert [record.value for record in await read_to_end(bus, partition)] == [b"behind it"]


async def test_commit_is_counted_by_ends_at_once(bus, prefix):
    topic = f"{prefix}ends"
    partition = TopicPartition(topic, 0)
    await bus.create_topics([TopicSpec(topic, 1)])
    writer = await bus.fence(f"{prefix}shard")
    for expected in range(2, 62, 2):
        # One record and one marker.
        await writer.commit([Outgoing(topic, 0, None, b"x")])
        assert (await bus.ends([partition]))[partition] == expected


async def test_cancelled_commit_leaves_the_writer_spent_and_the_shard_free(bus, prefix):
    topic = f"{prefix}cancel"
    await bus.create_topics([TopicSpec(topic, 1)])
    writer = await bus.fence(f"{prefix}shard")
    commit = asyncio.create_task(writer.commit([Outgoing(topic, 0, None, b"maybe")]))
    await asyncio.sleep(0)
    commit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit
    with pytest.raises(CommitUnknownError):
        await writer.commit([Outgoing(topic, 0, None, b"no")])
    successor = await bus.fence(f"{prefix}shard")
    await successor.commit([Outgoing(topic, 0, None, b"next")])
    assert (await read_to_end(bus, TopicPartition(topic, 0)))[-1].value == b"next"


async def test_second_commit_at_the_same_time_is_refused(bus, prefix):
    topic = f"{prefix}shared"
    await bus.create_topics([TopicSpec(topic, 1)])
    writer = await bus.fence(f"{prefix}shard")
    first = asyncio.create_task(writer.commit([Outgoing(topic, 0, None, b"one")]))
    await asyncio.sleep(0)
    with pytest.raises(BusError, match="belongs to one task"):
        await writer.commit([Outgoing(topic, 0, None, b"two")])
    await first
    await writer.commit([Outgoing(topic, 0, None, b"three")])


@pytest.mark.parametrize("undrained", [False, True], ids=["alone", "next to an undrained backlog"])
async def test_request_and_reply_over_one_reader_take_milliseconds(bus, prefix, undrained):
    topic = f"{prefix}pingpong"
    await bus.create_topics([TopicSpec(topic, 3)])
    backlog, ping, pong = (TopicPartition(topic, number) for number in range(3))
    await bus.publish([Outgoing(topic, 0, None, bytes(1000)) for _ in range(3000)])
    reader = bus.reader({backlog: 0, ping: 0, pong: 0})
    seconds = []
    for number in range(30):
        if undrained:
            assert len(await reader.poll(max_records=5, timeout=5, only=[backlog])) == 5
        begin = time.monotonic()
        for partition in (ping, pong):
            await bus.publish([Outgoing(topic, partition.partition, None, b"%d" % number)])
            [record] = await reader.poll(max_records=10, timeout=5, only=[ping, pong])
            assert (record.partition, record.value) == (partition.partition, b"%d" % number)
        seconds.append(time.monotonic() - begin)
    # aiokafka's own consumer needs 100 to 500 ms here.
    assert statistics.median(seconds) < 0.06


async def test_idle_reader_costs_next_to_nothing(bus, prefix):
    topic = f"{prefix}idle"
    await bus.create_topics([TopicSpec(topic, 4)])
    reader = bus.reader({TopicPartition(topic, number): 0 for number in range(4)})
    await reader.poll(max_records=1, timeout=0.1)
    begin = time.process_time()
    for _ in range(4):
        assert await reader.poll(max_records=1, timeout=0.5) == []
    assert time.process_time() - begin < 0.1


async def test_exception_in_a_membership_callback_comes_to_light(bus, prefix, caplog):
    topic = f"{prefix}shards"
    await bus.create_topics([TopicSpec(topic, 1)])

    async def broken(shards):
        raise LookupError("no runner for this shard")

    async def quiet(shards):
        pass

    membership = await bus.join(f"{prefix}group", topic, on_assigned=broken, on_revoked=quiet)
    assert "no runner for this shard" in caplog.text
    with pytest.raises(BusError, match="no runner for this shard"):
        await membership.commit({TopicPartition(topic, 0): 1})
    await membership.leave()


@pytest.mark.parametrize(
    "changes",
    [
        {"security_protocol": "SASL_SSL"},
        {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "u"},
        {"sasl_mechanism": "PLAIN", "sasl_username": "u", "sasl_password": "p"},
        {"security_protocol": "TLS"},
    ],
)
def test_settings_that_cannot_work_are_refused(changes):
    with pytest.raises(ValueError, match="sasl|SASL|security_protocol"):
        KafkaSettings(bootstrap="127.0.0.1:9092", **changes)
