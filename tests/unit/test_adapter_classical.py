"""The classical adapter: right answers, and a named refusal for everything else."""

import itertools

import numpy as np
import pytest
from qiskit.quantum_info import SparsePauliOp
from worker_kit import batch, item, request

from shotbus.schemas.packed import pack
from shotbus.schemas.pub import Bindings, PauliSums, ProblemStatement, pack_observables, unpack_result
from shotbus.workers.adapters.base import load
from shotbus.workers.adapters.classical import MAX_QUBITS, MAX_SPINS


def statement(kind, version=1, payload=b""):
    return {"kind": kind, "version": version, "payload": payload}


def stated(problem):
    return statement(problem.kind, problem.version, problem.payload)


def answer(problem):
    return load("classical").run(batch([item(request(mode="estimate", problem=problem))]))[0]


def value(problem):
    result = answer(problem)
    assert not result.problems
    estimates = unpack_result(result.payload)
    assert estimates.evs.shape == estimates.stds.shape == (1, 1)
    assert estimates.stds[0, 0] == 0.0
    return estimates.evs[0, 0]


def test_a_job_of_many_points_has_a_row_a_point():
    problem = stated(ProblemStatement.hamiltonian(random_sum(2, 3)))
    bindings = Bindings(("a",), np.zeros((3, 1)))
    asked = request("", bindings, mode="estimate", problem=problem)
    estimates = unpack_result(load("classical").run(batch([item(asked)]))[0].payload)
    assert estimates.evs.tolist() == [[value(problem)]] * 3
    assert estimates.stds.tolist() == [[0.0]] * 3


def test_more_points_than_a_result_may_have_are_refused():
    problem = stated(ProblemStatement.hamiltonian(random_sum(1, 2)))
    asked = request(points=100_000, mode="estimate", problem=problem)
    result = load("classical").run(batch([item(asked)]))[0]
    assert (result.problems[0].code, result.error_class) == ("SB-1113", "CONSTRAINT")


def random_sum(qubits, terms, letters="IXYZ"):
    rng = np.random.default_rng(qubits)
    labels = ["".join(rng.choice(list(letters), qubits)) for _ in range(terms)]
    return PauliSums.from_terms([list(zip(labels, rng.normal(size=terms).tolist(), strict=True))])


@pytest.mark.parametrize(
    ("qubits", "letters"), [(1, "XZ"), (4, "IXYZ"), (8, "IXYZ"), (9, "IXYZ"), (9, "IXZ"), (6, "IZ"), (3, "I")]
)
def test_the_lowest_eigenvalue_is_found(qubits, letters):
    observable = random_sum(qubits, 12, letters)
    matrix = SparsePauliOp.from_list(observable.terms(0)).to_matrix()
    wanted = np.linalg.eigvalsh(matrix)[0]
    assert value(stated(ProblemStatement.hamiltonian(observable))) == pytest.approx(wanted, abs=1e-9)


def test_the_same_question_has_the_same_answer_to_the_last_bit():
    problem = stated(ProblemStatement.hamiltonian(random_sum(10, 15)))
    assert value(problem) == value(problem)


@pytest.mark.parametrize("spins", [1, 2, 7, 10])
def test_the_lowest_ising_energy_is_found(spins):
    rng = np.random.default_rng(spins)
    edges = np.array(list(itertools.combinations(range(spins), 2)), dtype=int).reshape(-1, 2)
    # Both directions of an edge may be given, and an edge twice: couplings add up.
    edges = np.concatenate([edges, edges[::-1, ::-1]])
    h, couplings = rng.normal(size=spins), rng.normal(size=len(edges))
    states = np.array(list(itertools.product([1, -1], repeat=spins)))
    energies = states @ h + (states[:, edges[:, 0]] * states[:, edges[:, 1]]) @ couplings
    assert value(stated(ProblemStatement.ising(h, edges, couplings))) == pytest.approx(energies.min())


def test_the_largest_ising_problem_is_answered():
    spins = MAX_SPINS
    ring = np.array([(k, (k + 1) % spins) for k in range(spins)])
    assert value(stated(ProblemStatement.ising(np.zeros(spins), ring, -np.ones(spins)))) == -spins


def wide():
    return stated(ProblemStatement.hamiltonian(PauliSums.from_terms([[("X" * (MAX_QUBITS + 1), 1.0)]])))


def many_spins():
    return stated(ProblemStatement.ising(np.zeros(MAX_SPINS + 1), np.zeros((0, 2)), np.zeros(0)))


def two_observables():
    return statement("hamiltonian", payload=pack_observables(PauliSums.from_terms([[("X", 1)], [("Z", 1)]])))


def loop_edge():
    return stated(ProblemStatement.ising(np.zeros(3), np.array([[1, 1]]), np.ones(1)))


REFUSED = {
    "none": (None, "SB-1110", "CONSTRAINT"),
    "kind": (statement("factoring"), "SB-1404", "INVALID"),
    "version": (statement("ising", 2), "SB-1404", "INVALID"),
    "garbage": (statement("ising", payload=b"garbage"), "SB-1403", "INVALID"),
    "not Paulis": (statement("hamiltonian", payload=pack({"x": np.zeros(1)})), "SB-1403", "INVALID"),
    "missing array": (statement("ising", payload=pack({"h": np.zeros(1)})), "SB-1403", "INVALID"),
    "two observables": (two_observables(), "SB-1403", "INVALID"),
    "loop": (loop_edge(), "SB-1403", "INVALID"),
    "too many qubits": (wide(), "SB-1110", "CONSTRAINT"),
    "too many spins": (many_spins(), "SB-1110", "CONSTRAINT"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_answered_is_refused_by_name(case):
    problem, code, error_class = REFUSED[case]
    result = answer(problem)
    assert (result.problems[0].code, result.error_class, result.payload) == (code, error_class, b"")


def test_limits_are_told():
    assert str(MAX_SPINS) in answer(many_spins()).problems[0].limit
    assert answer(many_spins()).problems[0].actual == str(MAX_SPINS + 1)


def test_scattered_terms_that_would_need_too_much_memory_are_refused():
    observable = random_sum(MAX_QUBITS, 60, "XYZ")
    assert answer(stated(ProblemStatement.hamiltonian(observable))).problems[0].code == "SB-1110"
