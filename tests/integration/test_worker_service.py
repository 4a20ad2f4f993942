"""A worker on a bus: claims, runs, reports; blames the right job; hands over; drains."""

import asyncio
import dataclasses
import os
import signal
from pathlib import Path

import pytest
from worker_kit import (
    TOPICS,
    Bench,
    angles,
    bundle,
    bundles_of,
    circuit_record,
    eventually,
    faulty,
    request,
    rotations,
)

from shotbus.broker.bus.base import BusError, Outgoing, TopicPartition
from shotbus.broker.stages import Timings
from shotbus.schemas.codec import encode
from shotbus.schemas.ids import circuit_id
from shotbus.schemas.pub import unpack_result

TEXT, NAMES = rotations(2)


@pytest.fixture
async def bench():
    made = await Bench().open()
    yield made
    await made.close()


def of_bundle(outcomes, name):
    return [outcome for outcome in outcomes if outcome["bundle_id"] == name]


def kinds_of(outcomes):
    return [outcome["kind"] for outcome in outcomes]


async def test_a_bundle_is_started_kept_alive_and_finished_under_one_lease(bench):
    await bench.worker(attempt_seconds=1.0)
    await bench.send(bundle("b", faulty("hang"), lease_ms=300))
    await bench.finished()
    kinds = kinds_of(bench.seen)
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert kinds.count("heartbeat") >= 3
    assert len({outcome["lease_id"] for outcome in bench.seen}) == 1
    assert {outcome["worker"] for outcome in bench.seen} == {"w1"}


async def test_results_come_from_a_circuit_on_the_bus_with_stages_and_provenance(bench):
    await bench.publish_circuit(TEXT)
    worker = await bench.worker("aer")
    await bench.send(bundle("b", [request(TEXT, angles(NAMES, 3))], pool="aer"), pool="aer")
    one = (await bench.finished())["b", 0]
    assert unpack_result(one["payload"]).points == 3
    assert one["shots"] == 300
    stages = Timings.unpack(one["timings"]).as_dict()
    assert {"lease", "compile", "execute", "decode"} <= stages.keys()
    assert bench.seen[-1]["executed_on"] == "aer_simulator"
    assert await bench.store.get_many([f"circuit:{circuit_id(TEXT)}"]) == [circuit_record(TEXT)]
    assert worker.counters.circuits_from_bus == 1


async def test_circuits_come_from_the_store_when_it_has_them(bench):
    await bench.store.put_many({f"circuit:{circuit_id(TEXT)}": circuit_record(TEXT)})
    worker = await bench.worker("aer")
    await bench.send(bundle("b", [request(TEXT, angles(NAMES, 1))], pool="aer"), pool="aer")
    assert (await bench.finished())["b", 0]["error_class"] == ""
    assert (worker.counters.circuits_from_store, worker.counters.circuits_from_bus) == (1, 0)


async def test_a_text_that_is_not_what_its_id_says_is_never_run(bench):
    other, _ = rotations(1)
    await bench.store.put_many({f"circuit:{circuit_id(TEXT)}": circuit_record(other)})
    await bench.publish_circuit(other, key=circuit_id(TEXT))
    await bench.worker("aer")
    await bench.send(bundle("b", [request(TEXT, angles(NAMES, 1))], pool="aer"), pool="aer")
    one = (await bench.finished())["b", 0]
    assert (one["error_class"], one["problems"][0]["code"]) == ("TRANSIENT", "SB-1219")


async def test_a_dead_store_is_an_empty_one(bench):
    await bench.publish_circuit(TEXT)
    await bench.worker("aer")
    await bench.store.close()
    await bench.send(bundle("b", [request(TEXT, angles(NAMES, 1))], pool="aer"), pool="aer")
    assert (await bench.finished())["b", 0]["error_class"] == ""


async def test_only_the_job_that_kills_its_process_is_reported_as_crashed(bench):
    worker = await bench.worker()
    await bench.send(bundle("b", faulty("", "crash", "", "crash", "transient")))
    items = await bench.finished()
    assert [items["b", k]["error_class"] for k in range(5)] == ["", "CRASHED", "", "CRASHED", "TRANSIENT"]
    assert items["b", 1]["problems"][0]["code"] == "SB-5003"
    await eventually(lambda: worker.counters.jobs_done == 5)
    assert worker.counters.jobs_failed == 3
    assert worker.counters.children_crashed >= 3


