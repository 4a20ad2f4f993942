"""Backends that Qiskit Runtime brings along: their noise and couplings, on the path that real ones take."""

import numpy as np
import pytest
from worker_kit import angles, batch, item, request, rotations

from shotbus.schemas.pub import PauliSums, pack_observables, unpack_result
from shotbus.workers.adapters.base import load

TEXT, NAMES = rotations(2)
BARE, BARE_NAMES = rotations(2, measured=False)


@pytest.fixture(scope="module")
def manila():
    return load("ibm", {"backend": "fake_manila"})


def run(adapter, raw, text, **more):
    (result,) = adapter.run(batch([item(raw, **more)], text))
    assert result.problems == ()
    return unpack_result(result.payload)


def test_a_bell_pair_comes_back_with_the_noise_of_its_device(manila):
    text = "OPENQASM 3.0; include 'stdgates.inc'; qubit[2] q; bit[2] c; h q[0]; cx q[0], q[1]; c = measure q;"
    counts = run(manila, request(text, shots=4_000), text)
    seen = dict(zip(counts.outcomes[:, 0].tolist(), counts.counts.tolist(), strict=True))
    assert sum(seen.values()) == 4_000
    wrong = seen.get(1, 0) + seen.get(2, 0)
    assert 20 < wrong < 600
    assert seen[0] > 1_500
    assert seen[3] > 1_500


def test_rows_do_not_depend_on_how_a_sweep_is_cut(manila):
    whole = run(manila, request(TEXT, angles(NAMES, 4)), TEXT, seed=9)
    from shotbus.schemas.pub import Bindings

    matrix = angles(NAMES, 4).matrix
    rear = run(manila, request(TEXT, Bindings(NAMES, matrix[2:])), TEXT, seed=9 + 2 * 2113)
    start = int(whole.indptr[2])
    assert rear.counts.tolist() == whole.counts[start:].tolist()
    assert rear.outcomes.tolist() == whole.outcomes[start:].tolist()


def test_rows_of_a_circuit_without_parameters_are_rows(manila):
    text = "OPENQASM 3.0; include 'stdgates.inc'; qubit[1] q; bit[1] c; h q[0]; c = measure q;"
    from shotbus.schemas.pub import Bindings

    counts = run(manila, request(text, Bindings((), np.zeros((3, 0))), shots=50), text)
    sums = np.add.reduceat(counts.counts, counts.indptr[:-1])
    assert sums.tolist() == [50, 50, 50]


def test_estimates_are_near_the_truth_with_errors_that_say_how_near(manila):
    observables = PauliSums.from_terms([[("ZI", 1.0)], [("XX", 0.5), ("ZZ", 0.5)]])
    raw = request(
        BARE,
        angles(BARE_NAMES, 2, seed=3),
        mode="estimate",
        observables=pack_observables(observables),
        shots=4_000,
    )
    noisy = run(manila, raw, BARE)
    ideal = unpack_result(load("vector").run(batch([item(raw)], BARE))[0].payload)
    assert noisy.stds.min() > 0
    assert np.abs(noisy.evs - ideal.evs).max() < 0.15


def test_what_no_such_backend_is_makes_the_pool_unhealthy_with_the_reason():
    absent = load("ibm", {"backend": "fake_atlantis"})
    assert "fake_atlantis" in absent.sense().unhealthy
    (result,) = absent.run(batch([item(request(TEXT, angles(NAMES, 1)))], TEXT))
    assert result.error_class == "BACKEND_DOWN"


def test_a_circuit_wider_than_the_backend_is_another_pools(manila):
    text, names = rotations(6)
    (result,) = manila.run(batch([item(request(text, angles(names, 1)))], text))
    assert (result.error_class, result.problems[0].code) == ("CONSTRAINT", "SB-1116")


def test_provenance_names_backend_calibration_layout_and_submission(manila):
    known = batch([item(request(TEXT, angles(NAMES, 1)))], TEXT)
    manila.run(known)
    told = manila.provenance(known)
    assert told["backend"] == "fake_manila"
    assert {"qiskit", "qiskit-ibm-runtime", "qiskit-aer"} <= set(told["versions"])
    (circuit,) = told["circuits"].values()
    assert len(circuit["layout"]) == 2
    (job,) = told["provider"]["jobs"].values()
    assert (job["status"], len(job["submission_sha256"]), len(job["answer_sha256"])) == ("done", 64, 64)
    assert manila.calibration(told["calibration_id"]).startswith(b'{"calibrated_ms":')


def test_a_job_of_a_process_that_is_gone_is_gone_and_one_that_is_here_is_found(manila):
    here = batch([item(request(TEXT, angles(NAMES, 1)), number=77)], TEXT)
    (ran,) = manila.run(here)
    (found,) = manila.look_up(here)
    assert (found.found, found.payload) == ("done", ran.payload)
    (other,) = load("ibm", {"backend": "fake_manila"}).look_up(here)
    assert other.found == "absent"


def test_leaving_out_the_noise_of_qubits_that_a_circuit_does_not_use_changes_no_count():
    from qiskit import QuantumCircuit, transpile
    from qiskit_aer import AerSimulator
    from qiskit_ibm_runtime.fake_provider import FakeLagosV2

    from shotbus.workers.adapters.ibm_local import LocalQueue, Piece, Simulators

    backend = FakeLagosV2()
    circuit = QuantumCircuit(3, 3)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.delay(500, 1, "ns")
    circuit.cx(1, 2)
    circuit.measure(range(3), range(3))
    compiled = transpile(circuit, target=backend.target, seed_transpiler=3, scheduling_method="alap")
    whole = AerSimulator.from_backend(backend).run(compiled, shots=3_000, seed_simulator=5).result()
    job = LocalQueue(Simulators(backend)).submit("one", [Piece((compiled, None, 3_000), 5)])
    (narrow,) = job.result()
    assert narrow.data.c.get_counts() == whole.get_counts()


def test_delays_are_aligned_as_the_device_needs_them_and_cost_what_it_forgets_meanwhile(manila):
    text = "OPENQASM 3.0; include 'stdgates.inc'; qubit[1] q; bit[1] c; x q[0]; {} c[0] = measure q[0];"
    at_once, later = (
        run(manila, request(text.format(wait), shots=4_000), text.format(wait))
        for wait in ("", "delay[100us] q[0];")
    )
    kept = [
        dict(zip(one.outcomes[:, 0].tolist(), one.counts.tolist(), strict=True))[1]
        for one in (at_once, later)
    ]
    assert kept[0] > 3_600
    assert kept[1] < 3_200
