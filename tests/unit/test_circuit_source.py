"""Circuits that a worker had to read from the bus are put into the store for as long as the bus keeps them."""

import pytest

from shotbus.broker import circuits
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


def letter(text):
    name = circuit_id(text)
    record = encode("circuit", {"circuit_id": name, "language": "openqasm3", "text": text})
    return name, Outgoing("shotbus.circuits", 0, name.encode(), record)


@pytest.fixture
async def counting():
    bus, store, counters = CountingBus(MemoryCluster()), MemoryStore(), WorkerCounters()
    await bus.start()
    await store.start()
    topics = Topics(partitions=1)
    await bus.create_topics(topics.specs([]))
    yield bus, CircuitSource(bus, store, topics, counters)
    await bus.close()


async def test_each_record_is_read_once_however_many_circuits_are_asked_for_one_after_the_other(counting):
    bus, source = counting
    letters = dict(letter(f"OPENQASM 3.0; qubit[{n}] q;") for n in range(1, 40))
    for number, (name, record) in enumerate(letters.items()):
        assert await source.fetch([name]) == {name: None}
        await bus.publish([record])
        if number % 3 == 0:
            assert (await source.fetch([name]))[name] == record.value
    assert all((await source.fetch(list(letters))).values())
    assert bus.starts == sorted(bus.starts)
    assert bus.starts.count(0) == 2


async def test_more_names_than_are_remembered_only_cost_readings(counting, monkeypatch):
    monkeypatch.setattr(circuits, "_NAMES", 3)
    bus, source = counting
    letters = dict(letter(f"OPENQASM 3.0; qubit[{n}] q;") for n in range(1, 9))
    await bus.publish(list(letters.values()))
    assert all((await source.fetch(list(letters))).values())
    unknown = circuit_id("unknown")
    assert [await source.fetch([unknown]) for _ in range(2)] == [{unknown: None}] * 2
    assert bus.starts == [0, 8, 0, 8]


async def test_a_circuit_that_was_passed_and_forgotten_is_looked_for_from_the_begin(counting, monkeypatch):
    monkeypatch.setattr(circuits, "_PASSED", 2)
    bus, _ = counting
    source = CircuitSource(bus, MemoryStore(), Topics(partitions=1), WorkerCounters())
    letters = dict(letter(f"OPENQASM 3.0; qubit[{n}] q;") for n in range(1, 9))
    await bus.publish(list(letters.values()))
    first, *_, last = letters
    assert (await source.fetch([last]))[last] == letters[last].value
    assert (await source.fetch([first]))[first] == letters[first].value


async def test_a_record_that_lies_about_its_circuit_is_never_used(counting):
    bus, source = counting
    name, record = letter("OPENQASM 3.0;")
    _, other = letter("OPENQASM 3.1;")
    await bus.publish([record._replace(value=other.value)])
    assert await source.fetch([name]) == {name: None}
    assert await source.fetch([name]) == {name: None}
    await bus.publish([record])
    assert await source.fetch([name]) == {name: record.value}