async def test_only_the_job_that_hangs_is_reported_as_timed_out(bench):
    await bench.worker(attempt_seconds=0.5)
    await bench.send(bundle("b", faulty("", "hang", "")))
    items = await bench.finished()
    assert [items["b", k]["error_class"] for k in range(3)] == ["", "TIMEOUT", ""]
    assert items["b", 1]["problems"][0]["code"] == "SB-5004"


async def test_when_time_for_single_runs_is_up_the_rest_comes_back_unstarted(bench):
    await bench.worker(attempt_seconds=0.3, isolation_seconds=0.0)
    await bench.send(bundle("b", faulty("hang", "")))
    items = await bench.finished()
    assert {items["b", k]["error_class"] for k in range(2)} == {"NOT_STARTED"}


async def test_a_child_killed_from_outside_costs_no_job_its_result(bench):
    worker = await bench.worker(attempt_seconds=20.0)
    await bench.send(bundle("first", faulty("")))
    await bench.finished()
    (pid,) = worker.pids()
    os.kill(pid, signal.SIGKILL)
    await bench.send(bundle("b", faulty("", "")))
    items = await bench.finished(2)
    assert [items["b", k]["error_class"] for k in range(2)] == ["", ""]


async def test_a_host_that_cannot_start_children_does_not_blame_the_jobs(bench):
    await bench.worker(child_start_seconds=0.001)
    await bench.send(bundle("b", faulty("", "")))
    items = await bench.finished()
    assert {items["b", k]["error_class"] for k in range(2)} == {"TRANSIENT"}
    assert items["b", 0]["problems"][0]["code"] == "SB-5002"


async def test_bundles_that_come_too_late_and_records_that_are_none_are_passed(bench):
    worker = await bench.worker()
    await bench.send(bundle("late", faulty(""), late=True))
    await bench.send(b"no bundle at all")
    await bench.send(encode("circuit", {"circuit_id": "", "language": "openqasm3", "text": ""}))
    await bench.send(bundle("b", faulty("")))
    await bench.finished()
    assert not of_bundle(bench.seen, "late")
    assert (worker.counters.bundles_late, worker.counters.bundles_unreadable) == (1, 2)


async def test_a_large_bundle_comes_back_in_records_that_all_fit(bench):
    text = 'OPENQASM 3.0; include "stdgates.inc"; qubit[15] q; bit[15] c; h q; c = measure q;'
    await bench.publish_circuit(text)
    await bench.worker("aer")
    await bench.send(
        bundle("b", [request(text, shots=40_000)] * 9, pool="aer", seeds=[*range(9)]), pool="aer"
    )
    items = await bench.finished(seconds=60)
    records = [outcome for outcome in bench.seen if outcome["kind"] == "finished"]
    assert len(items) == 9
    assert len(records) > 1
    assert all(sum(len(one["payload"]) for one in record["items"]) <= 900_000 for record in records)


async def test_no_more_than_slots_and_prefetch_are_taken_from_the_bus(bench):
    worker = await bench.worker(slots=2, prefetch=1)
    for number in range(8):
        await bench.send(bundle(f"b{number}", faulty("hang")))
    await bench.until(lambda seen: len(bundles_of(seen, "started")) == 2)
    await eventually(lambda: worker.counters.in_hand == 3)
    assert worker.counters.running == 2
    await bench.kill(worker)


async def test_room_is_filled_as_soon_as_it_is_free(bench):
    worker = await bench.worker(slots=1, prefetch=0)
    for number in range(12):
        await bench.send(bundle(f"b{number}", faulty("")), partition=number % 4)
    await bench.finished(12)
    await eventually(lambda: worker.counters.in_hand == 0)


async def test_inline_bundles_are_answered_with_finished_alone(bench):
    worker = await bench.worker("noop")
    records = [
        Outgoing(TOPICS.work("noop"), k % 4, b"b", bundle(f"b{k}", faulty(*[""] * 64), pool="noop"))
        for k in range(40)
    ]
    await bench.bus.publish(records)
    items = await bench.finished(40)
    assert len(items) == 40 * 64
    assert {outcome["kind"] for outcome in bench.seen} == {"finished"}
    assert {one["payload"] for one in items.values()} == {b""}
    assert worker.pids() == []
    assert worker.counters.jobs_done == 40 * 64


async def test_late_inline_bundles_are_passed_too(bench):
    worker = await bench.worker("noop")
    await bench.send(bundle("late", faulty(""), pool="noop", late=True), pool="noop")
    await bench.send(bundle("b", faulty(""), pool="noop"), pool="noop")
    await bench.finished()
    assert not of_bundle(bench.seen, "late")
    await eventually(lambda: worker.counters.bundles_late == 1)


