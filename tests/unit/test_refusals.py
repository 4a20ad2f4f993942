"""What became of submissions that were refused: events of no job, and documents that bind no id."""

import json

from dispatcher_kit import SHARD, START_MS, Driver, config, emitted, job_id, payload, request, submitted

from shotbus.broker.bus.base import Record
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.reports import TERMS_A_RECORD
from shotbus.broker.invariants import Checker
from shotbus.broker.store.memory import MemoryStore
from shotbus.broker.store.reading import read_documents
from shotbus.broker.store.refused import refusal_key
from shotbus.broker.topics import Topics
from shotbus.reducers.readmodels import ReadModels
from shotbus.reducers.reconcile import ReadModelCheck
from shotbus.schemas.codec import decode, encode
from shotbus.schemas.outcomes import ABOUT_A_SUBMISSION

TOPICS = Topics()
EVENT = {"job_id": job_id(1), "tenant": "ada", "state": "", "sub_status": "", "cause": "", "attempt": 0}
EVENT |= {"pool": "aer", "sweep_id": "", "traceparent": ""}
REFUSED = {"state": "ERROR", "sub_status": "REFUSED", "cause": "refuse"}
VALIDATING, QUEUED = {"state": "VALIDATING"}, {"state": "QUEUED", "sub_status": "WAITING_FOR_SLOT"}


def driver():
    return Driver(lambda: Dispatcher(SHARD, 2, config()))


def told_of_submissions(commands):
    events = [event for batch in emitted(commands, "event_batch") for event in batch["events"]]
    return [event for event in events if event["state"] == ABOUT_A_SUBMISSION]


def record(topic, name, fields, at_ms=1):
    return Record(TOPICS.name(topic), 0, 0, None, encode(name, fields), (), at_ms)


def batch(*events, at_us=1):
    fields = {"shard": 0, "sequence": at_us, "at_us": at_us, "events": [EVENT | one for one in events]}
    return record("events", "event_batch", fields)


def test_a_refusal_at_the_door_is_an_event_of_no_job_with_all_its_problems():
    (event,) = told_of_submissions(
        driver().run(submitted(request(1, shots=0, priority="none"), pool="ghost"))
    )
    assert (event["job_id"], event["sub_status"], event["cause"]) == ("", "REFUSED", "refuse")
    assert (event["tenant"], event["pool"]) == ("ada", "")
    terms = json.loads(event["detail"])
    assert (terms["job_id"], terms["payload"]) == (job_id(1), (b"\1" * 16).hex())
    assert {one["code"] for one in terms["problems"]} == {"SB-1101", "SB-1102"}


def test_another_payload_under_a_live_id_is_told_and_the_job_goes_on():
    made = driver()
    made.run(submitted(request(1)))
    commands = made.run(submitted(request(1, payload_hash=payload(9)), offset=1))
    (event,) = told_of_submissions(commands)
    assert json.loads(event["detail"])["problems"][0]["code"] == "SB-1106"
    assert made.machine.live[job_id(1)].phase is not None


def test_names_too_long_to_be_taken_are_cut_in_the_event():
    made = driver()
    (event,) = told_of_submissions(made.run(submitted(request(1, tenant="t" * 5_000, sweep_id="s" * 5_000))))
    assert len(event["tenant"]) == len(event["sweep_id"]) == 256
    assert len(event["detail"]) < TERMS_A_RECORD


def test_a_refusal_at_the_door_changes_no_job_s_document_and_breaks_no_invariant():
    made = driver()
    commands = made.run(submitted(request(1))) + made.run(submitted(request(1, payload_hash=payload(9))))
    events = [record("events", "event_batch", one) for one in emitted(commands, "event_batch")]
    writes, checker = ReadModels(TOPICS).project(events), Checker(complete=True)
    assert list(writes.documents) == [f"status:{job_id(1)}"]
    for one in events:
        checker.take("events", one)
    assert list(checker.lives) == [job_id(1)]
    assert checker.report(over=False).violations == []


def test_each_tenant_has_its_own_last_refusal_under_an_id_and_nonsense_has_none():
    def refusal(at_us, **changes):
        fields = {"job_id": job_id(1), "tenant": "ada", "sweep_id": "", "shard_index": -1, "problems": []}
        return record("results", "refusal", {**fields, "refused_us": at_us, **changes})

    many = [refusal(1), refusal(2), refusal(3, tenant="eve"), refusal(4, job_id="nonsense")]
    documents = ReadModels(TOPICS).project(many).documents
    times = {key: decode(value)[1]["refused_us"] for key, value in documents.items()}
    assert times == {refusal_key(job_id(1), "ada"): 2, refusal_key(job_id(1), "eve"): 3}


async def status_after(*batches):
    """The status that a reader finds after these were projected one after the other."""
    store = MemoryStore()
    await store.start()
    for one in batches:
        writes = ReadModels(TOPICS).project(one)
        await store.put_many(writes.documents, ttl=60.0)
        await store.delete_many(list(writes.outdated))
    (found,) = await read_documents(store, [f"status:{job_id(1)}"])
    return decode(found)[1]


async def test_what_was_refused_has_no_outcome_and_whoever_is_late_cannot_set_it_back():
    refused = batch(REFUSED, at_us=2)
    found = await status_after([batch(VALIDATING)], [refused], [batch(VALIDATING)])
    assert (found["status"], found["sub_status"], found["outcome"]) == ("ERROR", "REFUSED", "")


async def test_an_id_that_was_refused_and_comes_again_has_the_status_of_its_new_life():
    old, new, end = batch(VALIDATING, REFUSED), batch(VALIDATING, QUEUED, at_us=2), {"state": "DONE"}
    for batches in ([[old], [new]], [[old, new]], [[batch(VALIDATING, REFUSED, VALIDATING, QUEUED)]]):
        assert (await status_after(*batches))["status"] == "QUEUED"
        done = await status_after(*batches, [batch({**end, "cause": "succeeded"}, at_us=3)])
        assert (done["status"], done["outcome"]) == ("DONE", "succeeded")


async def test_a_check_of_the_read_models_finds_nothing_after_an_id_came_again():
    check, store = ReadModelCheck(TOPICS), MemoryStore()
    await store.start()
    records = [batch(VALIDATING), batch(REFUSED, at_us=2), batch(QUEUED, at_us=START_MS * 1000)]
    check.take(records)
    writes = ReadModels(TOPICS).project(records)
    await store.put_many(writes.documents, ttl=60.0)
    assert await check.compare(store) == []
