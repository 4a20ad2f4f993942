"""Bindings, observables, outcomes: what they cost on the wire, and that Qiskit reads them as we do."""

import numpy as np
import pytest
from edge_kit import codes
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from qiskit import QuantumCircuit
from qiskit.circuit import ClassicalRegister, Parameter, QuantumRegister
from qiskit_aer import AerSimulator
from qiskit_aer.primitives import SamplerV2

from shotbus.producers.databin import databin_of
from shotbus.schemas.packed import pack, unpack
from shotbus.schemas.pub import (
    MAX_POINTS,
    Bindings,
    Counts,
    Estimates,
    PauliSums,
    ProblemStatement,
    pack_bindings,
    pack_counts,
    pack_estimates,
    pack_observables,
    unpack_bindings,
    unpack_observables,
    unpack_result,
)

NAMES = tuple(f"p{n}" for n in range(48))


def sweep(points, changed):
    """Bindings of 48 parameters of which ``changed`` vary."""
    matrix = np.tile(np.linspace(0.1, 4.8, 48), (points, 1))
    matrix[:, :changed] += np.arange(points)[:, None]
    return Bindings(NAMES, matrix)


# -- bindings ----------------------------------------------------------------------------------------


def test_a_sweep_of_two_of_48_parameters_sends_two_columns():
    bindings = sweep(100, 2)
    wire = pack_bindings(bindings)
    arrays, _ = unpack(wire)
    assert arrays["values"].shape == (100, 2)
    assert arrays["columns"].tolist() == [0, 1]
    assert len(wire) < 0.1 * bindings.matrix.nbytes
    assert (unpack_bindings(wire, points=100).matrix == bindings.matrix).all()


def test_a_matrix_that_changes_everywhere_or_has_one_row_travels_in_full():
    assert "matrix" in unpack(pack_bindings(sweep(100, 48)))[0]
    assert "matrix" in unpack(pack_bindings(sweep(1, 48)))[0]


def test_equal_rows_send_one_row():
    wire = pack_bindings(sweep(1000, 0))
    assert len(wire) < 2_000
    assert (unpack_bindings(wire, points=1000).matrix == sweep(1000, 0).matrix).all()


