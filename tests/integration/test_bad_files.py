"""Wrong circuits, options, run files and configurations at the command line: exit code 2, nothing published."""

import json
import pathlib

import pytest
from embedded_kit import BELL, ROTATED, Broker, published, shotbus

from shotbus import Client, RefusedError


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with Broker(tmp_path_factory.mktemp("broker") / "data", "noop", "aer") as broker:
        yield broker


@pytest.fixture(scope="module")
def client(broker):
    with Client(broker.url) as client:
        yield client


QASM = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[2] q;\nbit[2] c;\n'


def write(folder: pathlib.Path, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    return path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["bell.qasm", "--shots", "0", "--priority", "urgent", "--deadline", "-1"],
            {"SB-1103", "SB-1101", "SB-1104"},
        ),
        (["bell.qasm", "--backend", "nowhere", "--seed", "-1"], {"SB-1102", "SB-1108"}),
        (["rotated.qasm", "--bind", "a=nan", "--bind", "z=1"], {"SB-1301", "SB-1302", "SB-1303"}),
        (["rotated.qasm", "--bind", "a=one", "--bind", "b=1"], {"SB-1304"}),
        (["gate.qasm"], {"SB-1208"}),
        (["missing.qasm"], {"SB-2003"}),
        (["binary.qasm"], {"SB-2003"}),
        (["bell.qasm", "--observable", "ZZZ"], {"SB-1402"}),
        (["bell.qasm", "--option", "optimisation_levle=1", "--shots", "0"], {"SB-1119", "SB-1103"}),
        (["request.toml"], {"SB-1119"}),
    ],
)
def test_the_command_refuses_with_exit_code_2_and_publishes_nothing(broker, tmp_path, words, expected):
    write(tmp_path, "bell.qasm", BELL)
    write(tmp_path, "rotated.qasm", ROTATED)
    write(tmp_path, "gate.qasm", QASM + "hadamard q[0];\nc = measure q;")
    write(tmp_path, "request.toml", 'circuit = "bell.qasm"\noptions = { shots_per_cal = "5" }\n')
    (tmp_path / "binary.qasm").write_bytes(b"\xff\xfe\x00")
    before = published(broker.url)
    code, out, err = shotbus("submit", "--json", "--data", broker.directory, *words, cwd=tmp_path)
    assert (code, out) == (2, "")
    errors = json.loads(err)["errors"]
    assert {error["code"] for error in errors} == expected
    assert all(
        error["title"] and error["path"] and error["doc"].startswith("docs/errors.md#") for error in errors
    )
    assert published(broker.url) == before


PLAN = """
import numpy as np
from shotbus.producers.parameters import integer, read_parameters
from shotbus.producers.plan import JobPlan, Plan, SweepPlan

TEXT = '''{text}'''

PARAMETERS = {{"points": integer(2, 1, 9)}}

def plan(parameters):
    known = read_parameters(parameters, PARAMETERS)
    job = JobPlan(TEXT, None, None, {shots}, 1, 0, np.arange(1.0), "{backend}")
    good = JobPlan('''{good}''', None, None, 5, 1, 0, np.arange(1.0), "noop")
    return Plan((SweepPlan("good", (good,), "collect"), SweepPlan("bad", (job,), "{reduce}")), lambda *_: None)
"""


def run_file(
    tmp_path, *, head="", run="", parameters="", text=BELL, shots=5, backend="noop", reduce="collect"
):
    write(tmp_path, "plan.py", PLAN.format(text=text, shots=shots, backend=backend, reduce=reduce, good=BELL))
    content = f'{head}\n[run]\nname = "r"\nplan = "plan.py:plan"\n{run}\n[parameters]\n{parameters}\n'
    return write(tmp_path, "run.toml", content)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"run": 'priorty = "bulk"\ntenant = 7\n[outptu]\npng = "x"'},
            {"SB-2001:$.run.priorty", "SB-2002:$.run.tenant", "SB-2001:$.outptu"},
        ),
        ({"run": 'priority = "urgent"\nintent = "fun"'}, {"SB-1101:$.run.priority", "SB-1108:$.run.intent"}),
        ({"parameters": "point = 3\npoints = 77"}, {"SB-2001:$.parameters.point"}),
        ({"parameters": "points = 77"}, {"SB-2002:$.parameters.points"}),
        (
            {"parameters": "points = 77", "run": 'priority = "urgent"\npritority = 1'},
            {"SB-2002:$.parameters.points", "SB-1101:$.run.priority", "SB-2001:$.run.pritority"},
        ),
        ({"backend": "nowhere"}, {"SB-1102:$.sweeps.bad.backend"}),
        (
            {"run": 'backend = "nowhere"\npriority = "urgent"\nextra = 1', "parameters": "points = 77"},
            {
                "SB-1102:$.run.backend",
                "SB-1101:$.run.priority",
                "SB-2001:$.run.extra",
                "SB-2002:$.parameters.points",
            },
        ),
        ({"shots": 0}, {"SB-1103:$.sweeps.bad.jobs[0].shots"}),
        ({"text": QASM + "hadamard q[0];\nc = measure q;"}, {"SB-1208:$.sweeps.bad.jobs[0]:5:1"}),
        (
            {"reduce": "averge", "shots": 0},
            {"SB-1108:$.sweeps.bad.reduce", "SB-1103:$.sweeps.bad.jobs[0].shots"},
        ),
        ({"reduce": "minimum"}, {"SB-1108:$.sweeps.bad.reduce"}),
        ({"head": "[run"}, {"SB-2003:run.toml"}),
    ],
)
def test_a_wrong_run_file_is_refused_before_anything_is_published(broker, tmp_path, given, expected):
    path = run_file(tmp_path, **given)
    before = published(broker.url)
    code, out, err = shotbus("run", path.name, "--json", "--data", broker.directory, cwd=tmp_path)
    assert code == 2, err
    assert out == ""
    errors = json.loads(err.strip().splitlines()[-1])["errors"]
    found = {f"{error['code']}:{error['path']}" for error in errors}
    assert expected <= found
    assert published(broker.url) == before
    assert not list((broker.directory / "runs").glob("*"))


