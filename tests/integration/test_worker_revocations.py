"""What is cancelled while a worker has it: not begun, stopped, or run to its end, and always told."""

import asyncio
import dataclasses
import time
from pathlib import Path

import pytest
from embedded_kit import BELL, Broker, eventually, records
from worker_kit import TOPICS, Bench, bundle, bundles_of, faulty
from worker_kit import eventually as soon

from shotbus import Client, JobFailedError
from shotbus.broker.bus.base import BusError, Outgoing
from shotbus.broker.config import Config, PoolConfig
from shotbus.schemas.codec import decode, encode

SLEEPY = '[pools.dozing]\nadapter = "sleep"\nkind = "none"\nslots = 1\nprefetch = 1\nbundle_jobs = 1\n'


@pytest.fixture
async def bench():
    made = await Bench().open()
    yield made
    await made.close()


async def revoke(bench, name, *numbers, pool="faulty", granted=""):
    jobs = [f"{k:032x}" for k in numbers]
    fields = {"pool": pool, "worker": "w1", "bundle_id": name, "jobs": jobs, "shard": 1, "granted": granted}
    await bench.bus.publish([Outgoing(TOPICS.name("revocations"), 0, None, encode("revocation", fields))])


async def running(bench, worker, name, *faults):
    """Send a bundle and wait until its child is at it."""
    await bench.send(bundle(name, faulty(*faults)))
    await bench.until(lambda seen: name in bundles_of(seen, "started"))
    await soon(worker.pids)


def classes(items, name):
    return {number: one["error_class"] for (found, number), one in items.items() if found == name}


def pay(monkeypatch, worker):
    monkeypatch.setattr(worker._claims, "_capabilities", dataclasses.replace(worker._capabilities, paid=True))


async def test_on_a_pool_that_costs_nothing_runs_before_its_claim_is_granted(bench, monkeypatch):
    worker = await bench.worker(awaits_grants=True)
    pay(monkeypatch, worker)
    await bench.send(bundle("b", faulty("", "")))
    claim = (await bench.until(bool))[0]
    await revoke(bench, "b", granted="a lease of somebody else")
    await revoke(bench, "b", 1)
    await soon(lambda: len(worker._revoked))
    assert worker.pids() == []
    await revoke(bench, "b", granted=claim["lease_id"])
    await bench.until(lambda seen: sum(len(one["items"]) for one in seen) == 2)
    assert classes(await bench.finished(), "b") == {0: "", 1: "REVOKED"}


async def test_a_claim_that_nobody_grants_is_given_up_and_the_slot_goes_on(bench, monkeypatch):
    worker = await bench.worker(awaits_grants=True)
    pay(monkeypatch, worker)
    await bench.send(bundle("b", faulty(""), lease_ms=300))
    await soon(lambda: worker.counters.bundles_late == 1)
    assert (worker.pids(), worker.counters.jobs_done) == ([], 0)
    await bench.send(bundle("next", faulty("")))
    claims = await bench.until(lambda seen: any(one["bundle_id"] == "next" for one in seen))
    await revoke(bench, "next", granted=claims[-1]["lease_id"])
    assert classes(await bench.finished(), "next") == {0: ""}


async def test_a_run_that_nobody_wants_any_more_is_stopped_and_its_slot_runs_the_next(bench):
    worker = await bench.worker()
    await running(bench, worker, "b", "hang", "")
    (pid,) = worker.pids()
    began = time.monotonic()
    await revoke(bench, "b", 0, 1)
    assert classes(await bench.finished(), "b") == {0: "REVOKED", 1: "REVOKED"}
    assert time.monotonic() - began < 1
    assert not Path(f"/proc/{pid}").exists()
    await bench.send(bundle("next", faulty("")))
    assert classes(await bench.finished(2), "next") == {0: ""}
    assert (worker.counters.jobs_revoked, worker.counters.jobs_done) == (2, 1)
    assert len({one["lease_id"] for one in bench.seen if one["bundle_id"] == "b"}) == 1


async def test_a_bundle_in_hand_makes_room_at_once_and_the_run_before_it_goes_on(bench):
    worker = await bench.worker(prefetch=1)
    await running(bench, worker, "long", "hang")
    await bench.send(bundle("b", faulty("", "")))
    await soon(lambda: worker.counters.in_hand == 2)
    began = time.monotonic()
    await revoke(bench, "b", 0, 1)
    items = await bench.finished()
    assert time.monotonic() - began < 1
    assert classes(items, "b") == {0: "REVOKED", 1: "REVOKED"}
    assert items["b", 0]["problems"][0]["code"] == "SB-4002"
    assert "b" not in bundles_of(bench.seen, "started")
    await soon(lambda: worker.counters.in_hand == worker.counters.running == 1)
    await bench.kill(worker)


