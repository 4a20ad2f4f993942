"""Child processes for real: what they see, what they may take, how they end, what the worker learns of it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from worker_kit import angles, bundle, circuit_record, faulty, request, rotations

from shotbus.broker.children.confine import child_environment
from shotbus.broker.children.process import ChildDiedError, ChildStartError, ChildTimeoutError
from shotbus.broker.config import TimeoutsConfig
from shotbus.schemas.codec import decode
from shotbus.schemas.pub import unpack_result
from shotbus.workers.process import Child

HEAD = {"worker": "w", "lease_id": "l"}
TEXT, NAMES = rotations(2)


@pytest.fixture
async def child(request):
    adapter, megabytes = getattr(request, "param", ("faulty", 8_192))
    made = Child(adapter, memory_bytes=megabytes << 20, start_seconds=60)
    yield made
    await made.kill()


async def nothing(names):
    return dict.fromkeys(names)


async def run(child, requests, *, seconds=60, fetch=nothing):
    report = await child.run(HEAD, bundle("b", requests), fetch, seconds=seconds)
    return [decode(record, "outcome")[1] for record in report.outcomes], report.failures


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "zombie" not in Path(f"/proc/{pid}/status").read_text()


async def gone(pid):
    async with asyncio.timeout(10):
        while alive(pid):
            await asyncio.sleep(0.01)


async def test_a_child_answers_and_is_kept_warm(child):
    (outcome,), failures = await run(child, faulty("", "transient"))
    assert (outcome["kind"], outcome["lease_id"], outcome["worker"], failures) == ("finished", "l", "w", 1)
    assert [one["error_class"] for one in outcome["items"]] == ["", "TRANSIENT"]
    first = child.pid
    await run(child, faulty(""))
    assert (child.pid, child.starts, child.runs) == (first, 1, 2)


async def test_what_an_sdk_prints_does_not_damage_the_frames(child):
    (outcome,), _ = await run(child, faulty("print", ""))
    assert [one["error_class"] for one in outcome["items"]] == ["", ""]


async def test_a_defect_in_an_adapter_is_an_answer_not_a_death_and_spares_the_neighbours(child):
    (outcome,), failures = await run(child, faulty("raise", ""))
    assert [one["error_class"] for one in outcome["items"]] == ["INTERNAL", ""]
    assert failures == 1
    assert outcome["items"][0]["problems"][0]["detail"] == "RuntimeError"
    assert child.pid is not None


async def test_a_death_is_told_with_its_signal_and_the_next_run_starts_another(child):
    with pytest.raises(ChildDiedError, match="signal 9"):
        await run(child, faulty("crash"))
    assert child.pid is None
    await run(child, faulty(""))
    assert child.starts == 2


async def test_a_hang_is_ended_in_time_and_leaves_no_process(child):
    await run(child, faulty(""))
    pid = child.pid
    begun = time.monotonic()
    with pytest.raises(ChildTimeoutError):
        await run(child, faulty("hang"), seconds=0.3)
    assert time.monotonic() - begun < 5
    assert not alive(pid)


async def test_a_stage_that_takes_longer_than_its_own_limit_is_ended_and_named():
    limits = TimeoutsConfig(compile=0.01, execute=0.4)
    child = Child("sleep", memory_bytes=8 << 30, start_seconds=60, timeouts=limits)
    try:
        # Each job has the whole limit: together they take longer.
        naps = [request(options={"seconds": "0.25"})] * 2
        assert (await run(child, naps))[1] == 0
        pid = child.pid
        with pytest.raises(ChildTimeoutError, match=r"^execute took longer than 0.4 s$"):
            await run(child, [request(options={"seconds": "60"})])
        assert not alive(pid)
    finally:
        await child.kill()


async def test_cancelling_a_run_leaves_no_process(child):
    await run(child, faulty(""))
    pid = child.pid
    task = asyncio.create_task(run(child, faulty("hang")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(pid)


@pytest.mark.parametrize("child", [("faulty", 2_048)], indirect=True)
async def test_the_memory_cap_turns_a_memory_bomb_into_an_answer(child):
    (outcome,), _ = await run(child, faulty("memory", ""))
    assert [one["error_class"] for one in outcome["items"]] == ["CONSTRAINT", ""]


@pytest.mark.parametrize("child", [("aer", 3_072)], indirect=True)
async def test_a_circuit_too_large_for_the_cap_is_refused_and_the_child_goes_on(child):
    big = 'OPENQASM 3.0; include "stdgates.inc"; qubit[28] q; bit[28] c; h q; t q; h q; c = measure q;'
    small = 'OPENQASM 3.0; include "stdgates.inc"; qubit[1] q; bit[1] c; c = measure q;'

    async def fetch(names):
        known = {
            one["circuit_id"]: record
            for record in map(circuit_record, (big, small))
            for one in [decode(record)[1]]
        }
        return {name: known[name] for name in names}

    (outcome,), _ = await run(child, [request(big), request(small)], fetch=fetch)
    assert [one["error_class"] for one in outcome["items"]] == ["CONSTRAINT", ""]
    assert outcome["items"][0]["problems"][0]["code"] == "SB-1110"
    assert child.pid is not None


@pytest.mark.parametrize(("adapter", "seconds"), [("faulty", 0.001), ("no such adapter", 60)])
async def test_a_child_that_cannot_start_is_the_hosts_fault(adapter, seconds):
    child = Child(adapter, memory_bytes=8 << 30, start_seconds=seconds)
    with pytest.raises(ChildStartError):
        await run(child, faulty(""))
    assert child.pid is None


async def test_secrets_of_the_worker_stay_with_the_worker(child, monkeypatch):
    monkeypatch.setenv("SHOTBUS__KAFKA__SASL_PASSWORD", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    await run(child, faulty(""))
    seen = dict(
        entry.split("=", 1) for entry in Path(f"/proc/{child.pid}/environ").read_text().split("\0") if entry
    )
    assert "secret" not in "".join(seen.values())
    assert (seen["OMP_NUM_THREADS"], seen["OPENBLAS_NUM_THREADS"], seen["PYTHONHASHSEED"]) == ("1", "1", "0")
    assert seen == child_environment(os.environ)


async def test_a_child_dies_with_its_worker_even_in_the_middle_of_a_run():
    code = """
