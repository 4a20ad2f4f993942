"""Pools on the command line: their state is the dispatchers', a drain ends when nothing is in flight."""

import contextlib
import json
import signal
import subprocess
import sys

import pytest
from cli_kit import invoke, make_folder, said, told
from embedded_kit import BELL, Broker, eventually

WORKER = ["worker", "--pool", "noop"]


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with Broker(tmp_path_factory.mktemp("broker") / "data", "noop", "aer") as broker:
        yield broker


@pytest.fixture(scope="module")
def folder(broker):
    return make_folder(broker)


def pool(folder, name, *data):
    return next(one for one in told(folder, "pools", "list", *data)["pools"] if one["pool"] == name)


def test_pools_are_listed_with_their_workers_in_a_hundred_columns(folder):
    # A worker advertises itself a moment after the broker says that it is ready.
    eventually(lambda: len(told(folder, "pools", "list")["processes"]) == 3)
    listed = told(folder, "pools", "list")
    assert [one["pool"] for one in listed["pools"]] == ["aer", "classical", "noop", "vector"]
    assert {(one["role"], one["pool"]) for one in listed["processes"]} == {
        ("dispatcher", ""),
        ("worker", "noop"),
        ("worker", "aer"),
    }
    assert [pool(folder, name)["workers"] for name in ("aer", "classical")] == [1, 0]
    text, wide = said(folder, "pools", "list"), said(folder, "pools", "list", "--wide")
    assert "dispatcher" in wide
    assert "dispatcher" not in text
    assert max(map(len, (text + wide).splitlines())) <= 100


def test_a_pause_is_in_force_on_return_shown_and_undone(folder):
    paused = told(folder, "pools", "pause", "noop", "--reason", "test")
    assert paused == {"pool": "noop", "command": "pause", "state": "paused", "waiting": 0, "in_flight": 0}
    job = told(folder, "submit", "bell.qasm", "--backend", "noop")["job_id"]
    assert (pool(folder, "noop")["state"], pool(folder, "noop")["waiting"]) == ("paused", 1)
    assert "paused" in said(folder, "pools", "list")
    assert pool(folder, "aer")["state"] == "ready"
    assert said(folder, "pools", "resume", "noop").startswith("noop is ready")
    assert told(folder, "result", job)["outcome"] == "succeeded"
    assert pool(folder, "noop")["state"] == "ready"


@pytest.mark.parametrize("verb", ["pause", "resume", "drain"])
def test_an_unknown_pool_exits_with_2(folder, verb):
    (error,) = told(folder, "pools", verb, "nowhere", code=2)["errors"]
    assert (error["code"], error["path"]) == ("SB-1102", "POOL")


def test_an_idle_pool_is_drained_at_once(folder):
    drained = told(folder, "pools", "drain", "aer", "--timeout", "20")
    assert (drained["drained"], drained["state"], drained["in_flight"]) == (True, "paused", 0)
    assert "nothing is in flight" in said(folder, "pools", "drain", "aer")
    said(folder, "pools", "resume", "aer")


def test_a_pause_outlives_the_broker(tmp_path):
    data = ["--data", tmp_path / "data"]
    with Broker(tmp_path / "data", "noop"):
        said(tmp_path, "pools", "pause", "noop", *data)
    with Broker(tmp_path / "data", "noop"):
        assert pool(tmp_path, "noop", *data)["state"] == "paused"


def start(folder, *words):
    command = [sys.executable, "-m", "shotbus", *words, "--json", "--data", str(folder / "data")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=folder)
    assert json.loads(process.stdout.readline())["ready"]
    return process


def stop(process):
    process.terminate()
    process.wait(timeout=30)
    process.stdout.close()


@pytest.fixture
def in_flight(tmp_path):
    """Two dispatchers and a job that they have sent to a worker just killed; starts another on demand."""
    (tmp_path / "bell.qasm").write_text(BELL)
    data = ["--data", tmp_path / "data"]
    roles = [["dispatcher"], ["dispatcher"], ["reducer"], WORKER]
    with contextlib.ExitStack() as running:
        processes = [start(tmp_path, *words) for words in roles]
        for process in processes:
            running.callback(stop, process)
        told(tmp_path, "submit", "bell.qasm", "--backend", "noop", "--wait", *data)
        # Its credits are good for some seconds more.
        processes[-1].kill()
        told(tmp_path, "submit", "bell.qasm", "--backend", "noop", *data)
        eventually(lambda: pool(tmp_path, "noop", *data)["in_flight"] == 1)
        yield tmp_path, data, lambda: running.callback(stop, start(tmp_path, *WORKER))


def test_a_drain_waits_until_the_workers_have_answered(in_flight):
    folder, data, start_worker = in_flight
    (error,) = told(folder, "pools", "drain", "noop", "--timeout", "0.3", *data, code=5)["errors"]
    assert (error["code"], error["actual"]) == ("SB-4006", "1 job in flight")
    assert "shotbus pools drain noop" in error["hint"]
    assert pool(folder, "noop", *data)["state"] == "paused"
    start_worker()
    assert told(folder, "pools", "drain", "noop", "--timeout", "30", *data)["drained"]


def draining(folder, data):
    """A drain that waits for the one job that is in flight."""
    command = [sys.executable, "-m", "shotbus", "pools", "drain", "noop", *map(str, data)]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually(lambda: pool(folder, "noop", *data)["state"] == "paused")
    return process


def test_a_drain_says_when_somebody_resumes_the_pool(in_flight):
    folder, data, _ = in_flight
    process = draining(folder, data)
    told(folder, "pools", "resume", "noop", *data)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "noop is ready: somebody resumed it\n")


def test_an_interrupted_drain_says_how_to_go_on(in_flight):
    folder, data, _ = in_flight
    process = draining(folder, data)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "noop stays paused; go on waiting with: shotbus pools drain noop" in err


def test_without_a_dispatcher_the_list_says_so_and_a_command_times_out(tmp_path):
    worker = start(tmp_path, *WORKER)
    data = ["--data", tmp_path / "data"]
    try:
        assert "no dispatcher runs" in said(tmp_path, "pools", "list", *data)
        assert pool(tmp_path, "noop", *data)["state"] == "unknown"
        found, _, err = invoke(tmp_path, "pools", "pause", "noop", *data, "--json")
        assert (found, json.loads(err)["errors"][0]["code"]) == (5, "SB-4006")
    finally:
        stop(worker)
