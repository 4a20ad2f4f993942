"""Simulators that Braket's SDK brings along: its states, outcomes drawn by us, the path that its devices take."""

import numpy as np
import pytest
from worker_kit import angles, batch, item, request, rotations

from shotbus.schemas.pub import Bindings, PauliSums, pack_observables, unpack_result
from shotbus.workers.adapters.base import load

TEXT, NAMES = rotations(3)
BARE, BARE_NAMES = rotations(2, measured=False)
HEAD = "OPENQASM 3.0; include 'stdgates.inc'; "


@pytest.fixture(scope="module")
def simulator():
    return load("braket", {"device": "braket_sv"})


@pytest.fixture(scope="module")
def vector():
    return load("vector")


def run(adapter, raw, text, **more):
    (result,) = adapter.run(batch([item(raw, **more)], text))
    assert result.problems == ()
    return unpack_result(result.payload)


def same(one, other):
    assert one.registers == other.registers
    assert one.indptr.tolist() == other.indptr.tolist()
    assert one.outcomes.tolist() == other.outcomes.tolist()
    assert one.counts.tolist() == other.counts.tolist()


def test_what_is_drawn_is_what_our_own_simulator_draws_of_the_same_seed(simulator, vector):
    """Gates, the order of qubits, registers and seeds at once: two simulators that share no line agree."""
    text, names = rotations(5, 2)
    raw = request(text, angles(names, 4), shots=300)
    same(run(simulator, raw, text, seed=12), run(vector, raw, text, seed=12))


def test_the_density_matrix_has_the_same_outcomes(vector):
    raw = request(TEXT, angles(NAMES, 3))
    matrix = load("braket", {"device": "braket_dm"})
    same(run(matrix, raw, TEXT, seed=3), run(vector, raw, TEXT, seed=3))


def test_a_circuit_that_the_sdk_compiles_code_for_draws_the_same(simulator, vector):
    text, names = rotations(11)
    raw = request(text, angles(names, 1))
    same(run(simulator, raw, text, seed=4), run(vector, raw, text, seed=4))


def test_rows_do_not_depend_on_how_a_sweep_is_cut(simulator):
    whole = run(simulator, request(TEXT, angles(NAMES, 5)), TEXT, seed=9)
    rear = request(TEXT, Bindings(NAMES, angles(NAMES, 5).matrix[2:]))
    cut = run(simulator, rear, TEXT, seed=9 + 2 * 2113)
    start = int(whole.indptr[2])
    assert cut.counts.tolist() == whole.counts[start:].tolist()
    assert cut.outcomes.tolist() == whole.outcomes[start:].tolist()


def test_increments_of_shots_are_what_our_own_simulator_draws(simulator, vector):
    raw = request(TEXT, angles(NAMES, 2), shots=100, options={"shots_per_call": "30"})
    same(run(simulator, raw, TEXT), run(vector, raw, TEXT))


def test_a_qubit_read_into_two_bits_and_a_bit_that_nothing_reads(simulator):
    text = HEAD + "qubit[2] q; bit[4] c; h q[0]; cx q[0], q[1]; c[0] = measure q[0]; c[3] = measure q[0];"
    seen = run(simulator, request(text, shots=500), text)
    assert seen.outcomes[:, 0].tolist() == [0, 0b1001]


def test_rows_of_a_circuit_without_parameters_are_rows(simulator):
    text = HEAD + "qubit[1] q; bit[1] c; h q[0]; c = measure q;"
    counts = run(simulator, request(text, Bindings((), np.zeros((3, 0))), shots=50), text)
    sums = np.add.reduceat(counts.counts, counts.indptr[:-1])
    assert sums.tolist() == [50, 50, 50]


def test_estimates_are_near_the_truth_with_errors_that_say_how_near(simulator, vector):
    observables = PauliSums.from_terms([[("ZI", 1.0)], [("XX", 0.5), ("ZZ", 0.5)], [("YX", 1.0)]])
    packed = pack_observables(observables)
    told = {"mode": "estimate", "observables": packed}
    sampled = run(simulator, request(BARE, angles(BARE_NAMES, 2), shots=4_000, **told), BARE)
    exact = run(vector, request(BARE, angles(BARE_NAMES, 2), shots=0, **told), BARE)
    assert sampled.stds.min() > 0
    assert np.abs((sampled.evs - exact.evs) / sampled.stds).max() < 5


@pytest.mark.parametrize(
    "body",
    [
        "bit[1] c; h q[0]; c[0] = measure q[0]; if (c[0]) { x q[1]; }",
        "bit[2] c; c[0] = measure q[0]; x q[0]; c[1] = measure q[0];",
        "bit[1] c; h q[0]; reset q[0]; c[0] = measure q[0];",
    ],
    ids=["condition", "measured in the middle", "reset"],
)
def test_what_is_more_than_gates_and_then_measurements_is_another_pools(simulator, body):
    text = f"{HEAD} qubit[2] q; {body}"
    (result,) = simulator.run(batch([item(request(text))], text))
    assert (result.error_class, result.problems[0].code) == ("CONSTRAINT", "SB-1118")


def test_a_circuit_wider_than_the_pool_is_another_pools():
    text, names = rotations(6)
    narrow = load("braket", {"device": "braket_sv", "max_qubits": "5"})
    (result,) = narrow.run(batch([item(request(text, angles(names, 1)))], text))
    assert (result.error_class, result.problems[0].code) == ("CONSTRAINT", "SB-1116")


def test_a_remedy_by_another_layout_changes_nothing_where_all_qubits_are_alike(simulator):
    plain = run(simulator, request(TEXT, angles(NAMES, 1)), TEXT)
    other = run(simulator, request(TEXT, angles(NAMES, 1), options={"layout": "b"}), TEXT)
    same(plain, other)


def test_values_that_make_an_angle_infinite_are_the_jobs_own_fault(simulator):
    text = HEAD + "input float a; qubit[1] q; bit[1] c; rx(1 / a) q[0]; c = measure q;"
    (result,) = simulator.run(batch([item(request(text, Bindings(("a",), np.zeros((1, 1)))))], text))
    assert (result.error_class, result.problems[0].code) == ("INVALID", "SB-1220")


def test_provenance_names_simulator_and_versions_and_there_is_no_calibration(simulator):
    known = batch([item(request(TEXT, angles(NAMES, 1)))], TEXT)
    (result,) = simulator.run(known)
    assert result.backend_seconds > 0
    told = simulator.provenance(known)
    assert (told["backend"], told["calibration_id"]) == ("braket_sv", "")
    assert {"qiskit", "amazon-braket-default-simulator"} <= set(told["versions"])
    (job,) = told["provider"]["jobs"].values()
    assert (job["status"], len(job["submission_sha256"]), len(job["answer_sha256"])) == ("done", 64, 64)


def test_a_job_of_a_process_that_is_gone_is_gone_and_one_that_is_here_is_found(simulator):
    here = batch([item(request(TEXT, angles(NAMES, 1)), number=77)], TEXT)
    (ran,) = simulator.run(here)
    (found,) = simulator.look_up(here)
    assert (found.found, found.payload) == ("done", ran.payload)
    (other,) = load("braket", {"device": "braket_sv"}).look_up(here)
    assert other.found == "absent"
