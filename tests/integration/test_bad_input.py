"""Wrong and hostile input at every door: everything is said at once, and nothing of it is published."""

import dataclasses
import datetime as dt
import json
import pathlib

import numpy as np
import pytest
from avro_values import request_fields
from edge_kit import refusal
from embedded_kit import BELL, ROTATED, Broker, eventually, on_bus, published, records, shotbus
from hostile_avro import HOSTILE

from shotbus import Client, RefusedError
from shotbus.broker.bus.base import Outgoing
from shotbus.broker.config import Config, LimitsConfig
from shotbus.broker.deadletters import PREFIX
from shotbus.schemas.codec import MAX_RECORD_BYTES, decode, encode
from shotbus.schemas.ids import circuit_id, job_id, partition_of


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with Broker(tmp_path_factory.mktemp("broker") / "data", "noop", "aer") as broker:
        yield broker


@pytest.fixture(scope="module")
def client(broker):
    with Client(broker.url) as client:
        yield client


QASM = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[2] q;\nbit[2] c;\n'
NAN = float("nan")
#: name -> (circuit, bindings, options, code -> path); every pair must be among the problems.
WRONG = {
    "no circuit at all": (None, None, {}, {"SB-1200": "$.circuit"}),
    "noise": ("\x00\xff garbage", None, {}, {"SB-1200": "1:1"}),
    "a syntax error": (QASM + "h q[0]\nx q[1];", None, {}, {"SB-1203": None}),
    "an unknown gate": (QASM + "hadamard q[0];\nc = measure q;", None, {}, {"SB-1208": "5:1"}),
    "two unknown gates": (QASM + "hh q[0];\nxx q[0];\nc = measure q;", None, {}, {"SB-1208": "5:1"}),
    "an oversize circuit": (QASM + "// " + "x" * 1_100_000, None, {}, {"SB-1201": None}),
    "an oversize register": ("OPENQASM 3.0;\nqubit[2000000000] q;", None, {}, {"SB-1204": None}),
    "an include of a file": ('OPENQASM 3.0;\ninclude "/etc/passwd";', None, {}, {"SB-1202": None}),
    "nothing measured": (QASM + "h q[0];", None, {}, {"SB-1218": "$.circuit"}),
    "an unbound parameter": (ROTATED, {"a": 1.0}, {}, {"SB-1301": "$.bindings.b"}),
    "no bindings": (ROTATED, None, {}, {"SB-1301": "$.bindings.a"}),
    "a surplus parameter": (ROTATED, {"a": 1, "b": 1, "c": 1}, {}, {"SB-1302": "$.bindings.c"}),
    "unbound, surplus and NaN": (
        ROTATED,
        {"a": [0.0, NAN], "z": 1},
        {},
        {"SB-1301": "$.bindings.b", "SB-1302": "$.bindings.z", "SB-1303": "$.bindings.a[1]"},
    ),
    "NaN in a matrix": (ROTATED, [[0, 0], [0, NAN]], {}, {"SB-1303": "$.bindings[1][1]"}),
    "infinity": (ROTATED, [np.inf, 0], {}, {"SB-1303": "$.bindings[0][0]"}),
    "no points": (ROTATED, np.zeros((0, 2)), {}, {"SB-1305": "$.bindings"}),
    "a matrix with too many columns": (ROTATED, np.zeros((3, 3)), {}, {"SB-1304": "$.bindings"}),
    "columns of different lengths": (ROTATED, {"a": [1, 2, 3], "b": [1, 2]}, {}, {"SB-1304": "$.bindings.b"}),
    "complex bindings": (ROTATED, [1j, 0], {}, {"SB-1304": "$.bindings"}),
    "text in bindings": (ROTATED, {"a": "zero", "b": 0}, {}, {"SB-1304": "$.bindings.a"}),
    "zero shots": (BELL, None, {"shots": 0}, {"SB-1103": "$.shots"}),
    "negative shots": (BELL, None, {"shots": -1}, {"SB-1103": "$.shots"}),
    "half a shot": (BELL, None, {"shots": 1.5}, {"SB-1103": "$.shots"}),
    "shots as text": (BELL, None, {"shots": "100"}, {"SB-1103": "$.shots"}),
    "shots as truth": (BELL, None, {"shots": True}, {"SB-1103": "$.shots"}),
    "2^63 shots": (BELL, None, {"shots": 2**63}, {"SB-1103": "$.shots"}),
    "one shot too many": (BELL, None, {"shots": 10_000_001}, {"SB-1103": "$.shots"}),
    "an impossible precision": (
        BELL,
        None,
        {"observables": ["ZZ"], "precision": 1e-200},
        {"SB-1108": "$.precision"},
    ),
    "a precision that is none": (
        BELL,
        None,
        {"observables": ["ZZ"], "precision": NAN},
        {"SB-1108": "$.precision"},
    ),
    "observables of another width": (BELL, None, {"observables": ["ZZZ"]}, {"SB-1402": "$.observables"}),
    "observables of other letters": (BELL, None, {"observables": ["ZQ"]}, {"SB-1401": "$.observables[0]"}),
    "complex weights": (BELL, None, {"observables": [("ZZ", 1j)]}, {"SB-1401": "$.observables"}),
    "observables that are none": (BELL, None, {"observables": 7}, {"SB-1401": "$.observables"}),
    "an unknown pool": (BELL, None, {"backend": "nowhere"}, {"SB-1102": "$.backend"}),
    "an unknown class": (BELL, None, {"priority": "urgent"}, {"SB-1101": "$.priority"}),
    "an unknown intent": (BELL, None, {"intent": "fun"}, {"SB-1108": "$.intent"}),
    "a deadline in the past": (BELL, None, {"deadline": -5}, {"SB-1104": "$.deadline"}),
    "a deadline before its begin": (BELL, None, {"deadline": 5, "not_before": 9}, {"SB-1104": "$.deadline"}),
    "a deadline without zone": (
        BELL,
        None,
        {"deadline": dt.datetime(2040, 1, 1, tzinfo=dt.UTC).replace(tzinfo=None)},
        {"SB-1108": "$.deadline"},
    ),
    "a deadline in the year 10000": (BELL, None, {"deadline": 1e12}, {"SB-1108": "$.deadline"}),
    "two times of the wrong kind": (
        BELL,
        None,
        {"deadline": "soon", "not_before": NAN},
        {"SB-1108": "$.deadline"},
    ),
    "a negative seed": (BELL, None, {"seed": -1}, {"SB-1108": "$.seed"}),
    "a seed of 2^31": (BELL, None, {"seed": 2**31}, {"SB-1108": "$.seed"}),
    "a seed as text": (BELL, None, {"seed": "7"}, {"SB-1108": "$.seed"}),
    "no tenant": (BELL, None, {"tenant": ""}, {"SB-1107": "$.tenant"}),
    "a tenant of 10 KB": (BELL, None, {"tenant": "x" * 10_000}, {"SB-1105": "$.tenant"}),
    "a lone surrogate": (BELL, None, {"experiment": "\ud800"}, {"SB-1108": "$.experiment"}),
    "a key of 257 characters": (BELL, None, {"idempotency_key": "k" * 257}, {"SB-1105": "$.idempotency_key"}),
    "a tenant that is a number": (BELL, None, {"tenant": 7}, {"SB-1108": "$.tenant"}),
    "33 tags": (BELL, None, {"tags": ["t"] * 33}, {"SB-1105": "$.tags"}),
    "tags that are numbers": (BELL, None, {"tags": [1]}, {"SB-1108": "$.tags"}),
    "options that are numbers": (
        BELL,
        None,
        {"options": {"optimization_level": 1}},
        {"SB-1108": "$.options"},
    ),
    "an age below zero": (BELL, None, {"max_result_age": -1}, {"SB-1108": "$.max_result_age_ms"}),
    "a trace that is none": (BELL, None, {"traceparent": "00-zz"}, {"SB-1108": "$.traceparent"}),
    "a value that is no number": (BELL, None, {"value": NAN}, {"SB-1108": "$.value"}),
    "a problem that is none": (BELL, None, {"problem": "ising"}, {"SB-1108": "$.problem"}),
    "everything": (
        QASM + "hadamard q[0];",
        None,
        {
            "shots": 0,
            "priority": "urgent",
            "deadline": -1,
            "backend": "nowhere",
            "seed": -1,
            "tenant": "x" * 300,
        },
        {
            "SB-1208": "5:1",
            "SB-1103": "$.shots",
            "SB-1101": "$.priority",
            "SB-1104": "$.deadline",
            "SB-1102": "$.backend",
            "SB-1108": "$.seed",
            "SB-1105": "$.tenant",
        },
    ),
}