@given(
    hnp.arrays(
        "<f8",
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_any_matrix_comes_back(matrix):
    bindings = Bindings(NAMES[: matrix.shape[1]], matrix)
    back = unpack_bindings(pack_bindings(bindings), points=matrix.shape[0])
    assert back.names == bindings.names
    assert back.matrix.dtype == matrix.dtype
    assert np.array_equal(back.matrix, matrix)


def test_no_parameters_cost_no_bytes():
    assert pack_bindings(Bindings((), np.zeros((7, 0)))) == b""
    assert unpack_bindings(b"", points=7).matrix.shape == (7, 0)


def full(matrix, names=("a", "b")):
    return pack({"matrix": np.asarray(matrix)}, {"names": list(names)})


def delta(base, columns, values, names=("a", "b")):
    arrays = {"base": np.asarray(base), "columns": np.asarray(columns), "values": np.asarray(values)}
    return pack(arrays, {"names": list(names)})


I4 = np.dtype("<i4")
HOSTILE = {
    "no points": (b"", 0, "SB-1305"),
    "too many points": (b"", MAX_POINTS + 1, "SB-1305"),
    "noise": (b"noise", 1, "SB-1004"),
    "names missing": (pack({"matrix": np.zeros((1, 1))}), 1, "SB-1304"),
    "names are numbers": (full([[0.0, 0.0]], (1, 2)), 1, "SB-1304"),
    "other rows than points": (full([[0.0, 0.0]]), 2, "SB-1304"),
    "other columns than names": (full([[0.0]]), 1, "SB-1304"),
    "three dimensions": (full(np.zeros((1, 2, 1))), 1, "SB-1304"),
    "complex": (full(np.zeros((1, 2), dtype=complex)), 1, "SB-1304"),
    "integers": (full(np.zeros((1, 2), dtype="<i8")), 1, "SB-1304"),
    "not a number": (full([[0.0, np.nan]]), 1, "SB-1303"),
    "infinite": (full([[-np.inf, 0.0]]), 1, "SB-1303"),
    "neither form": (pack({"base": np.zeros(2)}, {"names": ["a", "b"]}), 1, "SB-1304"),
    "delta with a column twice": (delta([0.0, 0.0], np.array([1, 1], I4), np.zeros((3, 2))), 3, "SB-1304"),
    "delta with column -1": (delta([0.0, 0.0], np.array([-1], I4), np.zeros((3, 1))), 3, "SB-1304"),
    "delta with column 2": (delta([0.0, 0.0], np.array([2], I4), np.zeros((3, 1))), 3, "SB-1304"),
    "delta with column 0.5": (delta([0.0, 0.0], np.array([0.5]), np.zeros((3, 1))), 3, "SB-1304"),
    "delta with complex values": (
        delta([0.0, 0.0], np.array([1], I4), np.zeros((3, 1), complex)),
        3,
        "SB-1304",
    ),
    "delta with other shapes": (delta([0.0, 0.0], np.array([1], I4), np.zeros(3)), 3, "SB-1304"),
    "delta with NaN": (delta([0.0, 0.0], np.array([1], I4), [[0.0], [np.nan], [0.0]]), 3, "SB-1303"),
    "delta that expands to 80 GB": (
        delta(np.zeros(10_000), np.zeros(0, I4), np.zeros((1_000_000, 0))),
        1_000_000,
        "SB-1304",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bindings_are_refused(name):
    data, points, code = HOSTILE[name]
    assert codes(unpack_bindings, data, points=points) == [code]


def test_only_the_first_values_that_are_not_finite_are_named():
    found = codes(unpack_bindings, full(np.full((10, 2), np.nan)), points=10)
    assert found == ["SB-1303"] * 5


# -- observables and problems ------------------------------------------------------------------------


def test_observables_come_back_term_by_term():
    terms = [[("XIZ", 0.5), ("IIY", -2.0)], [("ZZZ", 1.0)]]
    sums = unpack_observables(pack_observables(PauliSums.from_terms(terms)))
    assert (sums.count, sums.qubits) == (2, 3)
    assert [sums.terms(number) for number in range(2)] == terms


def test_every_malformed_term_is_named():
    wrong = [[("XX", 1.0), ("XQ", 1.0)], [("X", 1.0), ("YY", float("nan")), ("YY", 1j)]]
    assert codes(PauliSums.from_terms, wrong) == ["SB-1401"] * 4


@pytest.mark.parametrize("wrong", [[], [[]], [[("", 1.0)]]])
def test_no_term_at_all_is_refused(wrong):
    assert set(codes(PauliSums.from_terms, wrong)) == {"SB-1401"}


GOOD = {"paulis": np.zeros((2, 3), "|u1"), "coefficients": np.ones(2), "indptr": np.array([0, 1, 2], I4)}


@pytest.mark.parametrize(
    "change",
    [
        {"paulis": np.full((2, 3), 4, "|u1")},
        {"paulis": np.zeros((2, 3))},
        {"paulis": np.zeros(6, "|u1")},
        {"paulis": np.zeros((3, 3), "|u1")},
        {"coefficients": np.array([1.0, np.nan])},
        {"coefficients": np.ones(2, complex)},
        {"coefficients": np.ones((2, 1))},
        {"indptr": np.array([0, 2, 1], I4)},
        {"indptr": np.array([1, 2], I4)},
        {"indptr": np.array([0, 3], I4)},
        {"indptr": np.array([0], I4)},
        {"indptr": np.array([0.0, 2.0])},
    ],
    ids=str,
)
def test_arrays_that_do_not_fit_together_are_no_observables(change):
    assert codes(unpack_observables, pack(GOOD)) == []
    assert codes(unpack_observables, pack(GOOD | change)) == ["SB-1401"]


def test_a_missing_array_is_named():
    assert codes(unpack_observables, pack({"paulis": GOOD["paulis"]})) == ["SB-1401"]


def test_problems_hold_what_a_solver_needs():
    operator = PauliSums.from_terms([[("ZZ", 1.0)]])
    assert unpack_observables(ProblemStatement.hamiltonian(operator).payload).terms(0) == [("ZZ", 1.0)]
    spins = ProblemStatement.ising(np.array([1, 0]), np.array([[0, 1]]), np.array([-1]))
    arrays, _ = unpack(spins.payload)
    assert (spins.kind, arrays["h"].dtype, arrays["edges"].dtype) == ("ising", "<f8", "<i4")


# -- outcomes ----------------------------------------------------------------------------------------


def circuit_of(widths):
    """Registers of some widths, each qubit turned differently, measured in a shuffled order."""
    total = sum(widths)
    registers = [ClassicalRegister(width, f"r{n}") for n, width in enumerate(widths)]
    circuit = QuantumCircuit(QuantumRegister(total, "q"), *registers)
    for qubit in range(total):
        circuit.ry(0.4 + 0.5 * qubit, qubit)
    circuit.measure(range(total), range(total)[::-1])
    return circuit


def as_counts(widths, table):
    """Qiskit's table of counts as ours."""
    outcomes = [int(label.replace(" ", ""), 2).to_bytes(-(-sum(widths) // 8), "little") for label in table]
    return Counts(
        tuple((f"r{n}", width) for n, width in enumerate(widths)),
        np.array([0, len(table)], I4),
        np.frombuffer(b"".join(outcomes), "|u1").reshape(len(table), -1),
        np.array(list(table.values()), "<u4"),
    )


@pytest.mark.parametrize("widths", [(1,), (3,), (2, 1), (1, 2, 3), (8,), (9,), (4, 4, 1), (3, 9)], ids=str)
def test_labels_are_qiskits_on_any_registers(widths):
    circuit = circuit_of(widths)
    table = AerSimulator(seed_simulator=1).run(circuit, shots=300).result().get_counts()
    counts = unpack_result(pack_counts(as_counts(widths, table)))
    assert counts.row(0) == table


@pytest.mark.parametrize("widths", [(1,), (2, 1), (8,), (3, 9)], ids=str)
def test_data_has_the_layout_of_qiskits_sampler(widths):
    circuit = circuit_of(widths)
    pub = SamplerV2(seed=7).run([(circuit, np.zeros((1, 0)), 200)]).result()[0].data
    table = AerSimulator(seed_simulator=1).run(circuit, shots=200).result().get_counts()
    ours = databin_of(as_counts(widths, table))
    assert list(ours.keys()) == list(pub.keys())
    for name in pub:
        assert (ours[name].num_bits, ours[name].num_shots) == (pub[name].num_bits, pub[name].num_shots)
        assert ours[name].array.shape == pub[name].array.shape
        assert ours[name].array.dtype == pub[name].array.dtype
    merged = [
        " ".join(reversed(bits)) for bits in zip(*(ours[name].get_bitstrings() for name in ours), strict=True)
    ]
    assert {label: merged.count(label) for label in merged} == table


def test_data_of_several_points_counts_as_qiskits_does():
    angle = Parameter("t")
    circuit = QuantumCircuit(1)
    circuit.rx(angle, 0)
    circuit.measure_all()
    points = np.array([[0.0], [np.pi]])
    theirs = SamplerV2(seed=7).run([(circuit, points, 16)]).result()[0].data
    ours = databin_of(
        Counts(
            (("meas", 1),), np.array([0, 1, 2], I4), np.array([[0], [1]], "|u1"), np.array([16, 16], "<u4")
        )
    )
    assert ours.shape == theirs.shape == (2,)
    assert [ours.meas.get_counts(n) for n in range(2)] == [theirs.meas.get_counts(n) for n in range(2)]


def test_estimates_come_back_and_are_a_databin():
    estimates = Estimates(np.arange(6.0).reshape(3, 2), np.zeros((3, 2)))
    back = unpack_result(pack_estimates(estimates))
    assert (back.evs == estimates.evs).all()
    assert databin_of(back).shape == (3, 2)


def test_the_empty_payload_is_no_answer_and_an_empty_databin():
    assert unpack_result(b"") is None
    assert not list(databin_of(None))


@pytest.mark.parametrize(
    "data",
    [
        b"noise",
        pack({"evs": np.zeros(1)}),
        pack({"x": np.zeros(1)}),
        pack({"counts": np.zeros(1)}, {"registers": [["c"]]}),
    ],
)
def test_a_payload_that_is_no_result_is_refused(data):
    assert codes(unpack_result, data) == ["SB-1004"]
