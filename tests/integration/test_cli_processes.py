"""Processes that the command starts: signals, locks, interrupted runs."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from cli_kit import invoke, said, told
from embedded_kit import BELL, ROTATED, Broker, eventually


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with Broker(tmp_path_factory.mktemp("broker") / "data", "noop", "aer") as broker:
        yield broker


@pytest.fixture(scope="module")
def folder(broker):
    """A working directory whose configuration points to the broker."""
    folder = broker.directory.parent
    (folder / "shotbus.toml").write_text(f'[broker]\nurl = "{broker.url}"\n')
    (folder / "bell.qasm").write_text(BELL)
    (folder / "rotated.qasm").write_text(ROTATED)
    (folder / "points.csv").write_text("a,b\n0,0\n3.141592653589793,0\n0,3.141592653589793\n")
    return folder


# -- processes ---------------------------------------------------------------------------------------


def test_a_second_up_on_the_same_directory_is_refused(folder, broker):
    error = told(folder, "up", "--data", broker.directory, code=3)["errors"][0]
    assert error["code"] == "SB-2005"
    assert error["hint"]
    assert told(folder, "list") is not None


def test_an_unknown_pool_for_a_worker_is_refused(folder):
    assert told(folder, "worker", "--pool", "nowhere", code=2)["errors"][0]["code"] == "SB-1102"
    assert (
        told(folder, "up", "--pool", "nowhere", "--data", folder / "other", code=2)["errors"][0]["code"]
        == "SB-1102"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_up_stops_gracefully_and_goes_on_where_it_was(tmp_path, number):
    (tmp_path / "bell.qasm").write_text(BELL)
    data = ["--data", tmp_path / "data"]
    broker = Broker(tmp_path / "data", "noop")
    with broker:
        invoke(tmp_path, "pools", "pause", "noop", *data)
        job = told(tmp_path, "submit", "bell.qasm", "--backend", "noop", *data)["job_id"]
        assert broker.stop(number) == 0
    assert broker.lines()[-1]["level"] == "info"
    with Broker(tmp_path / "data", "noop"):
        invoke(tmp_path, "pools", "resume", "noop", *data)
        assert told(tmp_path, "result", job, *data)["outcome"] == "succeeded"


def test_roles_run_as_processes_of_their_own(tmp_path):
    (tmp_path / "bell.qasm").write_text(BELL)
    data = ["--data", str(tmp_path / "data")]
    roles = [["dispatcher"], ["reducer"], ["worker", "--pool", "noop", "--concurrency", "2"]]
    running = []
    try:
        for words in roles:
            command = [sys.executable, "-m", "shotbus", *words, "--json", *data]
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=tmp_path
            )
            running.append(process)
            assert json.loads(process.stdout.readline())["role"] == words[0]
        words = ["submit", "bell.qasm", "--backend", "noop", "--wait", "--timeout", "60"]
        assert told(tmp_path, *words, *data)["outcome"] == "succeeded"
    finally:
        for process in running:
            process.terminate()
        codes = [process.wait(timeout=30) for process in running]
        for process in running:
            process.stdout.close()
    assert codes == [0, 0, 0]


# -- run files ---------------------------------------------------------------------------------------

PLAN = """
import numpy as np
from shotbus.producers.plan import JobPlan, Plan, SweepPlan
from shotbus.schemas.pub import Bindings

TEXT = '''{text}'''

def plan(parameters):
    jobs = []
    for number in range(parameters["jobs"]):
        bindings = Bindings(("a", "b"), np.full((1, 2), 0.1 * number))
        jobs.append(JobPlan(TEXT, bindings, None, 50, 7, 0, np.arange(1.0), "aer"))
    def report(reductions, output):
        output.console.print("reported", reductions["s"].succeeded)
    return Plan((SweepPlan("s", tuple(jobs), "collect"),), report)
