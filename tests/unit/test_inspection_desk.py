"""The inspection desk on a memory bus: each circuit once, for everybody who asks, whatever is away."""

import asyncio

import pytest

from shotbus.broker.bus.base import BusError, Outgoing, TopicPartition
from shotbus.broker.bus.memory import MemoryBus, MemoryCluster
from shotbus.broker.children.process import ChildStartError
from shotbus.broker.inspection import service
from shotbus.broker.inspection.facts import decode_facts, encode_facts, facts_key, refused
from shotbus.broker.inspection.inline import InlineInspector, look_at
from shotbus.broker.inspection.service import InspectionDesk, lookup
from shotbus.broker.store.base import StoreError
from shotbus.broker.store.memory import MemoryStore
from shotbus.broker.topics import Topics
from shotbus.schemas.codec import encode
from shotbus.schemas.ids import circuit_id, keyed_partition
from shotbus.schemas.openqasm import CircuitLimits

TOPICS = Topics(prefix="t.", partitions=3)
TEXTS = [f"OPENQASM 3.0; qubit[{n}] q; U(0, 0, 0) q;" for n in range(1, 9)]
TEXT, NAME = TEXTS[0], circuit_id(TEXTS[0])


class Inspector(InlineInspector):
    """Counts, and cannot start at first as often as it is told."""

    def __init__(self, failures=0):
        super().__init__(CircuitLimits())
        self.seen, self.failures, self.closed = [], failures, False

    async def inspect(self, text):
        if self.failures:
            self.failures -= 1
            raise ChildStartError("no memory")
        self.seen.append(text.decode())
        await asyncio.sleep(0)
        return await super().inspect(text)

    async def close(self):
        self.closed = True


class FlakyBus(MemoryBus):
    """Is away for the next ``away`` calls."""

    away = 0

    def _try(self):
        if self.away:
            self.away -= 1
            raise BusError("away")

    async def begins(self, partitions):
        self._try()
        return await super().begins(partitions)

    async def publish(self, records):
        self._try()
        return await super().publish(records)


class DeadStore(MemoryStore):
    async def get_many(self, keys):
        raise StoreError("dead")

    async def put_many(self, items, *, ttl=None):
        raise StoreError("dead")


class Office:
    """A bus, a store, desks, and the answers that the shards get."""

    def __init__(self, bus, store):
        self.bus, self.store, self.desks = bus, store, []

    async def desk(self, inspector=None, **named):
        inspector = inspector or Inspector()
        desk = InspectionDesk(bus=self.bus, store=self.store, topics=TOPICS, inspector=inspector, **named)
        self.desks.append(desk)
        await desk.start()
        return desk, inspector

    async def send(self, *texts):
        for text in texts:
            name = circuit_id(text)
            record = encode("circuit", {"circuit_id": name, "language": "openqasm3", "text": text})
            place = keyed_partition(name, TOPICS.partitions)
            await self.bus.publish([Outgoing(TOPICS.name("circuits"), place, name.encode(), record)])

    async def answers(self, shard, count=1):
        """Return so many answers of a shard, checked to be addressed as they should."""
        reader = self.bus.reader({TopicPartition(TOPICS.name("outcomes"), shard): 0})
        found = []
        async with asyncio.timeout(10):
            while len(found) < count:
                found += await reader.poll(max_records=100, timeout=1)
        await reader.close()
        assert all(dict(record.headers)["kind"] == b"facts" for record in found)
        told = [decode_facts(record.value) for record in found]
        assert [record.key.decode() for record in found] == [one.circuit_id for one in told]
        return told


@pytest.fixture
async def office(request):
    store = getattr(request, "param", MemoryStore)()
    made = Office(FlakyBus(MemoryCluster()), store)
    await made.bus.start()
    await store.start()
    await made.bus.create_topics(TOPICS.specs([]))
    yield made
    for desk in made.desks:
        assert not desk.failure.done()
        await desk.stop()
    await made.bus.close()


async def test_a_circuit_is_inspected_once_for_all_shards_that_ask(office):
    await office.send(*TEXTS)
    desk, inspector = await office.desk()
    for _ in range(3):
        assert all(desk.ask(NAME, shard) for shard in (0, 2))
    for shard in (0, 2):
        assert await office.answers(shard) == [look_at(TEXT.encode(), CircuitLimits())]
    assert inspector.seen == [TEXT]
    assert (desk.counters.asked, desk.counters.inspected, desk.counters.answered) == (1, 1, 2)


