"""Registered families: a declaration that is false is refused, with the check and what was found."""

import pytest
from policy_kit import circuit, decide, job, rule

SMALL = """
[families.small]
versions = ["1", "2"]
qubits = "2..4"
depth = "..10"
parameters = "..1"
two_qubit_ratio = "..0.7"
degree = "..2"
gates = ["h", "cx", "rx"]
connectivity = "line"
mid_circuit = false
"""
GOOD = "input float a; qubit[3] q; bit[3] c; h q[0]; cx q[0], q[1]; cx q[1], q[2]; rx(a) q[0]; c = measure q;"


def declared(body, version="2", family="small"):
    policy = rule('when = { families = ["small"] }\nthen = { pools = ["good"] }', rest=SMALL)
    return decide(policy, job(family=family, family_version=version, circuit=circuit(body)))


def test_a_circuit_that_is_what_it_declares_is_routed_by_its_family():
    assert declared(GOOD).pool == "good"


@pytest.mark.parametrize(
    ("body", "limit", "actual"),
    [
        ("qubit[5] q; h q;", "small@2: qubits 2..4", "qubits 5"),
        ("qubit[2] q; " + "h q[0]; " * 11, "small@2: depth ..10", "depth 11"),
        (
            "input float a; input float b; qubit[2] q; rx(a) q[0]; rx(b) q[0];",
            "small@2: parameters ..1",
            "parameters 2",
        ),
        ("qubit[2] q; cx q[0], q[1];", "small@2: two_qubit_ratio ..0.7", "two_qubit_ratio 1"),
        ("qubit[2] q; t q[0];", "small@2: gates h, cx, rx", "also t"),
        (
            "qubit[3] q; h q; h q; cx q[0], q[1]; cx q[1], q[2]; cx q[0], q[2];",
            "small@2: connectivity line",
            "connectivity ring",
        ),
        (
            "qubit[2] q; bit c; c = measure q[0]; h q[0];",
            "small@2: nothing after a measurement",
            "mid-circuit measurement, reset or condition",
        ),
    ],
    ids=lambda value: value[:24],
)
def test_a_false_declaration_is_refused_with_the_numbers(body, limit, actual):
    decision = declared(body)
    assert decision.refused
    assert [(one.code, one.limit, one.actual) for one in decision.problems] == [("SB-1150", limit, actual)]


def test_everything_that_is_false_is_said_at_once():
    decision = declared("qubit[5] q; t q;", version="3")
    assert [one.code for one in decision.problems] == ["SB-1151", "SB-1150", "SB-1150"]


def test_a_name_that_is_not_registered_is_a_label_that_no_rule_takes_for_a_family():
    decision = declared("qubit[5] q; t q;", family="smal")
    assert (decision.refused, decision.pool) == (False, "aer")


def test_before_the_inspection_only_the_version_is_checked():
    policy = rule("then = {}", rest=SMALL)
    assert not decide(policy, job(family="small", family_version="1")).refused
    assert decide(policy, job(family="small")).problems[0].actual == "none"
