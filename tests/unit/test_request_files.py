"""Request files: what a submission takes from one, and what it refuses, everything at once."""

import dataclasses
import json

import pytest

from shotbus.cli.jobs import submit
from shotbus.cli.policy import explain
from shotbus.cli.requestfile import RequestFile, read_request, read_submission
from shotbus.cli.submission import submission_options
from shotbus.schemas.errors import ShotbusError

ISING = {"kind": "ising", "h": [0.5, -0.5], "edges": [[0, 1]], "couplings": [1.0]}
BOTH = {"circuit": "bell.qasm", "shots": 5, "roles": ["lab"], "max_result_age": 60.0}


@pytest.fixture
def write(tmp_path):
    def write(document):
        (tmp_path / "request.json").write_text(json.dumps(document))
        return tmp_path / "request.json"

    return write


def refused(path, read=read_submission):
    with pytest.raises(ShotbusError) as error:
        read(path)
    return {(one.code, one.path) for one in error.value.problems}


def parameters(command):
    return {one.name for one in command.params}


def test_whatever_describes_a_job_can_be_told_to_submit_to_explain_and_in_a_file():
    shared = {one.name for one in submission_options(lambda: None).__click_params__}
    assert {"session", "roles", "max_result_age"} <= shared
    assert shared <= parameters(submit) & parameters(explain)
    of_submit = {"idempotency_key", "unique_key", "unique_policy"}
    in_a_file = {one.name for one in dataclasses.fields(RequestFile)}
    assert {name.rstrip("_") for name in shared | of_submit} <= in_a_file


def test_a_submission_is_what_the_file_says_and_nothing_else(write):
    request, told = read_submission(write(BOTH))
    assert request.circuit == "bell.qasm"
    assert told == {"shots": 5, "roles": ("lab",), "max_result_age": 60.0}


def test_points_are_those_of_the_bindings(write):
    document = {**BOTH, "bindings": {"a": [0.0, 1.0], "b": [0.5, 0.5]}}
    assert read_request(write(document), {}).points == 2
    assert read_submission(write({**document, "points": 2}))[1]["bindings"] == {"a": (0, 1), "b": (0.5, 0.5)}
    assert refused(write({**document, "points": 3})) == {("SB-2002", "$.points")}


def test_what_only_explain_can_be_told_is_no_submission(write):
    path = write({**BOTH, "principal": "eve", "satisfied": ["approval"], "problem": True})
    assert refused(path) == {("SB-2002", f"$.{name}") for name in ("principal", "satisfied", "problem")}
    assert read_request(path, {}).problem


@pytest.mark.parametrize("document", [{}, {"circuit": "a.qasm", "program": "OPENQASM 3;"}])
def test_a_submission_has_one_circuit(write, document):
    assert refused(write(document)) == {("SB-2002", "$.circuit")}


@pytest.mark.parametrize("problem", [ISING, {"kind": "hamiltonian", "terms": {"ZZ": 1, "XI": 0.5}}])
def test_a_problem_is_stated_by_a_table(write, problem):
    path = write({**BOTH, "problem": problem})
    assert read_submission(path)[1]["problem"].kind == problem["kind"]
    assert read_request(path, {}).problem is True


@pytest.mark.parametrize(
    ("problem", "places"),
    [
        ({}, {("SB-2002", "$.problem.kind")}),
        ({"kind": "hamiltonian", "terms": {"ZZ": 1, "X": 1}}, {("SB-1401", "$.problem.terms")}),
        ({"kind": "hamiltonian"}, {("SB-1401", "$.problem.terms")}),
        ({"kind": "hamiltonian", "terms": {"Z": "x"}}, {("SB-2002", "$.problem.terms.Z")}),
        ({**ISING, "terms": {"Z": 1}}, {("SB-2002", "$.problem.terms")}),
        ({**ISING, "edges": [[0, 2]]}, {("SB-2002", "$.problem.edges[0]")}),
        ({**ISING, "couplings": []}, {("SB-2002", "$.problem.couplings")}),
        ({**ISING, "h": [float("nan"), 1.0]}, {("SB-2002", "$.problem")}),
        ({**ISING, "spins": 2}, {("SB-2001", "$.problem.spins")}),
    ],
    ids=str,
)
def test_a_wrong_problem_is_told_with_the_rest_of_the_file(write, problem, places):
    found = refused(write({**BOTH, "problem": problem, "colour": "red"}))
    assert found == places | {("SB-2001", "$.colour")}
