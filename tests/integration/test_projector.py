"""The projector on a real log and a real store: what it writes, survives and repeats."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shotbus.broker.bus.base import Outgoing, Record, TopicPartition
from shotbus.broker.bus.sqlite import SqliteBus
from shotbus.broker.store.ends import keys_of
from shotbus.broker.store.memory import MemoryStore
from shotbus.broker.topics import Topics
from shotbus.reducers.projector import Projector
from shotbus.reducers.readmodels import ReadModels
from shotbus.schemas.codec import decode, encode

TOPICS = Topics(partitions=2)
AT_US = 1_700_000_000_000_000
PROBLEM = dict.fromkeys(("path", "limit", "actual", "hint", "detail"), "") | {"code": "SB-5001"}


def events(*steps, at_us=AT_US, shard=0):
    """An event record of (job, state, cause) steps."""
    common = {
        "sub_status": "",
        "attempt": 1,
        "pool": "aer",
        "tenant": "ada",
        "sweep_id": "",
        "traceparent": "t" * 55,
    }
    batch = [{"job_id": job, "state": state, "cause": cause, **common} for job, state, cause in steps]
    value = encode("event_batch", {"shard": shard, "sequence": at_us, "at_us": at_us, "events": batch})
    return Outgoing(TOPICS.name("events"), shard, None, value)


def result(job, outcome="succeeded", cache_key="", problems=(), payload=b"p" * 300):
    numbers = ("attempt", "points", "shots", "seed", "bytes_in", "request_partition", "request_offset")
    times = ("submitted_us", "accepted_us", "finished_us")
    texts = (
        "tenant",
        "sweep_id",
        "executed_on",
        "pool",
        "circuit_id",
        "experiment",
        "intent",
        "request_topic",
    )
    fields = dict.fromkeys(numbers, 1) | dict.fromkeys(times, AT_US) | dict.fromkeys(texts, "text")
    fields |= {"job_id": job, "shard_index": -1, "outcome": outcome, "payload": payload, "provenance": b"{}"}
    fields |= {"problems": list(problems), "timings": b"\0" * 360, "cache_key": cache_key}
    return Outgoing(TOPICS.name("results"), 0, job.encode(), encode("circuit_result", fields))


def reduction(sweep, final, done):
    zeros = dict.fromkeys(("succeeded", "from_cache", "failed", "points", "shots"), 0)
    fields = {
        "sweep_id": sweep,
        "tenant": "ada",
        "final": final,
        "reduce": "collect",
        "shards": 9,
        "done": done,
    }
    fields |= {
        "payload": b"",
        "failed_shards": [],
        "executed_on": {},
        "traceparent": "",
        "at_us": AT_US,
        **zeros,
    }
    return Outgoing(TOPICS.name("reductions"), 1, sweep.encode(), encode("sweep_reduction", fields))


def circuit(name):
    value = encode("circuit", {"circuit_id": name, "language": "openqasm3", "text": "OPENQASM 3.0;"})
    return Outgoing(TOPICS.name("circuits"), 1, name.encode(), value)


async def until(condition):
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def bus(tmp_path):
    made = SqliteBus(tmp_path / "bus", synchronous="NORMAL")
    await made.start()
    await made.create_topics(TOPICS.specs(()))
    yield made
    await made.close()


@pytest.fixture
async def store():
    made = MemoryStore()
    await made.start()
    yield made
    await made.close()


@asynccontextmanager
async def projecting(bus, store):
    projector = Projector(bus, store, TOPICS)
    task = asyncio.create_task(projector.run())
    yield projector
    projector.stop()
    await task


async def status(store, job):
    found = await store.get_many(keys_of(f"status:{job}"))
    document = next(filter(None, found), None)
    return document and decode(document, "status_document")[1]


def shows(store, job, state):
    async def condition():
        document = await status(store, job)
        return document is not None and document["status"] == state

    return condition


async def test_every_topic_becomes_its_documents_and_indexes(bus, store):
    answer, cached = result("j1", cache_key="k1"), result("j2", "served_from_cache", "k2")
    steps = [("j1", "QUEUED", "accept"), ("j2", "DONE", "served_from_cache"), ("j1", "RUNNING", "start")]
    async with projecting(bus, store):
        await bus.publish([answer, cached, reduction("s1", False, 3), circuit("c1"), events(*steps)])
        await until(shows(store, "j1", "RUNNING"))
        keys = ["result:j1", "cache:k1", "result:j2", "cache:k2", "circuit:c1", "reduction:s1"]
        await until(lambda: filled(store, ["circuit:c1", "result:j2", "reduction:s1"]))
        found = await store.get_many(keys)
    assert found[:4] == [answer.value, answer.value, cached.value, None]
    assert found[4:] == [circuit("c1").value, reduction("s1", False, 3).value]
    assert (await status(store, "j2"))["outcome"] == "served_from_cache"
    assert await store.index_range("jobs:ada", offset=0, limit=9) == [("j2", AT_US), ("j1", AT_US)]
    assert [name for name, _ in await store.index_range("sweeps", offset=0, limit=9)] == ["s1"]


async def filled(store, keys):
    return None not in await store.get_many(keys)


async def test_a_status_document_holds_what_the_last_event_says(bus, store):
    async with projecting(bus, store):
        await bus.publish([events(("j", "QUEUED", "accept"), ("j", "ERROR", "expired"), at_us=AT_US + 5)])
        await until(shows(store, "j", "ERROR"))
    expected = {"job_id": "j", "tenant": "ada", "status": "ERROR", "sub_status": "", "outcome": "expired"}
    expected |= {"pool": "aer", "attempt": 1, "cause": "expired", "sweep_id": "", "updated_us": AT_US + 5}
    assert await status(store, "j") == expected


async def test_bookmarks_are_committed_so_that_a_successor_reads_on(bus, store):
    async with projecting(bus, store):
        await bus.publish([events(("j1", "DONE", "succeeded"))])
        await until(shows(store, "j1", "DONE"))
    await store.clear()
    async with projecting(bus, store):
        await bus.publish([events(("j2", "DONE", "succeeded"))])
        await until(shows(store, "j2", "DONE"))
    assert await status(store, "j1") is None


async def test_a_dead_store_delays_but_loses_and_reorders_nothing(bus, store):
    async with projecting(bus, store) as projector:
        await bus.publish([events(("j", "QUEUED", "accept"))])
        await until(shows(store, "j", "QUEUED"))
        await store.close()
        await bus.publish([events(("j", "RUNNING", "start")), result("j")])
        await bus.publish([events(("j", "DONE", "succeeded"))])
        await until(lambda: read(projector, 2))  # it holds a batch that the store does not take
        await store.start()
        await until(shows(store, "j", "DONE"))
        assert (await store.get_many(["result:j"])) == [result("j").value]


async def test_stopping_before_a_dead_store_keeps_the_bookmark_in_front_of_what_it_missed(bus, store):
    async with projecting(bus, store) as projector:
        await bus.publish([events(("j1", "DONE", "succeeded"))])
        await until(lambda: store.index_range("jobs", offset=0, limit=1))
        await store.close()
        await bus.publish([events(("j2", "DONE", "succeeded"))])
        await until(lambda: read(projector, 2))
    await store.start()
    async with projecting(bus, store):
        await until(shows(store, "j2", "DONE"))


async def read(projector, count):
    return projector.stats["read"] >= count


async def test_what_is_read_again_does_not_take_an_end_back(bus, store):
    await bus.publish([events(("j", "RUNNING", "start")), reduction("s", False, 1)])
    final = encode("status_document", decode_status("DONE"))
    ends = {"end:status:j": final, "end:reduction:s": reduction("s", True, 9).value}
    await store.put_many(ends)
    async with projecting(bus, store) as projector:
        await until(lambda: read(projector, 2))
        await bus.publish([events(("k", "DONE", "succeeded"))])
        await until(shows(store, "k", "DONE"))
    assert await store.get_many(list(ends)) == list(ends.values())
    assert (await status(store, "j"))["status"] == "DONE"


def decode_status(state):
    texts = dict.fromkeys(("tenant", "sub_status", "outcome", "pool", "cause", "sweep_id"), "")
    return {"job_id": "j", "status": state, "attempt": 1, "updated_us": AT_US, **texts}


async def test_rebuild_brings_back_everything_that_the_topics_hold(bus, store):
    records = [
        result("j", cache_key="k"),
        circuit("c"),
        reduction("s", True, 9),
        events(("j", "DONE", "succeeded")),
    ]
    await bus.publish(records)
    await store.put_many({"status:ghost": b"?"})
    assert await Projector(bus, store, TOPICS).rebuild() == 4
    assert await store.get_many(["result:j", "cache:k", "status:ghost"]) == [
        records[0].value,
        records[0].value,
        None,
    ]
    assert (await status(store, "j"))["outcome"] == "succeeded"
    assert [name for name, _ in await store.index_range("jobs", offset=0, limit=9)] == ["j"]


async def test_two_projectors_share_the_partitions(bus, store):
    async with projecting(bus, store) as first, projecting(bus, store) as second:
        await until(lambda: both_hold_one(first, second))
        await bus.publish([events(("j0", "DONE", "failed")), events(("j1", "DONE", "failed"), shard=1)])
        await until(shows(store, "j0", "DONE"))
        await until(shows(store, "j1", "DONE"))
        assert (first.stats["read"], second.stats["read"]) == (1, 1)


async def both_hold_one(first, second):
    return len(first._held) == len(second._held) == 1


async def test_records_deleted_before_they_were_read_are_passed_over(bus, store):
    await bus.publish([events(("old", "DONE", "succeeded")), events(("new", "DONE", "succeeded"))])
    await bus.trim({TopicPartition(TOPICS.name("events"), 0): 1})
    async with projecting(bus, store):
        await until(shows(store, "new", "DONE"))
    assert await status(store, "old") is None


def project(*outgoing):
    models = ReadModels(TOPICS)
    return models.project(
        Record(o.topic, o.partition, 0, o.key, o.value, (), 0) for o in outgoing
    ), models.stats


def test_an_unreadable_record_is_counted_and_passed_over():
    broken = Outgoing(TOPICS.name("events"), 0, None, b"junk")
    cut = events(("j", "DONE", "succeeded"))
    writes, stats = project(broken, cut._replace(value=cut.value[:-9]), result("j"))
    assert list(writes.documents) == ["result:j"]
    assert (stats["read"], stats["unreadable"]) == (1, 2)


def test_a_result_with_problems_is_kept_but_not_cached():
    writes, _ = project(result("j", "failed", "k", [PROBLEM]))
    assert list(writes.documents) == ["result:j"]


TEXT = st.text(max_size=90)


NAME = st.text(min_size=1, max_size=90)


@given(NAME, TEXT, st.sampled_from(["QUEUED", "RUNNING", "DONE"]), TEXT, st.integers(0, 2**50))
def test_copied_fields_say_what_decoded_fields_would(job, cause, state, tenant, at_us):
    event = {"job_id": job, "state": state, "cause": cause, "tenant": tenant, "pool": "p", "attempt": 70}
    batch = [event | {"sub_status": "x", "sweep_id": job, "traceparent": ""}]
    value = encode("event_batch", {"shard": 0, "sequence": 1, "at_us": at_us, "events": batch})
    writes, _ = project(Outgoing(TOPICS.name("events"), 0, None, value))
    key = f"end:status:{job}" if state == "DONE" else f"status:{job}"
    document = decode(writes.documents[key], "status_document")[1]
    outcome = "" if state != "DONE" else cause if cause in {"failed", "succeeded"} else "succeeded"
    expected = {"job_id": job, "tenant": tenant, "status": state, "sub_status": "x", "outcome": outcome}
    assert document == expected | {
        "pool": "p",
        "attempt": 70,
        "cause": cause,
        "sweep_id": job,
        "updated_us": at_us,
    }
