"""The Aer adapter: seeds that never show how work was cut, right counts and values, neighbours unharmed."""

import numpy as np
import pytest
from qiskit import QuantumCircuit, qasm3, transpile
from qiskit.quantum_info import SparsePauliOp, Statevector
from qiskit_aer import AerSimulator
from worker_kit import angles, batch, item, request, rotations

from shotbus.schemas.pub import PauliSums, pack_observables, unpack_bindings, unpack_result
from shotbus.workers.adapters import aer_run
from shotbus.workers.adapters.aer_run import SEED_STRIDE, row_seed
from shotbus.workers.adapters.base import load

SAMPLED, NAMES = rotations(3)
BARE, _ = rotations(3, measured=False)
TWO_BASES = PauliSums.from_terms(
    [[("ZZI", 1.0), ("IIX", 0.5), ("III", 2.0)], [("IZZ", -1.0)], [("XXX", 1.0)]]
)


@pytest.fixture(scope="module")
def aer():
    """One adapter for all: what it keeps between batches must not show either."""
    return load("aer")


def payloads(adapter, items, *texts):
    results = adapter.run(batch(items, *texts))
    assert [result.problems for result in results] == [()] * len(items)
    return [result.payload for result in results]


def estimated(text, bindings, shots, observables=TWO_BASES, **fields):
    packed = pack_observables(observables)
    return request(text, bindings, mode="estimate", shots=shots, observables=packed, **fields)


def qiskit_counts(text, bindings, seed, shots=100):
    backend = AerSimulator(max_parallel_threads=1)
    circuit = transpile(qasm3.loads(text), backend, optimization_level=1, seed_transpiler=0)
    binds = [{p: bindings.matrix[:, bindings.names.index(p.name)].tolist() for p in circuit.parameters}]
    result = backend.run(circuit, parameter_binds=binds, shots=shots, seed_simulator=seed).result()
    return [result.get_counts(row) for row in range(bindings.points)]


@pytest.mark.parametrize("seed", [0, 7, 2**31 - 1, 2**63 - 3 * SEED_STRIDE, -5])
def test_aers_stride_between_rows_is_what_chunking_relies_on(seed):
    rows = angles(NAMES, 6)
    whole = qiskit_counts(SAMPLED, rows, seed)
    assert whole[4:] == qiskit_counts(SAMPLED, rows.rows(4, 6), row_seed(seed, 4))
    assert whole[1] == qiskit_counts(SAMPLED, rows.rows(1, 2), row_seed(seed, 1))[0]


def test_seeds_stay_within_what_aer_takes():
    for seed, row, basis in ((2**63 - 1, 10**6, None), (-(2**63), 0, 3), (0, 0, 7)):
        assert -(2**63) <= row_seed(seed, row, basis) < 2**63
    assert len({row_seed(7, 0, basis) for basis in [None, *range(500)]}) == 501


def test_counts_are_those_of_qiskit_for_the_same_seed(aer):
    rows = angles(NAMES, 5)
    counts = unpack_result(payloads(aer, [item(request(SAMPLED, rows))], SAMPLED)[0])
    assert [counts.row(row) for row in range(5)] == qiskit_counts(SAMPLED, rows, 7)


REGISTERS = """OPENQASM 3.0; include "stdgates.inc"; qubit[3] q; bit[2] low; bit[1] high;
x q[0]; h q[2]; low[0] = measure q[0]; low[1] = measure q[1]; high[0] = measure q[2];"""


def test_registers_are_kept_and_written_as_qiskit_writes_them(aer):
    counts = unpack_result(payloads(aer, [item(request(REGISTERS))], REGISTERS)[0])
    assert counts.registers == (("low", 2), ("high", 1))
    backend = AerSimulator()
    result = backend.run(transpile(qasm3.loads(REGISTERS), backend), shots=100, seed_simulator=7).result()
    assert counts.row(0) == result.get_counts()


def test_more_than_64_bits_are_counted(aer):
    circuit = QuantumCircuit(70, 70)
    circuit.x(69)
    circuit.x(2)
    circuit.measure(range(70), range(70))
    text = qasm3.dumps(circuit)
    sent = request(text, options={"method": "stabilizer"})
    counts = unpack_result(payloads(aer, [item(sent)], text)[0])
    assert counts.row(0) == {"1" + "0" * 66 + "100": 100}


@pytest.mark.parametrize("observables", [None, TWO_BASES], ids=["sample", "estimate"])
def test_cutting_into_chunks_bundles_and_shards_never_shows(aer, monkeypatch, observables):
    rows = angles(NAMES, 12)
    text = BARE if observables else SAMPLED
    make = (lambda part: estimated(text, part, 64)) if observables else (lambda part: request(text, part))
    (whole,) = payloads(aer, [item(make(rows))], text)
    cuts = [(0, 5), (5, 6), (6, 12)]
    shards = [item(make(rows.rows(a, b)), seed=row_seed(7, a)) for a, b in cuts]
    together = payloads(aer, shards, text)
    mixed = payloads(aer, [shards[2], item(make(rows), seed=99), shards[0], shards[1]], text)
    assert [mixed[2], mixed[3], mixed[0]] == together
    assert together == [payloads(load("aer"), [shard], text)[0] for shard in shards]
    monkeypatch.setattr(aer_run, "MAX_ENTRIES", 16)
    assert payloads(aer, [item(make(rows))], text) == [whole]
    merged = [unpack_result(part) for part in together]
    if observables:
        assert np.concatenate([part.evs for part in merged]).tobytes() == unpack_result(whole).evs.tobytes()
        assert np.concatenate([part.stds for part in merged]).tobytes() == unpack_result(whole).stds.tobytes()
    else:
        rows_of_parts = [part.row(row) for part in merged for row in range(part.points)]
        assert rows_of_parts == [unpack_result(whole).row(row) for row in range(12)]