async def test_facts_are_in_the_store_and_another_desk_answers_from_there(office):
    await office.send(*TEXTS)
    first, _ = await office.desk()
    names = [circuit_id(text) for text in TEXTS]
    for name in names:
        first.ask(name, 0)
    told = await office.answers(0, len(TEXTS))
    found = await lookup(office.store, [*names, "unknown", names[0]])
    assert found == {one.circuit_id: one for one in told}
    second, inspector = await office.desk()
    second.ask(names[3], 1)
    assert await office.answers(1) == [found[names[3]]]
    assert (inspector.seen, second.counters.from_store) == ([], 1)


async def test_a_refused_circuit_is_answered_with_its_problems_and_its_refusal_is_kept_for_a_minute():
    now = 0.0
    bus, store = FlakyBus(MemoryCluster()), MemoryStore(lambda: now)
    office = Office(bus, store)
    await bus.start()
    await store.start()
    await bus.create_topics(TOPICS.specs([]))
    wrong = "OPENQASM 3.0; qubit q; nonsense q;"
    await office.send(wrong)
    desk, _ = await office.desk()
    desk.ask(circuit_id(wrong), 1)
    (told,) = await office.answers(1)
    assert [problem.code for problem in told.problems] == ["SB-1208"]
    assert await lookup(store, [told.circuit_id]) == {told.circuit_id: told}
    now = service.REFUSAL_SECONDS + 1
    assert await lookup(store, [told.circuit_id]) == {}
    await desk.stop()
    await bus.close()


@pytest.mark.parametrize("office", [DeadStore], indirect=True)
async def test_a_dead_store_is_only_a_miss(office):
    await office.send(TEXT)
    desk, inspector = await office.desk()
    for count in (1, 2):
        desk.ask(NAME, 0)
        assert len(await office.answers(0, count)) == count
    assert inspector.seen == [TEXT, TEXT]
    assert await lookup(office.store, [NAME]) == {}


async def test_a_circuit_that_its_request_overtook_is_waited_for_and_holds_up_nobody(office):
    await office.send(TEXTS[1])
    desk, _ = await office.desk()
    desk.ask(NAME, 0)
    desk.ask(circuit_id(TEXTS[1]), 1)
    assert (await office.answers(1))[0].facts.qubits == 2
    await office.send(TEXT)
    assert (await office.answers(0))[0].facts.qubits == 1


async def test_a_circuit_that_nobody_knows_is_refused_after_a_while_but_not_for_ever(office):
    desk, inspector = await office.desk(patience=0.2)
    desk.ask(NAME, 0)
    assert await office.answers(0) == [refused(NAME, "SB-1219")]
    assert await lookup(office.store, [NAME]) == {}
    await office.send(TEXT)
    desk.ask(NAME, 0)
    assert [one.facts is None for one in await office.answers(0, 2)] == [True, False]
    assert inspector.seen == [TEXT]


async def test_a_bus_that_is_away_refuses_no_circuit(office):
    await office.send(TEXT)
    desk, _ = await office.desk(patience=0.0)
    office.bus.away = 3
    desk.ask(NAME, 0)
    assert (await office.answers(0))[0].facts.qubits == 1
    assert desk.counters.bus_errors == 3


async def test_an_answer_is_published_again_until_it_is_durable(office, monkeypatch):
    monkeypatch.setattr(service, "_RETRY_SECONDS", 0.01)
    await office.send(TEXT)
    await office.store.put_many({facts_key(NAME): encode_facts(look_at(TEXT.encode(), CircuitLimits()))})
    desk, _ = await office.desk()
    office.bus.away = 3
    desk.ask(NAME, 2)
    assert len(await office.answers(2)) == 1
    assert (office.bus.away, desk.counters.bus_errors) == (0, 3)


async def test_a_host_that_cannot_start_a_process_refuses_no_circuit(office, monkeypatch):
    monkeypatch.setattr(service, "_RETRY_SECONDS", 0.01)
    await office.send(TEXT)
    desk, inspector = await office.desk(Inspector(failures=3))
    desk.ask(NAME, 0)
    assert (await office.answers(0))[0].facts.qubits == 1
    assert (desk.counters.host_failures, inspector.failures) == (3, 0)


async def test_more_questions_than_may_wait_are_turned_away(office, monkeypatch):
    monkeypatch.setattr(service, "QUEUE", 2)
    desk = InspectionDesk(bus=office.bus, store=office.store, topics=TOPICS, inspector=Inspector())
    assert [desk.ask(circuit_id(text), 0) for text in TEXTS[:3]] == [True, True, False]
    assert desk.ask(circuit_id(TEXTS[0]), 1)
    assert desk.counters.turned_away == 1


async def test_a_stopped_desk_closes_its_inspector(office):
    desk, inspector = await office.desk()
    await desk.stop()
    assert inspector.closed
