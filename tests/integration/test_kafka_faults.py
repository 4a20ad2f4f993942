"""A Kafka broker that dies, comes back, or stands still: the bus waits, heals, and says when it cannot tell."""

import asyncio
import os
import signal
import uuid

import pytest
from aiokafka.cluster import ClusterMetadata

from shotbus.broker.bus.base import BusError, CommitUnknownError, Outgoing, TopicPartition, TopicSpec
from shotbus.broker.bus.kafka import KafkaBus, KafkaSettings
from shotbus.deploy.services import start_kafka, stop
from shotbus.deploy.services.process import running

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("sockets_closed")]


class OwnKafka:
    """A broker of this module alone, to be killed, stopped and started again on the same port."""

    def __init__(self, folder, jars):
        self.folder, self.jars = folder, jars
        self.address = start_kafka(folder, jars).address

    def start(self):
        start_kafka(self.folder, self.jars, port=int(self.address.rpartition(":")[2]))

    def send(self, number):
        os.kill(running(self.folder, "kafka"), number)

    def kill(self):
        self.send(signal.SIGCONT)
        self.send(signal.SIGKILL)
        stop(self.folder, "kafka")


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory, kafka_jars):
    kafka = OwnKafka(tmp_path_factory.mktemp("faults") / "kafka", kafka_jars)
    yield kafka
    kafka.kill()


@pytest.fixture
async def bus(own_kafka):
    bus = KafkaBus(KafkaSettings(bootstrap=own_kafka.address, transaction_timeout_ms=2000))
    await bus.start()
    yield bus
    await bus.close()


@pytest.fixture
async def topic(bus):
    name = f"f{uuid.uuid4().hex}"
    await bus.create_topics([TopicSpec(name, 2)])
    return name


async def values_to_end(bus, partition):
    reader, end = bus.reader({partition: 0}), (await bus.ends([partition]))[partition]
    values = []
    while reader.position(partition) < end:
        values += [record.value for record in await reader.poll(max_records=500, timeout=5)]
    return values


async def test_publishing_and_reading_and_membership_survive_a_killed_broker(own_kafka, bus, topic):
    held = asyncio.Event()

    async def assigned(shards):
        held.set()

    async def revoked(shards):
        held.clear()

    partition = TopicPartition(topic, 0)
    membership = await bus.join(f"{topic}.g", topic, on_assigned=assigned, on_revoked=revoked)
    reader = bus.reader({partition: 0})
    await bus.publish([Outgoing(topic, 0, None, b"before")])
    assert [record.value for record in await reader.poll(max_records=5, timeout=5)] == [b"before"]
    own_kafka.kill()
    pending = [asyncio.create_task(bus.publish([Outgoing(topic, 0, None, b"%d" % n)])) for n in range(20)]
    await asyncio.to_thread(own_kafka.start)
    offsets = [offset for [offset] in await asyncio.gather(*pending)]
    assert sorted(offsets) == list(range(1, 21))
    values = []
    while len(values) < 20:
        values += [record.value for record in await reader.poll(max_records=50, timeout=5)]
    assert sorted(values, key=int) == [b"%d" % n for n in range(20)]
    await asyncio.wait_for(held.wait(), 20)
    await membership.commit({partition: 21})
    assert await membership.committed([partition]) == {partition: 21}


async def test_writer_commits_again_after_its_broker_came_back(own_kafka, bus, topic):
    writer = await bus.fence(f"{topic}.shard")
    await writer.commit([Outgoing(topic, 0, None, b"before")])
    own_kafka.kill()
    with pytest.raises(CommitUnknownError, match="no answer within 2 s"):
        await writer.commit([Outgoing(topic, 0, None, b"lost")])
    await asyncio.to_thread(own_kafka.start)
    with pytest.raises(CommitUnknownError):
        await writer.commit([Outgoing(topic, 0, None, b"refused: the shard must be taken again")])
    again = await bus.fence(f"{topic}.shard")
    await again.commit([Outgoing(topic, 0, None, b"after")])
    assert await values_to_end(bus, TopicPartition(topic, 0)) == [b"before", b"after"]


async def test_commit_to_a_broker_that_stands_still_has_an_unknown_end_and_nothing_is_doubled(
    own_kafka, bus, topic
):
    writer = await bus.fence(f"{topic}.shard")
    own_kafka.send(signal.SIGSTOP)
    with pytest.raises(CommitUnknownError):
        await writer.commit([Outgoing(topic, 0, None, b"maybe")])
    own_kafka.send(signal.SIGCONT)
    again = await bus.fence(f"{topic}.shard")
    await again.commit([Outgoing(topic, 0, None, b"after")])
    values = await values_to_end(bus, TopicPartition(topic, 0))
    assert values in ([b"after"], [b"maybe", b"after"])


async def test_a_cluster_that_names_no_broker_for_a_moment_is_asked_again(own_kafka, bus, topic, monkeypatch):
    """What a controller says that has fenced its only broker, which stood still for too long."""
    real, empty = ClusterMetadata.update_metadata, iter([True, True])

    def update(cluster, response):
        if next(empty, False):
            response.brokers = []
        real(cluster, response)

    monkeypatch.setattr(ClusterMetadata, "update_metadata", update)
    writer = await bus.fence(f"{topic}.shard")
    await writer.commit([Outgoing(topic, 0, None, b"all the same")])
    assert next(empty, None) is None
    assert await values_to_end(bus, TopicPartition(topic, 0)) == [b"all the same"]


async def test_poll_says_when_no_broker_answers_for_long(own_kafka, bus, topic, monkeypatch):
    monkeypatch.setattr("shotbus.broker.bus.kafka_reader._OUTAGE_SECONDS", 0.5)
    reader = bus.reader({TopicPartition(topic, 0): 0})
    assert await reader.poll(max_records=1, timeout=0.1) == []
    own_kafka.kill()
    with pytest.raises(BusError, match="no broker has answered"):
        await reader.poll(max_records=1, timeout=10)
    await asyncio.to_thread(own_kafka.start)
    await bus.publish([Outgoing(topic, 0, None, b"back")])
    assert [record.value for record in await reader.poll(max_records=1, timeout=10)] == [b"back"]


async def test_closing_the_bus_while_the_broker_is_away_neither_hangs_nor_leaves_callers_waiting(
    own_kafka, topic
):
    bus = KafkaBus(KafkaSettings(bootstrap=own_kafka.address))
    await bus.start()
    await bus.publish([Outgoing(topic, 0, None, b"x")])
    own_kafka.kill()
    pending = asyncio.create_task(bus.publish([Outgoing(topic, 0, None, b"y")]))
    await asyncio.sleep(0.2)
    await asyncio.wait_for(bus.close(), 5)
    with pytest.raises(BusError, match="closed"):
        await pending
    await asyncio.to_thread(own_kafka.start)