async def test_a_job_that_is_revoked_in_hand_is_taken_out_and_its_neighbours_run(bench):
    worker = await bench.worker(prefetch=1)
    await running(bench, worker, "long", "hang")
    await bench.send(bundle("b", faulty("", "hang", "")))
    await soon(lambda: worker.counters.in_hand == 2)
    await revoke(bench, "b", 1)
    await revoke(bench, "long", 0)
    items = await bench.until(lambda seen: [one["bundle_id"] for one in seen if one["items"]].count("b") == 2)
    assert items
    assert classes(await bench.finished(2), "b") == {0: "", 1: "REVOKED", 2: ""}


async def test_a_run_of_which_a_part_is_still_wanted_goes_on(bench):
    worker = await bench.worker(attempt_seconds=1.0)
    await running(bench, worker, "b", "hang", "")
    await revoke(bench, "b", 0)
    assert classes(await bench.finished(), "b") == {0: "TIMEOUT", 1: ""}


async def test_a_revocation_may_overtake_its_bundle_and_other_pools_are_not_concerned(bench):
    worker = await bench.worker()
    await revoke(bench, "b", 0)
    await revoke(bench, "other", 0, pool="aer")
    await bench.bus.publish([Outgoing(TOPICS.name("revocations"), 0, None, b"no revocation")])
    await soon(lambda: len(worker._revoked) == 1)
    await bench.send(bundle("b", faulty("crash")))
    await bench.send(bundle("other", faulty("")))
    items = await bench.finished(2)
    assert (classes(items, "b"), classes(items, "other")) == ({0: "REVOKED"}, {0: ""})
    assert worker.counters.children_crashed == 0


async def test_a_worker_that_starts_between_revocation_and_bundle_knows_of_it(bench):
    first = await bench.worker()
    await revoke(bench, "b", 0)
    await soon(lambda: len(first._revoked) == 1)
    await bench.stop(first)
    await bench.send(bundle("b", faulty("crash")))
    second = await bench.worker(name="w2")
    assert classes(await bench.finished(), "b") == {0: "REVOKED"}
    assert second.pids() == []


async def test_what_a_dead_worker_had_in_hand_is_not_run_by_its_successor_either(bench):
    first = await bench.worker(prefetch=1)
    await running(bench, first, "long", "hang")
    await bench.send(bundle("b", faulty("crash")))
    await soon(lambda: first.counters.in_hand == 2)
    await bench.kill(first)
    await revoke(bench, "b", 0)
    await bench.worker(name="w2")
    assert classes(await bench.finished(), "b") == {0: "REVOKED"}


async def test_a_paid_run_goes_on_because_its_provider_has_it(bench, monkeypatch):
    worker = await bench.worker(attempt_seconds=1.0)
    pay(monkeypatch, worker)
    await running(bench, worker, "b", "hang")
    await revoke(bench, "b", 0)
    assert classes(await bench.finished(), "b") == {0: "UNKNOWN_OUTCOME"}


@pytest.mark.parametrize("started", [True, False])
async def test_a_paid_run_is_cancelled_where_the_provider_takes_it_back_and_the_others_go_on(
    bench, monkeypatch, started
):
    worker = await bench.worker()
    pay(monkeypatch, worker)
    if started:
        await bench.send(bundle("first", faulty("")))
        await bench.finished()
    await bench.send(bundle("b", faulty("", "wait", "")))
    await bench.until(lambda seen: "b" in bundles_of(seen, "started"))
    # Whether its process is still being started, has just been sent the bundle, or waits.
    await soon(lambda: worker._revoked._told)
    await revoke(bench, "b", 1, 2)
    items = await bench.finished(1 + started)
    assert classes(items, "b") == {0: "", 1: "REVOKED", 2: "REVOKED"}
    assert "as it was asked to" in items["b", 1]["problems"][0]["detail"]
    assert (worker.counters.jobs_revoked, worker.counters.jobs_failed) == (2, 0)
    await bench.send(bundle("next", faulty("", "")))
    assert classes(await bench.finished(2 + started), "next") == {0: "", 1: ""}


