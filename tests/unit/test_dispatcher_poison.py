"""A defect of ours in handling a request: the request is set aside, its submitter gets an answer."""

import pytest
from dispatcher_kit import PARTITIONS, SHARD, config, job_id, request
from shard_kit import FakeClock, drain

from shotbus.broker.bus.base import Outgoing, TopicPartition
from shotbus.broker.bus.memory import MemoryBus, MemoryCluster
from shotbus.broker.dispatcher import door
from shotbus.broker.dispatcher.edge import DispatcherEdge
from shotbus.broker.runner import ShardRunner
from shotbus.broker.store.memory import MemoryStore
from shotbus.broker.telemetry import Metrics
from shotbus.broker.topics import Topics
from shotbus.schemas.codec import decode, encode

BAD, GOOD = job_id(1), job_id(2)


@pytest.fixture
def defect(monkeypatch):
    """Admission raises for one job."""
    check = door.check_request

    def check_or_raise(fields, *args, **kwargs):
        if fields["job_id"] == BAD:
            raise KeyError("a defect")
        return check(fields, *args, **kwargs)

    monkeypatch.setattr(door, "check_request", check_or_raise)


async def records(bus, topic):
    place = TopicPartition(topic, SHARD)
    reader = bus.reader(await bus.begins([place]))
    return await reader.poll(max_records=1_000, timeout=0)


async def test_a_request_that_breaks_its_handling_is_refused_and_its_neighbour_is_accepted(defect):
    clock, topics, settings = FakeClock(), Topics("", partitions=PARTITIONS), config()
    bus, store = MemoryBus(MemoryCluster(clock=lambda: clock.wall_ms() / 1_000)), MemoryStore()
    await bus.start()
    await store.start()
    await bus.create_topics(topics.specs(settings.pools))
    metrics = Metrics(role="test", version="0")

    def build():
        return DispatcherEdge(
            SHARD,
            bus=bus,
            store=store,
            topics=topics,
            config=settings,
            free_credits=dict,
            metrics=metrics,
            clock=clock,
        )

    letters = TopicPartition(topics.name("dead-letters"), SHARD)
    runner = ShardRunner(bus, build, shard="d-0", dead_letters=letters, clock=clock)
    await runner.take()
    place = topics.requests("experiment")
    values = [
        encode("circuit_request", request(backend="noop") | {"job_id": one}) for one in (BAD, GOOD, BAD)
    ]
    await bus.publish([Outgoing(place, SHARD, b"k", value) for value in values])
    await drain(runner)
    assert [letter.value for letter in await records(bus, letters.topic)] == [values[0], values[2]]
    refusals = [decode(one.value, "refusal")[1] for one in await records(bus, topics.name("results"))]
    assert [(one["job_id"], one["problems"][0]["code"]) for one in refusals] == [(BAD, "SB-9001")] * 2
    assert list(runner.edge.machine.live) == [GOOD]
    assert metrics.registry.get_sample_value("shotbus_dlq_letters_total", {"error_class": "POISON"}) == 2