def check(problems, expected):
    """Every expected code is there, at its place, with something that says what to do."""
    found = {}
    for problem in problems:
        found.setdefault(problem.code, []).append(problem)
    assert set(found) == set(expected)
    for code, path in expected.items():
        assert path is None or path in [problem.path for problem in found[code]]
        assert all(
            problem.limit or problem.hint or problem.actual or problem.detail for problem in found[code]
        )


@pytest.mark.parametrize("name", WRONG)
def test_wrong_submissions_are_refused_whole(client, broker, name):
    circuit, bindings, options, expected = WRONG[name]
    before = published(broker.url)
    problems = refusal(client.submit, circuit, bindings, **options)
    check(problems, expected)
    assert published(broker.url) == before


@pytest.mark.parametrize("name", [name for name in WRONG if "idempotency_key" not in WRONG[name][2]])
def test_wrong_sweeps_are_refused_whole(client, broker, name):
    circuit, bindings, options, expected = WRONG[name]
    before = published(broker.url)
    check(refusal(client.sweep, circuit, bindings, **options), expected)
    assert published(broker.url) == before


def test_a_sweep_with_an_idempotency_key_is_refused_instead_of_running_twice(client, broker):
    before = published(broker.url)
    (problem,) = refusal(client.sweep, BELL, None, backend="noop", idempotency_key="k")
    assert (problem.code, problem.path) == ("SB-1108", "$.idempotency_key")
    assert published(broker.url) == before


