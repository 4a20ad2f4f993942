"""Circuits that a worker had to read from the bus are put into the store for as long as the bus keeps them."""

from shotbus.broker.bus.base import Outgoing
from shotbus.broker.bus.memory import MemoryBus, MemoryCluster
from shotbus.broker.circuits import CircuitSource
from shotbus.broker.store.memory import MemoryStore
from shotbus.broker.topics import CIRCUIT_SECONDS, Topics
from shotbus.schemas.codec import encode
from shotbus.schemas.ids import circuit_id, keyed_partition
from shotbus.workers.settings import WorkerCounters

TOPICS = Topics()
TEXT = "OPENQASM 3.0;\n"
NAME = circuit_id(TEXT)
RECORD = encode("circuit", {"circuit_id": NAME, "language": "openqasm3", "text": TEXT})


async def test_a_circuit_that_was_put_back_goes_when_its_topic_lets_it_go():
    now = 0.0
    bus, store, counters = MemoryBus(MemoryCluster()), MemoryStore(lambda: now), WorkerCounters()
    await bus.start()
    await store.start()
    await bus.create_topics(TOPICS.specs([]))
    place = keyed_partition(NAME, TOPICS.partitions)
    await bus.publish([Outgoing(TOPICS.name("circuits"), place, NAME.encode(), RECORD)])
    assert await CircuitSource(bus, store, TOPICS, counters).fetch([NAME]) == {NAME: RECORD}
    assert counters.circuits_from_bus == 1
    now = CIRCUIT_SECONDS - 1
    assert await store.get_many([f"circuit:{NAME}"]) == [RECORD]
    now = CIRCUIT_SECONDS + 1
    assert await store.get_many([f"circuit:{NAME}"]) == [None]
    await bus.close()


def test_the_topic_keeps_circuits_as_long_as_the_store():
    (spec,) = [spec for spec in TOPICS.specs([]) if spec.name == TOPICS.name("circuits")]
    assert spec.retention_ms == CIRCUIT_SECONDS * 1000 == 30 * 86_400_000
