"""What callers may pass for circuits, bindings, observables and times."""

import datetime as dt

import numpy as np
import pennylane as qml
import pytest
from edge_kit import codes, refusal
from embedded_kit import BELL
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector
from qiskit.circuit.classical import types
from qiskit.quantum_info import Pauli, SparsePauliOp

from shotbus.producers.coerce import bindings_of, check_numbers_alone, observables_of, wall_ms
from shotbus.producers.program import program_of
from shotbus.schemas.pub import MAX_POINTS, Bindings, PauliSums

NOW = 1_000_000


# -- circuits ----------------------------------------------------------------------------------------


def test_a_text_is_kept_as_it_is_and_addressed_by_its_content():
    program = program_of(BELL)
    assert program.text == BELL
    assert program.circuit_id != program_of(BELL + "\n").circuit_id
    assert program_of(program) is program


def test_a_quantum_circuit_keeps_names_and_order_of_its_parameters():
    angles = ParameterVector("θ", 11)
    circuit = QuantumCircuit(1)
    for angle in [Parameter("z z"), *angles, Parameter("plain")]:
        circuit.rx(angle, 0)
    circuit.measure_all()
    program = program_of(circuit)
    back = {wire: name for name, wire in program.aliases.items()}
    assert [back.get(wire, wire) for wire in program.parameters] == [one.name for one in circuit.parameters]
    assert "plain" not in program.aliases
    assert set(program.parameters) == set(program.facts.parameters)


def test_inputs_that_are_no_parameters_are_refused():
    circuit = QuantumCircuit(1, 1, inputs=[])
    circuit.add_input("flag", types.Bool())
    circuit.measure(0, 0)
    assert codes(program_of, circuit) in (["SB-1215"], ["SB-1220"])


def tape(*measurements):
    return qml.tape.QuantumScript([qml.Hadamard("a"), qml.CNOT(["a", "b"])], list(measurements))


def test_a_tape_measures_what_it_says():
    assert program_of(tape(qml.counts())).facts.measurements == 2
    assert program_of(tape(qml.sample(wires=["b"]))).facts.measurements == 1
    assert program_of(tape()).facts.measurements == 0


def measured(**how):
    """A measurement in the middle, as PennyLane holds it."""
    return qml.measure("a", **how).measurements[0]


@pytest.mark.parametrize(
    "operation",
    [measured(reset=True), measured(postselect=1), qml.DepolarizingChannel(0.1, "a"), qml.TShift("a")],
    ids=["reset", "postselected", "channel", "qutrit"],
)
def test_a_tape_that_openqasm_cannot_say_is_refused_with_what_pennylane_says(operation):
    (problem,) = refusal(program_of, qml.tape.QuantumScript([operation], [qml.counts(wires=["a"])]))
    assert (problem.code, bool(problem.detail)) == ("SB-1220", True)


@pytest.mark.parametrize("measurement", [qml.expval(qml.Z("a")), qml.var(qml.Z("a")), qml.state()], ids=str)
def test_a_tape_that_asks_for_more_than_samples_is_told_to_pass_observables(measurement):
    (problem,) = refusal(program_of, tape(measurement))
    assert problem.code == "SB-1215"
    assert "observables" in problem.hint


@pytest.mark.parametrize(
    "thing",
    [None, 7, b"OPENQASM 3.0;", object(), QuantumCircuit, Pauli("X"), qml.device],
    ids=lambda thing: type(thing).__name__,
)
def test_what_is_no_circuit_is_refused_with_what_would_be_one(thing):
    (problem,) = refusal(program_of, thing)
    assert problem.code == "SB-1200"
    assert "QuantumCircuit" in problem.hint


# -- bindings ----------------------------------------------------------------------------------------


def matrix_of(given, parameters=("a", "b"), aliases=None):
    return bindings_of(given, parameters, aliases).matrix.tolist()