"""


@pytest.fixture
def run_folder(tmp_path):
    (tmp_path / "plan.py").write_text(PLAN.format(text=ROTATED))
    (tmp_path / "run.toml").write_text('[run]\nname = "r"\nplan = "plan.py:plan"\n[parameters]\njobs = 40\n')
    return tmp_path


def test_an_interrupted_run_resumes_and_a_third_is_served_from_the_cache(run_folder):
    command = [sys.executable, "-m", "shotbus", "run", "run.toml", "--data", "data"]
    with Broker(run_folder / "data", "aer"):
        memory = run_folder / "data" / "runs"
        invoke(run_folder, "pools", "pause", "aer", "--data", "data")
        first = subprocess.Popen(
            command, cwd=run_folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        eventually(lambda: list(memory.glob("*.json")))
        eventually(lambda: '"aer"' in invoke(run_folder, "list", "--json", "--data", "data")[1])
        first.send_signal(signal.SIGINT)
        out, err = first.communicate(timeout=30)
        assert (first.returncode, out) == (130, "")
        assert "Go on with: shotbus run run.toml" in err
        invoke(run_folder, "pools", "resume", "aer", "--data", "data")
        _, out, err = invoke(run_folder, "run", "run.toml", "--data", "data")
        assert "resuming" in err
        assert "reported 40" in out
        assert not list(memory.glob("*.json"))
        summary = eventually(lambda: served_from_cache(run_folder))
        assert summary["succeeded"] == 40
        text = eventually(lambda: repeated(run_folder))
        assert "of 40 shards were served from the cache" in text


def test_an_interrupt_is_answered_at_once_and_the_run_goes_on_from_another_directory(run_folder):
    command = [sys.executable, "-m", "shotbus", "run", "run.toml", "--data", "data"]
    # It starts a broker of its own, which takes seconds to stop.
    first = subprocess.Popen(
        command, cwd=run_folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    eventually(lambda: list((run_folder / "data" / "runs").glob("*.json")), seconds=60)
    first.send_signal(signal.SIGINT)
    heard = time.monotonic()
    lines = iter(first.stdout.readline, "")
    assert any("stopping" in line for line in lines)
    assert time.monotonic() - heard < 2
    assert any("Go on with: shotbus run run.toml" in line for line in lines)
    assert first.wait(timeout=30) == 130
    first.stdout.close()
    (run_folder / "elsewhere").mkdir()
    words = ["run", run_folder / "run.toml", "--data", run_folder / "data"]
    found, out, err = invoke(run_folder / "elsewhere", *words)
    assert (found, "resuming" in out + err, "reported 40" in out + err) == (0, True, True)


def served_from_cache(run_folder):
    summary = told(run_folder, "run", "run.toml", "--data", "data")["s"]
    return summary if summary["from_cache"] else None


def repeated(run_folder):
    text = said(run_folder, "run", "run.toml", "--data", "data")
    return text if "from the cache" in text else None


def test_a_run_that_takes_too_long_exits_with_5_and_can_be_resumed(run_folder):
    with Broker(run_folder / "data", "aer"):
        invoke(run_folder, "pools", "pause", "aer", "--data", "data")
        found, _, err = invoke(run_folder, "run", "run.toml", "--data", "data", "--timeout", "0.5", "--json")
        assert found == 5
        error = json.loads(err.splitlines()[-1])["errors"][0]
        assert error["code"] == "SB-4006"
        assert "shotbus run run.toml" in error["hint"]
        invoke(run_folder, "pools", "resume", "aer", "--data", "data")
        assert "resuming" in invoke(run_folder, "run", "run.toml", "--data", "data")[2]


def test_a_client_that_is_killed_takes_its_embedded_broker_with_it(run_folder):
    command = [sys.executable, "-m", "shotbus", "run", "run.toml", "--data", "data"]
    client = subprocess.Popen(command, cwd=run_folder, stdout=subprocess.DEVNULL)
    eventually(lambda: list((run_folder / "data" / "runs").glob("*.json")), seconds=60)
    os.kill(client.pid, signal.SIGKILL)
    client.wait(timeout=10)
    began = time.monotonic()
    with Broker(run_folder / "other", "noop"):
        pass
    eventually(lambda: invoke(run_folder, "doctor", "--data", "data")[1].count("no broker runs"), seconds=40)
    assert time.monotonic() - began < 60
    assert "reported 40" in said(run_folder, "run", "run.toml", "--data", "data")
