"""What the projector keeps of results besides the answers: the history of each piece of work, late results."""

import pytest
from reuse_kit import AT_US, record, sampled

from shotbus.broker.bus.base import Outgoing, Record
from shotbus.broker.bus.memory import MemoryBus, MemoryCluster
from shotbus.broker.store.memory import MemoryStore
from shotbus.broker.topics import Topics
from shotbus.reducers.fold_edge import FoldEdge
from shotbus.reducers.projector import Projector
from shotbus.schemas.codec import decode

TOPICS = Topics(partitions=1)
ANSWER = sampled({0: 100})


@pytest.fixture
async def projected():
    """Publish results and return the store that they are projected into."""
    bus, store = MemoryBus(MemoryCluster()), MemoryStore()
    await bus.start()
    await store.start()
    await bus.create_topics(TOPICS.specs(()))

    async def project(*values):
        await bus.publish([Outgoing(TOPICS.name("results"), 0, b"j", value) for value in values])
        await Projector(bus, store, TOPICS).rebuild()
        return store

    yield project
    await bus.close()


async def jobs(store, *names):
    found = await store.get_many(names)
    return [None if value is None else decode(value, "circuit_result")[1]["job_id"] for value in found]


async def test_the_newest_result_of_a_piece_of_work_is_kept_for_anywhere_and_for_its_place(projected):
    store = await projected(
        record("a", history_key="w/here"),
        record("b", history_key="w/there"),
        record("c", history_key="w"),
        record("d"),
    )
    names = ("history:w", "history:w/here", "history:w/there", "history:")
    assert await jobs(store, *names) == ["c", "a", "b", None]


async def test_a_late_result_never_takes_the_place_of_the_answer(projected):
    late = record("a", late=True, payload=sampled({0: 50, 1: 50}), cache_key="k", history_key="w")
    store = await projected(record("a", payload=ANSWER), late)
    answer, kept = await store.get_many(["result:a", "late:a"])
    assert decode(answer, "circuit_result")[1]["payload"] == ANSWER
    assert decode(kept, "circuit_result")[1]["deviation"] == pytest.approx(0.5)
    assert await store.get_many(["cache:k", "history:w"]) == [None, None]


async def test_what_came_late_of_an_answer_that_is_gone_is_kept_without_a_comparison(projected):
    store = await projected(record("a", late=True, payload=ANSWER))
    assert await store.get_many(["result:a"]) == [None]
    (kept,) = await store.get_many(["late:a"])
    assert decode(kept, "circuit_result")[1]["deviation"] == -1


def test_a_sweep_counts_no_late_result():
    edge = FoldEdge(TOPICS, 0)
    sweep = (("sweep-id", b"a" * 24),)
    value = record("a", sweep_id="a" * 24, shard_index=0, late=True, finished_us=AT_US)
    assert edge.decode(Record(TOPICS.name("results"), 0, 0, b"a", value, sweep, 0)) is None