def test_a_matrix_is_taken_in_the_order_of_the_parameters():
    assert matrix_of([[1, 2], [3, 4]]) == [[1, 2], [3, 4]]
    assert matrix_of([1, 2]) == [[1, 2]]
    assert matrix_of(np.array([[1, 2]], dtype=np.float32)) == [[1, 2]]
    assert matrix_of(None, ()) == [[]]


def test_a_mapping_broadcasts_single_values():
    assert matrix_of({"b": [3, 4], "a": 1}) == [[1, 3], [1, 4]]
    assert matrix_of({Parameter("a"): True, "b": np.int64(2)}) == [[1, 2]]


def test_a_vector_is_one_column_an_element():
    vector = ParameterVector("v", 2)
    names = tuple(one.name for one in vector)
    assert matrix_of({vector: [1, 2]}, names) == [[1, 2]]
    assert matrix_of({vector: [[1, 2], [3, 4]]}, names) == [[1, 2], [3, 4]]
    assert codes(bindings_of, {vector: [1, 2, 3]}, names) == ["SB-1304"]


def test_names_of_the_text_and_of_the_caller_both_work():
    assert matrix_of({"a b": 1, "b": 2}, ("a_b", "b"), {"a b": "a_b"}) == [[1, 2]]
    assert matrix_of({"a_b": 1, "b": 2}, ("a_b", "b"), {"a b": "a_b"}) == [[1, 2]]


def test_errors_use_the_callers_names():
    paths = [
        one.path for one in refusal(bindings_of, {"b": np.nan}, ("a_b", "_b"), {"a b": "a_b", "b": "_b"})
    ]
    assert paths == ["$.bindings.a b", "$.bindings.b[0]"]


def test_bindings_are_taken_by_name():
    assert matrix_of(Bindings(("b", "a"), np.array([[1.0, 2.0]]))) == [[2, 1]]
    assert bindings_of(Bindings((), np.zeros((3, 0))), ()).points == 3


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["SB-1301", "SB-1301"]),
        ({"a": 1, "b": 1, "c": 1, "d": 1}, ["SB-1302", "SB-1302"]),
        ({"a": "x", "b": np.nan, "c": 1}, ["SB-1302", "SB-1304", "SB-1303"]),
        ({"a": 1, Parameter("a"): 2, "b": 1}, ["SB-1306"]),
        ({"a": [1, 2], "b": [1, 2, 3]}, ["SB-1304"]),
        ({"a": [[1]], "b": 1}, ["SB-1304"]),
        ({"a": [], "b": []}, ["SB-1305"]),
        ({"a": [[1], [2, 3]], "b": 1}, ["SB-1304"]),
        ([[1, 2, 3]], ["SB-1304"]),
        ([[[1, 2]]], ["SB-1304"]),
        ("ab", ["SB-1304"]),
        ([1j, 0], ["SB-1304"]),
        ([None, 0], ["SB-1304"]),
        ([dt.datetime(2020, 1, 1, tzinfo=dt.UTC), 0], ["SB-1304"]),
        (np.zeros((0, 2)), ["SB-1305"]),
        (np.broadcast_to(0.0, (MAX_POINTS + 1, 2)), ["SB-1305"]),
        ([10**400, 0], ["SB-1304"]),
    ],
    ids=str,
)
def test_what_is_wrong_with_bindings_is_said_at_once(given, expected):
    assert codes(bindings_of, given, ("a", "b")) == expected


@pytest.mark.parametrize(
    "given",
    [
        {"a": [0.0, 1.0, np.nan], "b": -np.inf},
        {Parameter("a"): np.nan, "b": [[1.0]]},
        {"a": [1, 2], "b": [1, 2, 3]},
        {"a": "x", "b": None},
        {ParameterVector("v", 2): [1, 2, 3]},
        Bindings(("a", "b"), np.array([[0.0, 1.0], [np.nan, 1.0]])),
        Bindings(("a", "b"), np.zeros((2, 2))),
        np.zeros((0, 2)),
        [[0.0, 1.0], [0.0, np.nan]],
        [np.inf, 0.0],
        [[[1.0, 2.0]]],
        "ab",
        {"a": [], "b": []},
        {"a": 1, "b": 2},
        {},
        None,
    ],
    ids=str,
)
def test_without_its_circuit_the_same_is_said_of_values_as_with_it(given):
    vector = isinstance(given, dict) and any(isinstance(key, ParameterVector) for key in given)
    names = ("v[0]", "v[1]") if vector else ("a", "b")
    with_it = [one for one in refusal(bindings_of, given, names) if one.code != "SB-1301"]
    alone = refusal(check_numbers_alone, given)
    assert [(one.code, one.path, one.actual) for one in alone] == [
        (one.code, one.path, one.actual) for one in with_it
    ]