import asyncio, os, sys
sys.path.append(sys.argv[1])
from worker_kit import bundle, faulty
from shotbus.workers.process import Child
async def main():
    child = Child("faulty", memory_bytes=8 << 30, start_seconds=60)
    await child.run({"worker": "w", "lease_id": "l"}, bundle("b", faulty("")), None, seconds=60)
    print(child.pid, flush=True)
    await child.run({"worker": "w", "lease_id": "l"}, bundle("b", faulty("hang")), None, seconds=60)
asyncio.run(main())
"""
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(Path(__file__).parents[1]), stdout=subprocess.PIPE
    )
    pid = int(await worker.stdout.readline())
    assert alive(pid)
    worker.send_signal(signal.SIGKILL)
    await worker.wait()
    await gone(pid)


def test_a_child_whose_worker_is_already_gone_does_not_begin():
    command = [sys.executable, "-m", "shotbus.workers.child", "--adapter", "faulty"]
    command += ["--memory-bytes", str(8 << 30), "--parent", "1"]
    ended = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    assert ended.returncode != 0
    assert b"OrphanedError" in ended.stderr
    assert ended.stdout == b""


@pytest.mark.parametrize("child", [("aer", 8_192)], indirect=True)
async def test_circuits_are_asked_for_once(child):
    asked = []

    async def fetch(names):
        asked.append(list(names))
        return {name: circuit_record(TEXT) for name in names}

    for _ in range(2):
        (outcome,), _ = await run(child, [request(TEXT, angles(NAMES, 2))] * 2, fetch=fetch)
        assert unpack_result(outcome["items"][0]["payload"]).points == 2
    assert [len(names) for names in asked] == [1]
    said = json.loads(outcome["provenance"])
    assert said["versions"].keys() == {"shotbus", "python", "numpy", "qiskit", "qiskit-aer"}
    (facts,) = said["circuits"].values()
    assert facts.keys() == {
        "method",
        "optimization_level",
        "depth",
        "operations",
        "two_qubit_gates",
        "gates",
        "initial_layout",
        "layout",
        "target",
        "compiled_key",
        "seed_transpiler",
        "compiled",
    }


@pytest.mark.parametrize("child", [("aer", 8_192)], indirect=True)
async def test_a_circuit_that_nobody_has_is_worth_another_try(child):
    (outcome,), _ = await run(child, [request(TEXT, angles(NAMES, 2))])
    (one,) = outcome["items"]
    assert (one["error_class"], one["problems"][0]["code"]) == ("TRANSIENT", "SB-1219")
