"""Wrong submissions: everything is said at once, and nothing of it is published."""

import dataclasses
import datetime as dt

import numpy as np
import pytest
from edge_kit import refusal
from embedded_kit import BELL, ROTATED, Broker, published

from shotbus import Client
from shotbus.broker.config import Config, LimitsConfig
from shotbus.schemas.pub import ProblemStatement


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
ISING = ProblemStatement.ising(np.ones(2), np.array([[0, 1]]), np.ones(1))
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
    "options that nobody reads": (
        BELL,
        None,
        {"options": {"optimisation_levle": "1", "shots_per_cal": "9", "method": "automatic"}, "seed": -1},
        {"SB-1119": "$.options.optimisation_levle", "SB-1108": "$.seed"},
    ),
    "an age below zero": (BELL, None, {"max_result_age": -1}, {"SB-1108": "$.max_result_age_ms"}),
    "a trace that is none": (BELL, None, {"traceparent": "00-zz"}, {"SB-1108": "$.traceparent"}),
    "a value that is no number": (BELL, None, {"value": NAN}, {"SB-1108": "$.value"}),
    "a problem, but no bindings": (ROTATED, None, {"problem": ISING}, {"SB-1301": "$.bindings.a"}),
    "a problem, but nothing measured": (QASM + "h q[0];", None, {"problem": ISING}, {"SB-1218": "$.circuit"}),
    "a problem, but observables of another width": (
        BELL,
        None,
        {"problem": ISING, "observables": "ZZZ", "backend": "aer"},
        {"SB-1402": "$.observables"},
    ),
    "a problem, but no shots": (BELL, None, {"problem": ISING, "shots": 0}, {"SB-1103": "$.shots"}),
    "a problem for a solver, but observables of another width": (
        BELL,
        None,
        {"problem": ISING, "observables": "ZZZ", "backend": "classical"},
        {"SB-1402": "$.observables"},
    ),
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


@pytest.mark.parametrize(
    ("asked", "paths"),
    [
        ({"reduce": "averge", "shots": 0}, {"SB-1108": "$.reduce", "SB-1103": "$.shots"}),
        ({"reduce": "minimum"}, {"SB-1108": "$.reduce"}),
        ({"reduce_options": {"min_success": 1}}, {"SB-1108": "$.options.min_success"}),
        ({"reduce_options": {"min_success": "2"}}, {"SB-1108": "$.options.min_success"}),
        (
            {"reduce_options": {"modle": "grid"}, "priority": "urgent"},
            {"SB-2001": "$.options.modle", "SB-1101": "$.priority"},
        ),
    ],
)
def test_a_wrong_reduction_is_refused_before_anything_is_published(client, broker, asked, paths):
    before = published(broker.url)
    check(refusal(client.sweep, BELL, None, backend="noop", **asked), paths)
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
