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


class CountingBus(MemoryBus):
    """Remembers where readers began."""

    def reader(self, starts):
        self.starts = [*getattr(self, "starts", []), *starts.values()]
        return super().reader(starts)


async def test_what_was_not_there_is_looked_for_from_where_the_last_look_ended():
    bus, store, counters = CountingBus(MemoryCluster()), MemoryStore(), WorkerCounters()
    await bus.start()
    await store.start()
    await bus.create_topics(TOPICS.specs([]))
    place = keyed_partition(NAME, TOPICS.partitions)
    others = [Outgoing(TOPICS.name("circuits"), place, b"other %d" % k, b"") for k in range(5)]
    source = CircuitSource(bus, store, TOPICS, counters)
    await bus.publish(others)
    assert await source.fetch([NAME]) == {NAME: None}
    await bus.publish([Outgoing(TOPICS.name("circuits"), place, NAME.encode(), RECORD)])
    assert await source.fetch([NAME]) == {NAME: RECORD}
    first, second = bus.starts
    assert second >= first + 5
    await bus.close()
