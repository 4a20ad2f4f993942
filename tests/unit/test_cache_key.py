"""Which results may be served to which other jobs."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))  # the helpers that several suites share

from dispatcher_kit import request

from shotbus.broker.dispatcher.edge import cache_key


def problem(payload=b"1", kind="ising", version=1):
    return {"kind": kind, "version": version, "payload": payload}


def key(*, solved=False, pool="p", **changes):
    return cache_key(request(1, **({"seed": 3} | changes)), pool, solved=solved)


def test_a_simulators_answer_does_not_depend_on_the_problem_behind_the_circuit():
    assert key(problem=problem()) == key(problem=problem(b"2")) == key(problem=None) != ""


def test_a_solvers_answer_does():
    stated = [problem(), problem(b"2"), problem(kind="hamiltonian"), problem(version=2)]
    assert len({key(solved=True, problem=one) for one in stated}) == 4


@pytest.mark.parametrize(
    "changes", [{"tenant": "t2"}, {"pool": "q"}, {"seed": 4}, {"shots": 9}, {"bindings": b"x"}]
)
def test_what_changes_the_answer_changes_the_key(changes):
    assert key(**changes) not in ("", key())


def test_an_unseeded_sample_is_served_to_nobody_else():
    assert key(seed=None) == ""