async def test_reports_wait_for_a_bus_that_is_away(bench, monkeypatch):
    from shotbus.broker.bus.base import BusError

    worker = await bench.worker(advertise_seconds=60.0)
    publish, refused = worker.test_bus.publish, []

    async def away(records):
        if len(refused) < 3 and any(record.topic == TOPICS.name("outcomes") for record in records):
            refused.append(records)
            raise BusError("away")
        return await publish(records)

    monkeypatch.setattr(worker.test_bus, "publish", away)
    await bench.send(bundle("b", faulty("")))
    items = await bench.finished()
    assert items["b", 0]["error_class"] == ""
    assert [kind for kind in kinds_of(bench.seen) if kind != "heartbeat"] == ["started", "finished"]
    assert worker.counters.bus_errors == 3


async def test_slots_run_side_by_side(bench):
    worker = await bench.worker(slots=2, attempt_seconds=1.0)
    await bench.send(bundle("one", faulty("hang")))
    await bench.send(bundle("two", faulty("hang")), partition=1)
    await eventually(lambda: worker.counters.running == 2)
    await eventually(lambda: len(worker.pids()) == 2)
    await bench.finished(2)


async def test_a_hard_stop_leaves_no_child_behind(bench):
    worker = await bench.worker(slots=1)
    await bench.send(bundle("b", faulty("hang")))
    await eventually(worker.pids)
    (pid,) = worker.pids()
    await bench.kill(worker)
    assert worker.pids() == []
    assert not Path(f"/proc/{pid}").exists()
    await asyncio.sleep(0)


async def test_a_paid_backend_is_not_called_before_the_claim_is_durable(bench, monkeypatch):
    worker = await bench.worker(advertise_seconds=60.0)
    monkeypatch.setattr(worker._claims, "_capabilities", dataclasses.replace(worker._capabilities, paid=True))
    publish, back = worker.test_bus.publish, asyncio.Event()

    async def away(records):
        if not back.is_set():
            raise BusError("away")
        return await publish(records)

    monkeypatch.setattr(worker.test_bus, "publish", away)
    await bench.send(bundle("b", faulty("")))
    await eventually(lambda: worker.counters.bus_errors >= 3)
    assert worker.pids() == []
    back.set()
    assert (await bench.finished())["b", 0]["error_class"] == ""


async def test_a_paid_backend_is_not_called_when_the_claim_came_too_late(bench, monkeypatch):
    worker = await bench.worker()
    monkeypatch.setattr(worker._claims, "_capabilities", dataclasses.replace(worker._capabilities, paid=True))
    start = worker._reporter.start

    async def late(*claimed):
        await start(*claimed)
        clock = worker._clock.wall_ms
        monkeypatch.setattr(worker._clock, "wall_ms", lambda: clock() + 3_600_000, raising=False)

    monkeypatch.setattr(worker._reporter, "start", late)
    await bench.send(bundle("b", faulty("")))
    await eventually(lambda: worker.counters.bundles_late)
    assert (worker.counters.bundles_started, worker.pids()) == (1, [])


async def test_work_is_trimmed_behind_what_is_committed(bench):
    worker = await bench.worker("noop")
    partition = TopicPartition(TOPICS.work("noop"), 0)
    for _ in range(6):
        await bench.bus.publish([Outgoing(*partition, b"b", bundle("b", faulty(""), pool="noop"))] * 64)
    await eventually(lambda: worker.counters.jobs_done == 6 * 64)
    async with asyncio.timeout(10):
        while (await bench.bus.begins([partition]))[partition] == 0:
            await asyncio.sleep(0.01)


async def test_bundles_that_were_deleted_unread_are_passed_and_counted(bench):
    worker = await bench.worker(prefetch=0, attempt_seconds=1.0)
    await bench.send(bundle("first", faulty("hang")))
    await eventually(lambda: worker.counters.in_hand == 1)
    for _ in range(3):
        offsets = await bench.send(bundle("deleted", faulty("")))
    await bench.bus.trim({TopicPartition(TOPICS.work("faulty"), 0): offsets[-1] + 1})
    await bench.finished()
    await eventually(lambda: worker.counters.gaps == 1)
    await bench.send(bundle("next", faulty("")))
    await bench.finished(2)
    assert bundles_of(bench.seen, "started") == {"first", "next"}
