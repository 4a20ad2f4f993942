"""verify and state verify on a real embedded broker: sound while it runs, and told when something was forged or lost."""

import asyncio
import signal
import sqlite3

import pytest
from cli_kit import invoke, make_folder, said, told
from embedded_kit import Broker, eventually, on_bus, records

from shotbus.broker.bus.base import Outgoing
from shotbus.broker.store.sqlite import SqliteStore
from shotbus.schemas.codec import decode, encode, identify


@pytest.fixture
def broker(tmp_path):
    with Broker(tmp_path / "data", "noop") as broker:
        yield broker


@pytest.fixture
def folder(broker):
    return make_folder(broker)


def finished(folder, count=3):
    """Submit jobs and wait for them."""
    jobs = [
        told(folder, "submit", "bell.qasm", "--backend", "noop", "--seed", n)["job_id"] for n in range(count)
    ]
    for job in jobs:
        assert told(folder, "result", job)["outcome"] == "succeeded"
    return jobs


def result_of(broker, job):
    """A job's result as it lies on the bus, beside the answers to questions about the job."""
    mine = [one for one in records(broker.url, "results") if one.key == job.encode()]
    return next(one for one in mine if identify(one.value).name == "circuit_result")


def on_store(broker, work):
    async def run():
        store = SqliteStore(broker.directory / "store.sqlite")
        await store.start()
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def test_a_running_broker_with_jobs_under_way_keeps_its_promises(folder):
    finished(folder)
    told(folder, "submit", "bell.qasm", "--backend", "aer")  # nobody serves aer: it waits
    # What was accepted before the look began is judged: the submission may be on its way.
    eventually(lambda: told(folder, "verify")["judged"]["I1"])
    answer = told(folder, "verify")
    assert answer["violations"] == []
    assert answer["complete"]
    assert answer["judged"]["I2"] >= 6
    assert answer["unjudged"]["I6"] == "no client's history"
    assert "0 violations" in said(folder, "verify")
    assert told(folder, "verify", "--since", "0s")["judged"]["I4"] == 0


def test_a_second_result_is_found(folder, broker):
    job = finished(folder, 1)[0]
    record = result_of(broker, job)
    forged = encode("circuit_result", decode(record.value)[1] | {"outcome": "failed"})

    async def forge(bus, _):
        await bus.publish([Outgoing(record.topic, record.partition, record.key, forged, record.headers)])

    on_bus(broker.url, forge)
    answer = told(folder, "verify", code=1)
    assert [one["rule"] for one in answer["violations"]] == ["one-terminal-result"]
    assert "succeeded, then failed" in invoke(folder, "verify")[1]


def test_read_models_that_were_lost_or_altered_are_found_and_repaired(folder, broker):
    jobs = finished(folder)
    eventually(lambda: told(folder, "state", "verify")["differences"] == [])

    async def damage(store):
        (status,) = await store.get_many([f"end:status:{jobs[0]}"])
        fields = decode(status)[1]
        await store.put_many(
            {f"end:status:{jobs[0]}": encode("status_document", fields | {"status": "RUNNING"})}
        )
        late = encode("status_document", fields | {"job_id": jobs[1], "updated_us": 1})
        await store.put_many({f"end:status:{jobs[1]}": late})
        await store.delete_many([f"result:{jobs[2]}"])

    on_store(broker, damage)
    found = told(folder, "state", "verify", code=1)["differences"]
    assert {(one["kind"], one["key"]) for one in found} == {
        ("contradictory", f"end:status:{jobs[0]}"),
        ("stale", f"end:status:{jobs[1]}"),
        ("missing", f"result:{jobs[2]}"),
    }
    assert "state verify --repair" in invoke(folder, "state", "verify")[1]
    assert told(folder, "state", "verify", "--repair")["repaired"]
    assert told(folder, "state", "verify")["differences"] == []


def test_after_a_crash_what_was_not_read_is_told_and_nothing_is_broken(folder, broker):
    jobs = finished(folder, 1)
    # Clients have their answers before the read models: some of them may not be written yet.
    broker.stop(signal.SIGKILL)
    request = decode(result_of(broker, jobs[0]).value)[1]["request_topic"]

    async def submit(bus, _):
        await bus.publish([Outgoing(request, 0, b"k", b"unread")])

    on_bus(broker.url, submit)
    answer = told(folder, "state", "verify")
    behind = {one["about"] for one in answer["remarks"] if one["kind"] == "position-behind"}
    assert f"{request}[0]" in behind
    assert (answer["differences"], answer["projectors"]) == ([], 0)
    assert told(folder, "verify")["violations"] == []


def test_where_nothing_is_there_is_nothing_to_verify(tmp_path):
    (tmp_path / "shotbus.toml").write_text('[broker]\nurl = "sqlite:///nothing"\n')
    for words in (["verify"], ["state", "verify"]):
        assert "SB-2004" in said(tmp_path, *words, code=3)
        assert not (tmp_path / "nothing").exists()
    assert invoke(tmp_path, "verify", "--since", "soon")[0] == 2


def test_a_log_that_cannot_be_read_is_unreachable_and_not_sound(folder, broker):
    broker.stop()
    with sqlite3.connect(broker.directory / "bus" / "log.db") as log:
        log.execute("PRAGMA writable_schema=ON")
        log.execute("DELETE FROM sqlite_master WHERE type='table'")
    assert invoke(folder, "verify")[0] == 3