@pytest.mark.parametrize("url", ["sqlite:///none", "kafka://127.0.0.1:9?store=memory"])
def test_mistakes_of_a_run_file_are_told_where_no_broker_can_be_asked_about_its_pool(tmp_path, url):
    path = run_file(tmp_path, run='backend = "nowhere"\npriority = "urgent"')
    code, _, err = shotbus("run", path.name, "--json", "--url", url, cwd=tmp_path)
    found = {error["path"] for error in json.loads(err.strip().splitlines()[-1])["errors"]}
    known = {"$.run.backend"} if url.startswith("sqlite") else set()
    assert (code, found) == (2, {"$.run.priority"} | known)
    assert not (tmp_path / "none").exists()


def test_a_run_may_name_a_pool_that_only_the_broker_knows(tmp_path):
    environ = {"SHOTBUS__POOLS__OTHER__ADAPTER": "noop", "SHOTBUS__POOLS__OTHER__KIND": "none"}
    path = run_file(tmp_path, run='backend = "other"', backend="")
    with Broker(tmp_path / "data", "other", "noop", environ=environ):
        code, _, err = shotbus("run", path.name, "--data", "data", "--timeout", "60", cwd=tmp_path)
    assert code == 0, err


def test_a_run_file_without_name_and_plan_says_both(tmp_path):
    write(tmp_path, "run.toml", '[run]\nplan = "none.py:plan"\n')
    code, _, err = shotbus("run", "run.toml", "--json", cwd=tmp_path)
    assert code == 2
    assert {error["path"] for error in json.loads(err)["errors"]} == {"$.run.name", "$.run.plan"}


def test_a_wrong_configuration_stops_every_command_with_all_its_mistakes(tmp_path):
    write(tmp_path, "shotbus.toml", "[broker]\nurll = 'x'\n[pools.aer]\nslots = 0.5\n")
    environ = {"SHOTBUS__RETRY__BASE": "soon"}
    for words in (["doctor"], ["list"], ["up"], ["worker", "--pool", "aer"]):
        code, _, err = shotbus(*words, "--json", cwd=tmp_path, environ=environ)
        assert code == 2
        paths = {error["path"] for error in json.loads(err)["errors"]}
        assert paths == {"$.broker.urll", "$.pools.aer.slots", "$.retry.base"}
    assert not (tmp_path / ".shotbus").exists()


def test_a_refusal_of_the_dispatcher_reaches_the_command(broker, tmp_path):
    write(tmp_path, "bell.qasm", BELL)
    write(tmp_path, "shotbus.toml", "[pools.ghost]\nadapter = 'noop'\n")
    for words in (["--no-wait"], ["--wait"]):
        code, _, err = shotbus(
            "submit",
            "bell.qasm",
            "--backend",
            "ghost",
            *words,
            "--json",
            "--data",
            broker.directory,
            cwd=tmp_path,
        )
        assert code == 2
        assert json.loads(err)["errors"][0]["code"] == "SB-1102"


def test_refused_error_is_a_shotbus_error_with_its_problems(broker):
    with Client(broker.url) as client:
        client.submit(BELL, shots=1, backend="noop", idempotency_key="r").result(30)
        with pytest.raises(RefusedError, match="SB-1106"):
            client.submit(BELL, shots=2, backend="noop", idempotency_key="r").result(30)