def test_a_request_that_is_too_large_says_that_a_sweep_would_do(client, broker):
    before = published(broker.url)
    (problem,) = refusal(client.submit, ROTATED, np.random.default_rng(1).random((20_000, 2)), backend="noop")
    assert problem.code == "SB-1112"
    assert "sweep" in problem.hint
    assert published(broker.url) == before


def test_a_sweep_of_too_many_points_is_refused_whole(client, broker):
    before = published(broker.url)
    (problem,) = refusal(client.sweep, ROTATED, {"a": np.zeros(1_000_001), "b": 0.0})
    assert problem.code == "SB-1305"
    (problem,) = refusal(client.sweep, ROTATED, {"a": np.arange(200_000.0), "b": 0.0}, chunk=10_000, shots=1)
    assert problem.code == "SB-1112"
    assert published(broker.url) - before == 0


def test_a_circuit_over_the_configured_limit_is_refused(broker):
    config = dataclasses.replace(Config(), limits=LimitsConfig(max_circuit_bytes=64))
    with Client(broker.url, config=config) as client:
        (problem,) = refusal(client.submit, BELL)
    assert (problem.code, problem.limit) == ("SB-1201", "64 bytes")


# -- raw records, as another language or an attacker would publish them ------------------------------


def send(broker, value, *, topic="requests.experiment", key=None, headers=(), partition=0):
    async def publish(bus, topics):
        return await bus.publish([Outgoing(topics.name(topic), partition, key, value, headers)])

    return on_bus(broker.url, publish)


def letters(broker):
    return records(broker.url, "dead-letters")


def test_hostile_avro_becomes_dead_letters_with_its_bytes_while_neighbours_succeed(client, broker):
    bad = [
        data
        for data, record, code in HOSTILE.values()
        if code and len(data or b"") <= MAX_RECORD_BYTES and record == "circuit_request"
    ]
    before = len(letters(broker))
    jobs = []
    for data in bad:
        send(broker, data, key=b"key", headers=(("who", b"me"),))
        jobs.append(client.submit(BELL, shots=1, backend="noop"))
    assert {job.result(30).outcome for job in jobs} == {"succeeded"}
    eventually(lambda: len(letters(broker)) == before + len(bad))
    found = letters(broker)[before:]
    assert sorted(record.value or b"" for record in found) == sorted(data or b"" for data in bad)
    for record in found:
        headers = dict(record.headers)
        assert record.key == b"key"
        assert headers["who"] == b"me"
        assert headers["error-class"] == b"INVALID"
        assert headers["error-code"] in {b"SB-1001", b"SB-1002", b"SB-1003"}
        assert headers[f"{PREFIX}topic"] == b"shotbus.requests.experiment"