def test_shards_of_one_sweep_share_a_call_and_strangers_do_not(aer, monkeypatch):
    calls = []
    original = aer_run._call

    def spy(backend, rows, part, seed):
        calls.append(part.shape[0])
        return original(backend, rows, part, seed)

    monkeypatch.setattr(aer_run, "_call", spy)
    rows = angles(NAMES, 6)
    shards = [item(request(SAMPLED, rows.rows(k, k + 2)), seed=row_seed(7, k)) for k in (0, 2, 4)]
    payloads(aer, [*shards, item(request(SAMPLED, rows), seed=1000)], SAMPLED)
    assert calls == [6, 6]
    calls.clear()
    payloads(aer, [item(estimated(BARE, rows, 0), seed=seed) for seed in (1, 2, 3)], BARE)
    assert calls == [18]


def exact_values(text, bindings, observables):
    circuit = qasm3.loads(text)
    values = []
    for row in bindings.matrix:
        bound = circuit.assign_parameters(dict(zip(bindings.names, row.tolist(), strict=True)))
        state = Statevector(bound)
        operators = [SparsePauliOp.from_list(observables.terms(k)) for k in range(observables.count)]
        values.append([state.expectation_value(operator).real for operator in operators])
    return np.array(values)


@pytest.mark.parametrize("level", ["0", "1", "2", "3"])
def test_exact_values_are_exact_at_every_optimisation_level(aer, level):
    circuit = QuantumCircuit(3)
    circuit.ry(0.3, 0)
    circuit.cx(0, 1)
    circuit.swap(1, 2)
    circuit.rx(1.1, 1)
    text = qasm3.dumps(circuit)
    rows = unpack_bindings(b"", points=1)
    (payload,) = payloads(aer, [item(estimated(text, rows, 0, options={"optimization_level": level}))], text)
    (sampled,) = payloads(
        aer, [item(estimated(text, rows, 20_000, options={"optimization_level": level}))], text
    )
    estimates, wanted = unpack_result(payload), exact_values(text, rows, TWO_BASES)
    np.testing.assert_allclose(estimates.evs, wanted, atol=1e-12)
    assert not estimates.stds.any()
    np.testing.assert_allclose(unpack_result(sampled).evs, wanted, atol=0.05)


def test_estimates_agree_with_exact_values_within_their_errors(aer):
    rows = angles(NAMES, 40)
    sampled, exact = payloads(aer, [item(estimated(BARE, rows, 4_000)), item(estimated(BARE, rows, 0))], BARE)
    sampled, exact = unpack_result(sampled), unpack_result(exact)
    np.testing.assert_allclose(exact.evs, exact_values(BARE, rows, TWO_BASES), atol=1e-12)
    pulls = (sampled.evs - exact.evs) / sampled.stds
    assert np.abs(pulls).max() < 5
    # The errors are neither too small nor too large: 120 pulls have a spread of one.
    assert 0.75 < pulls.std() < 1.25


def test_measurements_at_the_end_do_not_disturb_estimates(aer):
    rows = angles(NAMES, 3)
    bare, measured = (payloads(aer, [item(estimated(text, rows, 500))], text)[0] for text in (BARE, SAMPLED))
    assert bare == measured


MID = """OPENQASM 3.0; include "stdgates.inc"; qubit[2] q; bit[1] c;
h q[0]; c[0] = measure q[0]; if (c[0]) { x q[1]; }"""


def test_a_circuit_that_measures_on_its_way_is_estimated_by_shots_only(aer):
    observables = PauliSums.from_terms([[("ZZ", 1.0)], [("XI", 1.0)]])
    rows = unpack_bindings(b"", points=1)
    sampled, exact = aer.run(batch([item(estimated(MID, rows, n, observables)) for n in (2_000, 0)], MID))
    assert unpack_result(sampled.payload).evs[0, 0] == 1.0
    assert abs(unpack_result(sampled.payload).evs[0, 1]) < 0.2
    assert exact.problems[0].code == "SB-1215"


def test_parameters_that_cancel_out_still_make_one_row_a_point(aer):
    text = """OPENQASM 3.0; include "stdgates.inc"; input float a; input float b; qubit[1] q; bit[1] c;
rz(a) q[0]; rz(-a) q[0]; c[0] = measure q[0];"""
    rows = angles(("a", "b"), 3)
    counts = unpack_result(payloads(aer, [item(request(text, rows))], text)[0])
    assert [counts.row(row) for row in range(3)] == [{"0": 100}] * 3


def test_openqasm_2_runs(aer):
    text = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; x q[1]; measure q -> c;'
    counts = unpack_result(payloads(aer, [item(request(text))], text)[0])
    assert counts.row(0) == {"10": 100}


def test_shots_and_stages_are_accounted_for(aer):
    rows = angles(NAMES, 4)
    results = aer.run(batch([item(request(SAMPLED, rows)), item(estimated(BARE, rows, 50))], SAMPLED, BARE))
    assert [result.shots for result in results] == [400, 4 * 50 * 2]
    for result in results:
        stages = result.timings.as_dict()
        assert {"compile", "provider-submit", "execute", "retrieve", "decode"} <= stages.keys()
        assert {row[0]: row[3] for row in result.timings.rows()}[11] == len(result.payload)