def test_a_value_that_is_no_number_is_named_with_its_row_whatever_the_circuit():
    (problem,) = refusal(check_numbers_alone, {"theta": [0.0, 0.1, 0.2, np.nan]})
    assert (problem.code, problem.path, problem.actual) == ("SB-1303", "$.bindings.theta[3]", "nan")


def test_a_matrix_that_would_expand_to_gigabytes_is_refused():
    wide = tuple(f"p{n}" for n in range(100))
    assert codes(bindings_of, np.broadcast_to(0.0, (100_000, 100)), wide) == ["SB-1305"]


# -- observables -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("XZ", [[("XZ", 1.0)]]),
        (["XZ", "II"], [[("XZ", 1.0)], [("II", 1.0)]]),
        (("XZ", 2), [[("XZ", 2.0)]]),
        ([("XZ", 2), ("ZZ", -1)], [[("XZ", 2.0), ("ZZ", -1.0)]]),
        ([[("XZ", 2)], [("ZZ", -1)]], [[("XZ", 2.0)], [("ZZ", -1.0)]]),
        (Pauli("XZ"), [[("XZ", 1.0)]]),
        ({"XZ": 2, "ZZ": -1}, [[("XZ", 2.0), ("ZZ", -1.0)]]),
        ([{"XZ": 2}, "ZZ"], [[("XZ", 2.0)], [("ZZ", 1.0)]]),
        ([Pauli("XZ"), SparsePauliOp(["ZI"], [0.5])], [[("XZ", 1.0)], [("ZI", 0.5)]]),
        (SparsePauliOp(["XZ", "ZI"], [1, 2]), [[("XZ", 1.0), ("ZI", 2.0)]]),
    ],
    ids=str,
)
def test_observables_in_every_form(given, expected):
    sums = observables_of(given)
    assert [sums.terms(number) for number in range(sums.count)] == expected


def test_no_observables_stay_none_and_sums_stay_themselves():
    sums = PauliSums.from_terms([[("Z", 1.0)]])
    assert observables_of(None) is None
    assert observables_of(sums) is sums


@pytest.mark.parametrize(
    "given",
    [
        [],
        [[]],
        "",
        "xz",
        7,
        [7],
        [None],
        [("X", 1j)],
        [("X", "one")],
        [["X", 1.0]],
        ["X", "XX"],
        Pauli("-X"),
        b"X",
    ],
    ids=str,
)
def test_malformed_observables_are_refused(given):
    assert set(codes(observables_of, given)) == {"SB-1401"}


# -- times -------------------------------------------------------------------------------------------


def test_times_are_seconds_from_now_or_aware_datetimes():
    assert wall_ms(None, "$", NOW) is None
    assert wall_ms(1.5, "$", NOW) == NOW + 1_500
    assert wall_ms(np.float32(2), "$", NOW) == NOW + 2_000
    assert wall_ms(dt.timedelta(minutes=1), "$", NOW) == NOW + 60_000
    assert wall_ms(dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC), "$", NOW) == 1_000


@pytest.mark.parametrize(
    "when",
    [
        "soon",
        float("nan"),
        float("inf"),
        True,
        [1],
        dt.datetime(2040, 1, 1, tzinfo=dt.UTC).replace(tzinfo=None),
    ],
    ids=str,
)
def test_other_times_are_refused(when):
    (problem,) = refusal(wall_ms, when, "$.deadline", NOW)
    assert (problem.code, problem.path) == ("SB-1108", "$.deadline")