@pytest.mark.parametrize("topic", ["outcomes", "control", "sweeps"])
def test_noise_on_other_topics_becomes_a_dead_letter_and_jobs_go_on(client, broker, topic):
    before = len(letters(broker))
    for noise in (None, b"", b"\0" * 40, b"\x80" * 100, encode("circuit_request", request_fields())):
        send(broker, noise, topic=topic)
    assert client.submit(BELL, shots=1, backend="noop").result(30).outcome == "succeeded"
    eventually(lambda: len(letters(broker)) == before + 5)


def test_noise_on_results_deafens_nobody(client, broker):
    job = client.submit(BELL, shots=1, backend="noop", not_before=1.0)
    for noise in (None, b"", b"\0" * 40, b"noise"):
        for partition in range(2):
            send(broker, noise, topic="results", key=job.job_id().encode(), partition=partition)
    assert job.result(30).outcome == "succeeded"


def refused(broker, **changes):
    """Publish a raw request; return code and place of the broker's answers to it."""
    fields = request_fields(**changes)
    before = len(records(broker.url, "results"))
    partition = 0
    if len(fields["job_id"]) == 32 and fields["job_id"].isalnum():
        partition = partition_of(fields["job_id"], 2)
    send(broker, encode("circuit_request", fields), partition=partition)

    def answer():
        for record in records(broker.url, "results")[before:]:
            name, told = decode(record.value)
            if name == "refusal":
                return told
        return None

    return {(problem["code"], problem["path"]) for problem in eventually(answer)["problems"]}


def outcome_of(broker, job, *, problems=False):
    """Wait for a job's terminal result, on the bus itself."""

    def answer():
        found = [decode(one.value) for one in records(broker.url, "results") if one.key == job.encode()]
        return [fields for name, fields in found if name == "circuit_result"]

    fields = eventually(answer)[0]
    codes = [problem["code"] for problem in fields["problems"]]
    return (fields["outcome"], codes) if problems else fields["outcome"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"job_id": "../../etc/passwd"}, {"SB-1109": "$.job_id"}),
        ({"job_id": "x" * 10_000}, {"SB-1109": "$.job_id"}),
        ({"job_id": ""}, {"SB-1109": "$.job_id"}),
        ({"idempotency_key": "k"}, {"SB-1109": "$.job_id"}),
        ({"tenant": ""}, {"SB-1107": "$.tenant"}),
        ({"principal": "p" * 300, "tags": ["t"] * 40}, {"SB-1105": "$.principal"}),
        ({"payload_hash": b"short"}, {"SB-1108": "$.payload_hash"}),
        ({"priority": "bulk"}, {"SB-1101": "$.priority"}),
        ({"priority": "urgent"}, {"SB-1101": "$.priority"}),
        ({"shots": -1}, {"SB-1103": "$.shots"}),
        ({"shots": 2**62}, {"SB-1103": "$.shots"}),
        ({"points": 0}, {"SB-1305": "$.points"}),
        ({"points": -(2**31)}, {"SB-1305": "$.points"}),
        ({"seed": -1}, {"SB-1108": "$.seed"}),
        ({"deadline_ms": 1}, {"SB-1104": "$.deadline"}),
        ({"deadline_ms": 2**62}, {"SB-1108": "$.deadline"}),
        ({"mode": "estimate"}, {"SB-1107": "$.observables"}),
        ({"backend": "nowhere"}, {"SB-1102": "$.backend"}),
        ({"backend": "classical"}, {"SB-1110": "$.mode"}),
        (
            {"backend": "nowhere", "shots": -1, "points": 0, "deadline_ms": 1, "seed": -5},
            {
                "SB-1102": "$.backend",
                "SB-1103": "$.shots",
                "SB-1305": "$.points",
                "SB-1104": "$.deadline",
                "SB-1108": "$.seed",
            },
        ),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else None,
)
def test_valid_avro_with_wrong_content_is_refused_with_all_its_problems(client, broker, changes, expected):
    found = refused(broker, **changes)
    assert expected.items() <= found
    assert {code for code, _ in found} == set(expected)
    assert client.submit(BELL, shots=1, backend="noop").result(30).outcome == "succeeded"


