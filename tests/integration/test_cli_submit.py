"""Submissions on the command line: mistakes before anything starts, results alone on standard output."""

import json
import signal
import subprocess
import sys

import pytest
from cli_kit import invoke, make_folder, said, told
from embedded_kit import BELL, ROTATED, Broker, eventually

BROKEN = BELL.replace("h q[0]", "hadamard q[0]")
PLAN = """
import numpy as np
from shotbus.producers.plan import JobPlan, Plan, SweepPlan

def plan(parameters):
    jobs = [JobPlan('''{text}''', None, None, 5, n, 0, np.arange(1.0), "noop") for n in range(3)]
    def report(reductions, output):
        output.console.print("reported", reductions["s"].succeeded)
    return Plan((SweepPlan("s", tuple(jobs), "collect"),), report)
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with Broker(tmp_path_factory.mktemp("broker") / "data", "noop", "aer") as broker:
        yield broker


@pytest.fixture(scope="module")
def folder(broker):
    folder = make_folder(broker)
    (folder / "plan.py").write_text(PLAN.format(text=BELL))
    (folder / "run.toml").write_text('[run]\nname = "r"\nplan = "plan.py:plan"\n')
    return folder


@pytest.fixture
def fresh(tmp_path):
    """A folder in which no broker runs."""
    (tmp_path / "bell.qasm").write_text(BELL)
    (tmp_path / "broken.qasm").write_text(BROKEN)
    (tmp_path / "rotated.qasm").write_text(ROTATED)
    (tmp_path / "points.csv").write_text("a,b\n0,0\n")
    (tmp_path / "twice.csv").write_text("a,b,a\n0,0,0\n")
    (tmp_path / "plan.py").write_text(PLAN.format(text=BROKEN))
    (tmp_path / "run.toml").write_text('[run]\nname = "r"\nplan = "plan.py:plan"\n')
    return tmp_path


# -- mistakes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["submit", "broken.qasm"], "SB-1208"),
        (["submit", "missing.qasm", "--bind", "a=x"], "SB-2003 SB-1304"),
        (["submit", "bell.qasm", "--shots", "0"], "SB-1103"),
        (["submit", "bell.qasm", "--backend", "nowhere"], "SB-1102"),
        (["submit", "bell.qasm", "--timeout", "3"], "SB-2002"),
        (["submit", "bell.qasm", "--priority", "urgent", "--intent", "fun"], "SB-1101 SB-1108"),
        (["submit", "bell.qasm", "--deadline", "-5"], "SB-1104"),
        (
            ["submit", "rotated.qasm", "--bind", "a=1", "--bind", "a=2", "--bind", "c=1"],
            "SB-1306 SB-1301 SB-1302",
        ),
        (["submit", "broken.qasm", "--bind", "a=x", "--observable", "?"], "SB-1208 SB-1304 SB-1401"),
        (["sweep", "submit", "rotated.qasm", "twice.csv"], "SB-1306"),
        (
            ["sweep", "submit", "broken.qasm", "twice.csv", "--reduce", "averge"],
            "SB-1208 SB-1306 SB-1108",
        ),
        (["sweep", "submit", "rotated.qasm", "points.csv", "--backend", "nowhere"], "SB-1102"),
        (["run", "run.toml"], "SB-1208"),
        (["pools", "pause", "nowhere"], "SB-1102"),
        (["status", "nonsense"], "SB-4001"),
        (["cancel", "nonsense"], "SB-4001"),
    ],
    ids=lambda given: given if isinstance(given, str) else " ".join(given),
)
def test_a_mistake_is_told_before_anything_starts(fresh, words, expected):
    found, out, err = invoke(fresh, *words, "--data", "data", "--json")
    assert found == (4 if expected == "SB-4001" else 2)
    assert out == ""
    assert {error["code"] for error in json.loads(err)["errors"]} == set(expected.split())
    assert not (fresh / "data").exists()
    assert not (fresh / ".shotbus").exists()


def test_a_mistake_is_told_without_asking_a_kafka_that_is_away(fresh):
    error = told(fresh, "submit", "broken.qasm", "--url", "kafka://127.0.0.1:9?store=memory", code=2)[
        "errors"
    ][0]
    assert error["code"] == "SB-1208"


def test_a_pool_that_another_configuration_has_is_asked_for_on_the_bus(folder, tmp_path):
    (tmp_path / "own.toml").write_text('[pools.mine]\nadapter = "noop"\n')
    words = ["submit", "bell.qasm", "--config", tmp_path / "own.toml", "--data", folder / "data"]
    assert told(folder, *words, "--backend", "aer", "--wait", "--shots", "9")["shots"] == 9
    assert told(folder, *words, "--backend", "nowhere", code=2)["errors"][0]["code"] == "SB-1102"


# -- what goes where ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["submit", "bell.qasm", "--shots", "5"],
        ["submit", "bell.qasm", "--shots", "5", "--wait"],
        ["sweep", "submit", "rotated.qasm", "points.csv", "--shots", "5"],
        ["sweep", "submit", "rotated.qasm", "points.csv", "--no-wait"],
        ["run", "run.toml"],
        ["list"],
        ["pools", "list"],
        ["dlq", "list"],
        ["topics", "plan"],
        ["doctor"],
    ],
    ids=" ".join,
)
def test_with_json_standard_output_is_one_document(folder, words):
    found, out, _ = invoke(folder, *words, "--json")
    assert found == 0
    assert out.count("\n") == 1
    json.loads(out, parse_constant=pytest.fail)


def test_progress_goes_to_standard_error_and_the_report_to_standard_output(folder):
    found, out, err = invoke(folder, "run", "run.toml", "--fresh")
    assert found == 0
    assert out.splitlines()[0] == "reported 3"
    assert "points" not in out
    assert "3/3 points" in err
    found, out, err = invoke(folder, "sweep", "submit", "rotated.qasm", "points.csv", "--shots", "5")
    assert found == 0
    assert out.startswith("sweep_id")
    assert "3/3 points" in err


def test_failed_points_are_null_in_json(folder):
    said(folder, "pools", "pause", "aer")
    words = ["rotated.qasm", "points.csv", "--observable", "ZZ", "--reduce", "expectation", "--no-wait"]
    sweep = told(folder, "sweep", "submit", *words)["sweep_id"]
    told(folder, "sweep", "cancel", sweep)
    said(folder, "pools", "resume", "aer")
    final = ["sweep", "status", sweep, "--json"]
    eventually(lambda: '"final": true' in invoke(folder, *final)[1])
    found, out, _ = invoke(folder, *final)
    assert found == 1
    assert json.loads(out, parse_constant=pytest.fail)["arrays"]["values"] == [None] * 3


@pytest.mark.parametrize(
    "words",
    [
        ["submit", "bell.qasm", "--backend", "noop", "--wait"],
        ["sweep", "submit", "rotated.qasm", "points.csv", "--backend", "noop", "--reduce", "collect"],
    ],
    ids=["job", "sweep"],
)
def test_ctrl_c_leaves_it_running_and_says_how_to_come_back(folder, words):
    said(folder, "pools", "pause", "noop")
    tenant = ["--tenant", f"leaving-{words[0]}"]
    command = [sys.executable, "-m", "shotbus", *words, *tenant]
    waiting = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually(lambda: told(folder, "list", *tenant))
    waiting.send_signal(signal.SIGINT)
    out, err = waiting.communicate(timeout=30)
    said(folder, "pools", "resume", "noop")
    assert (waiting.returncode, out) == (130, ""), err
    back = err.strip().splitlines()[-1].partition("come back with: shotbus ")[2].split()
    eventually(lambda: invoke(folder, *back)[0] == 0)
