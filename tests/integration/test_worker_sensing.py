"""Workers that know how their backend is: asked between runs, told on ``pools``, no work while it is ill."""

import asyncio
import json
import os
import signal
from dataclasses import replace

import pytest
from worker_kit import TOPICS, Bench, advertise, bundle, eventually, faulty

from shotbus.broker.bus.base import TopicPartition
from shotbus.schemas.errors import ShotbusError
from shotbus.workers.adapters.base import BackendState, load
from shotbus.workers.service import WorkerService
from shotbus.workers.settings import WorkerSettings

W1 = b"w/faulty/w1"
QUICK = {"advertise_seconds": 0.1, "sense_seconds": 0.2, "dispatcher_silent_seconds": 60.0}


@pytest.fixture
async def bench(tmp_path):
    made = await Bench().open()
    made.file = tmp_path / "state.json"
    yield made
    await made.close()


def say(bench, **fields):
    """Let the backend be so from now on; a file that is read while it is written would be half of it."""
    new = bench.file.with_suffix(".new")
    new.write_text(json.dumps(fields))
    new.replace(bench.file)


async def sensing(bench, **settings):
    options = {"state_file": str(bench.file)}
    return await bench.worker(options=options, **{**QUICK, **settings})


async def test_an_ill_worker_grants_nothing_from_the_start_and_again_once_it_is_well(bench):
    say(bench, unhealthy="no token")
    await advertise(bench, "d", faulty=5.0)
    await sensing(bench)
    told = await bench.status_until(W1, lambda one: one["partitions"])
    assert (told["unhealthy"], told["grants"], told["state"]) == ("no token", {}, "ready")
    assert [one["grants"] for one in await bench.statuses(W1)] == [{}] * len(await bench.statuses(W1))
    bench.file.unlink()
    told = await bench.status_until(W1, lambda one: one["grants"])
    assert (told["unhealthy"], told["grants"]) == ("", {"d": 2})
    say(bench, unhealthy="power cut")
    told = await bench.status_until(W1, lambda one: one["unhealthy"])
    assert (told["unhealthy"], told["grants"]) == ("power cut", {})


async def test_what_a_backend_says_is_advertised_with_its_units(bench):
    numbers = {"fidelity": 0.98, "t1_us": 120.0, "t2_us": 90.0, "provider_queue_seconds": 4.5}
    say(bench, calibration_id="monday", calibrated_ms=7, **numbers)
    await sensing(bench)
    told = await bench.status_until(W1, lambda one: one["calibration_id"])
    assert {name: told[name] for name in numbers} == numbers
    assert (told["calibrated_ms"], told["unhealthy"], told["errors"]) == (7, "", 0.0)


async def test_a_worker_that_is_never_idle_is_asked_too(bench):
    worker = await sensing(bench, advertise_seconds=30.0)
    await bench.status_until(W1, lambda one: one["partitions"])
    say(bench, calibration_id="tuesday")
    sent = 0
    async with asyncio.timeout(20):
        while (await bench.statuses(W1))[-1]["calibration_id"] != "tuesday":
            if worker.counters.in_hand < 2:
                await bench.send(bundle(f"b{sent}", faulty("")))
                sent += 1
            await asyncio.sleep(0.005)
    assert worker.counters.children_started == 1


async def test_the_share_of_attempts_that_the_backend_failed_is_advertised(bench):
    await bench.worker(advertise_seconds=0.1)
    await bench.send(bundle("b", faulty(*["down"] * 30, "")))
    told = await bench.status_until(W1, lambda one: one["done"] == 31)
    assert (told["failed"], told["errors"] > 0.7) == (30, True)


async def test_a_child_that_ends_between_runs_is_replaced_and_its_successor_asked(bench):
    worker = await sensing(bench)
    await bench.status_until(W1, lambda one: one["partitions"])
    os.kill(worker.pids()[0], signal.SIGKILL)
    await eventually(lambda: worker.counters.children_started == 2 and worker.counters.children_crashed == 1)
    await bench.status_until(W1, lambda one: not one["unhealthy"])


async def test_a_job_that_kills_the_process_that_was_asked_before_is_blamed_at_once(bench):
    worker = await sensing(bench)
    await bench.status_until(W1, lambda one: one["partitions"])
    await bench.send(bundle("b", faulty("crash")))
    items = await bench.finished()
    assert items["b", 0]["error_class"] == "CRASHED"
    assert worker.counters.children_crashed == 1


async def test_a_process_that_cannot_start_makes_its_worker_ill(bench):
    await sensing(bench, memory_bytes=64 << 20, child_start_seconds=20.0)
    told = await bench.status_until(W1, lambda one: one["unhealthy"])
    assert "ChildStartError" in told["unhealthy"]


async def test_whoever_knows_nothing_of_its_backend_starts_no_process_for_it(bench):
    worker = await bench.worker(advertise_seconds=0.05)
    await eventually(lambda: worker.counters.in_hand == 0 and bench.cluster is not None)
    partition = TopicPartition(TOPICS.name("pools"), 0)
    async with asyncio.timeout(10):
        while (await bench.bus.ends([partition]))[partition] < 5:
            await asyncio.sleep(0.01)
    assert (worker.pids(), worker.counters.children_started) == ([], 0)


class InlineDevice:
    """An inline adapter whose backend is what it is told."""

    def __init__(self):
        self.state = BackendState(calibration_id="monday")
        self._noop = load("noop")
        self.capabilities = replace(self._noop.capabilities, executed_on="device")

    def run(self, batch):
        return self._noop.run(batch)

    def provenance(self, _):
        return {"backend": "device"}

    def sense(self):
        return self.state

    def calibration(self, _):
        return None


async def test_an_inline_adapter_is_asked_in_the_workers_own_process(bench):
    device = InlineDevice()
    await advertise(bench, "d", noop=5.0)
    await bench.worker("noop", adapter=device, **QUICK)
    told = await bench.status_until(b"w/noop/w1", lambda one: one["grants"])
    assert told["calibration_id"] == "monday"
    device.state = BackendState("gone fishing", "tuesday")
    told = await bench.status_until(b"w/noop/w1", lambda one: one["unhealthy"])
    assert (told["calibration_id"], told["grants"]) == ("tuesday", {})


async def test_wrong_options_stop_a_worker_before_it_begins(bench):
    settings = WorkerSettings("qpu", "faulty", "w", options={"state_fil": "x"})
    with pytest.raises(ShotbusError) as refused:
        WorkerService(bench.bus, bench.store, TOPICS, settings)
    (problem,) = refused.value.problems
    assert (problem.code, problem.path) == ("SB-2001", "$.pools.qpu.options.state_fil")
    assert "state_file" in problem.hint