def test_hostile_headers_do_no_harm(broker):
    headers = (
        ("traceparent", b"\xff\xfe" * 500),
        ("priority", b"interactive"),
        ("job-id", b"another"),
        ("job-id", b"twice"),
        ("x" * 200, bytes(60_000)),
        ("ключ", "значение".encode()),
        ("redrive-count", b"many"),
    )
    fields = request_fields(job_id=job_id("tenant-", entropy=b"hostile heads"[:12]))
    send(
        broker,
        encode("circuit_request", fields),
        headers=headers,
        partition=partition_of(fields["job_id"], 2),
    )
    assert outcome_of(broker, fields["job_id"]) == "succeeded"


def test_a_dead_letter_keeps_hostile_headers_and_the_command_shows_them(broker):
    before = len(letters(broker))
    headers = (("a", b"1"), ("a", b"2"), ("redrive-count", b"many"), ("bin", b"\xff\x00"))
    send(broker, b"not avro", headers=headers)
    record = eventually(lambda: letters(broker)[before:])[-1]
    assert [header for header in record.headers if header in headers] == list(headers)
    code, out, _ = shotbus("dlq", "list", "--json", "--data", broker.directory, cwd=broker.directory)
    assert code == 0
    assert json.loads(out)[-1]["redriven"] == "0"


def test_a_request_on_the_wrong_partition_is_relayed(broker):
    for number in range(4):
        fields = request_fields(job_id=job_id("tenant-", entropy=bytes([number + 7]) * 12))
        wrong = 1 - partition_of(fields["job_id"], 2)
        send(broker, encode("circuit_request", fields), partition=wrong)
        assert outcome_of(broker, fields["job_id"]) == "succeeded"


def test_malformed_ids_in_control_records_are_no_poison(client, broker):
    before = len(letters(broker))
    control = {"target": "job", "tenant": "t", "principal": "", "correlation": "", "reason": "", "at_us": 0}
    for command in ("cancel", "locate"):
        for name in ("", "../x", "z" * 32, "x" * 100_000):
            send(broker, encode("control", control | {"command": command, "name": name}), topic="control")
    assert client.submit(BELL, shots=1, backend="noop").result(30).outcome == "succeeded"
    assert len(letters(broker)) == before


def test_an_unknown_circuit_fails_its_job_with_a_code(broker):
    fields = request_fields(
        circuit_id=circuit_id("never sent"), job_id=job_id("tenant-", entropy=b"unknown circ")
    )
    fields["backend"] = "aer"
    send(broker, encode("circuit_request", fields), partition=partition_of(fields["job_id"], 2))
    assert outcome_of(broker, fields["job_id"], problems=True) == ("dead_lettered", ["SB-1219"])


# -- the command and run files -----------------------------------------------------------------------


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
    ],
)
def test_the_command_refuses_with_exit_code_2_and_publishes_nothing(broker, tmp_path, words, expected):
    write(tmp_path, "bell.qasm", BELL)
    write(tmp_path, "rotated.qasm", ROTATED)
    write(tmp_path, "gate.qasm", QASM + "hadamard q[0];\nc = measure q;")
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

def plan(parameters):
    known = read_parameters(parameters, {{"points": integer(2, 1, 9)}})
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
        ({"backend": "nowhere"}, {"SB-1102:$.backend"}),
        ({"run": 'backend = "nowhere"'}, {"SB-1102:$.backend"}),
        ({"shots": 0}, {"SB-1103:$.jobs[0].shots"}),
        ({"text": QASM + "hadamard q[0];\nc = measure q;"}, {"SB-1208:$.jobs[0]:1"}),
        ({"reduce": "averge"}, {"SB-1108:$.sweeps.bad.reduce"}),
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
    assert all(any(one.startswith(wanted[:20]) for one in found) for wanted in expected), found
    assert published(broker.url) == before
    assert not list((tmp_path / ".shotbus").glob("runs/*"))


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