async def test_a_paid_job_that_is_revoked_before_its_claim_is_durable_is_not_submitted(bench, monkeypatch):
    worker = await bench.worker(advertise_seconds=60.0)
    pay(monkeypatch, worker)
    publish, back = worker.test_bus.publish, asyncio.Event()

    async def away(published):
        if not back.is_set():
            raise BusError("away")
        return await publish(published)

    monkeypatch.setattr(worker.test_bus, "publish", away)
    await bench.send(bundle("b", faulty("", "crash")))
    await soon(lambda: worker.counters.bus_errors >= 2)
    await revoke(bench, "b", 1)
    await soon(lambda: len(worker._revoked) == 1)
    back.set()
    await bench.until(lambda seen: sum(len(one["items"]) for one in seen) == 2)
    assert classes(await bench.finished(), "b") == {0: "", 1: "REVOKED"}


async def test_nothing_of_a_paid_bundle_runs_twice_after_its_process_died(bench, monkeypatch):
    worker = await bench.worker()
    pay(monkeypatch, worker)
    await bench.send(bundle("b", faulty("", "crash")))
    items = await bench.finished()
    assert classes(items, "b") == {0: "UNKNOWN_OUTCOME", 1: "UNKNOWN_OUTCOME"}
    assert items["b", 0]["problems"][0]["detail"] == "signal 9"
    assert worker.counters.children_started == 1


@pytest.mark.parametrize("purpose", ["look_up", "cancel"])
@pytest.mark.parametrize("pool", ["faulty", "noop"])
async def test_a_look_up_runs_nothing_even_when_it_was_revoked(bench, pool, purpose):
    await bench.worker(pool)
    await revoke(bench, "b", 0, pool=pool)
    raw = bundle("b", faulty("crash", "hang"), pool=pool)
    asking = encode("work_bundle", {**decode(raw)[1], "purpose": purpose})
    await bench.send(asking, pool=pool)
    items = await bench.finished()
    assert [items["b", k]["found"] for k in range(2)] == ["absent", "absent"]
    assert classes(items, "b") == {0: "", 1: ""}


async def test_reading_of_revocations_goes_on_after_the_bus_was_away(bench, monkeypatch):
    worker = await bench.worker()
    await running(bench, worker, "b", "hang")
    reader = worker._revocations._reader

    async def away(**_):
        raise BusError("away")

    monkeypatch.setattr(reader, "poll", away)
    await revoke(bench, "b", 0)
    assert classes(await bench.finished(), "b") == {0: "REVOKED"}
    assert worker.counters.bus_errors == 1


@pytest.fixture
def client(tmp_path):
    place = tmp_path / "data"
    place.mkdir()
    (place / "shotbus.toml").write_text(SLEEPY)
    config = dataclasses.replace(Config(), pools={"dozing": PoolConfig(adapter="sleep", kind="none")})
    with Broker(place, "dozing") as broker, Client(broker.url, config=config) as made:
        made.url = broker.url
        yield made


def doze(client, seconds):
    return client.submit(BELL, backend="dozing", options={"seconds": str(seconds)})


def forwarded(job):
    """Whether a worker has it in hand."""
    return job.details()["sub_status"] == "FORWARDED"


def told_revoked(client):
    """When a worker said so, wall time in seconds, by job."""
    outcomes = [decode(one.value, "outcome")[1] for one in records(client.url, "outcomes")]
    items = [(item, outcome["at_us"] / 1e6) for outcome in outcomes for item in outcome["items"]]
    return {item["job_id"]: at for item, at in items if item["error_class"] == "REVOKED"}


def cancelled(job):
    with pytest.raises(JobFailedError) as ended:
        job.result(60)
    return ended.value.outcome == "cancelled"


def test_cancelling_what_runs_frees_its_slot_within_a_second_and_the_next_job_runs(client):
    doze(client, 0).result(60)
    long = doze(client, 600)
    eventually(lambda: long.status() == "RUNNING")
    after = doze(client, 0)
    began = time.time()
    long.cancel()
    assert after.result(60).outcome == "succeeded"
    assert cancelled(long)
    assert told_revoked(client)[long.job_id] - began < 1


def test_cancelling_what_a_worker_has_in_hand_makes_room_within_a_second_and_the_next_job_comes(client):
    running = doze(client, 600)
    eventually(lambda: running.status() == "RUNNING")
    in_hand = doze(client, 600)
    eventually(lambda: forwarded(in_hand))
    after = doze(client, 0)
    began = time.time()
    in_hand.cancel()
    eventually(lambda: forwarded(after))
    assert cancelled(in_hand)
    assert told_revoked(client)[in_hand.job_id] - began < 1
    running.cancel()
    assert after.result(60).outcome == "succeeded"
