"""Gate counts, edges and depth against Qiskit's own: counted without expanding, equal to what expanding gives."""

import contextlib
import io
import warnings
from collections import Counter
from itertools import combinations

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit, qasm2, qasm3
from qiskit.circuit.random import random_circuit

from shotbus.schemas.openqasm import inspect
from shotbus.schemas.openqasm_gates import QELIB1, QELIB1_EXTRA, STDGATES

PATIENT = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
LIBRARY_3 = {gate.key for gate in STDGATES.values()} | {"u"}
LIBRARY_2 = {gate.key for gate in (*QELIB1.values(), *QELIB1_EXTRA.values())} | {"u", "cx"}
PLAIN = {"measure", "reset", "delay"}


def read(text):
    if text.startswith("OPENQASM 2"):
        legacy = qasm2.LEGACY_CUSTOM_INSTRUCTIONS
        return qasm2.loads(text, include_path=(), custom_instructions=legacy), LIBRARY_2 | PLAIN
    # The parser prints its complaints, and the importer uses names that Qiskit has deprecated.
    silent = io.StringIO()
    with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return qasm3.loads(text), LIBRARY_3 | PLAIN


def count(circuit, library, qubits=None):
    """Walk what Qiskit has, definitions opened down to the library: names, and pairs of qubits."""
    names, pairs = Counter(), set()
    numbers = dict(zip(circuit.qubits, qubits or range(circuit.num_qubits), strict=True))
    for item in circuit.data:
        operation, places = item.operation, [numbers[qubit] for qubit in item.qubits]
        bodies = list(getattr(operation, "blocks", None) or ())
        if not bodies and operation.name not in library and operation.definition is not None:
            bodies = [operation.definition]
        for body in bodies:
            inner, more = count(body, library, places)
            names, pairs = names + inner, pairs | more
        if not bodies and operation.name != "barrier":
            names[operation.name] += 1
            pairs |= {tuple(sorted(pair)) for pair in combinations(places, 2)}
    return names, pairs


def ours(facts):
    """Counts by name; the OpenQASM 3 importer takes ``id`` for a ``U`` of zeros."""
    names = Counter()
    for name, number in facts.gates:
        names["u" if name == "id" and facts.language == "openqasm3" else name] += number
    return names


def assert_counted_alike(text):
    circuit, library = read(text)
    facts = inspect(text)
    names, pairs = count(circuit, library)
    assert ours(facts) == names
    assert set(facts.edges) == pairs
    assert list(facts.edges) == sorted(facts.edges)
    assert (facts.gates_cut, facts.edges_cut) == (False, False)
    assert sum(names.values()) == facts.operations
    return facts, circuit


@st.composite
def circuits(draw, **more):
    return random_circuit(
        draw(st.integers(1, 6)),
        draw(st.integers(1, 8)),
        max_operands=draw(st.integers(1, 4)),
        measure=draw(st.booleans()),
        seed=draw(st.integers(0, 10**6)),
        **more,
    )


@PATIENT
@given(circuits())
def test_gates_edges_and_depth_of_openqasm_3_are_those_of_qiskit(circuit):
    facts, again = assert_counted_alike(qasm3.dumps(circuit))
    opened = again.decompose([name for name in again.count_ops() if name not in LIBRARY_3 | PLAIN], reps=6)
    assert facts.depth_bound >= opened.depth() >= again.depth()


@PATIENT
@given(circuits(conditional=True, reset=True))
def test_branches_and_resets_are_counted_as_qiskit_has_them(circuit):
    assert_counted_alike(qasm3.dumps(circuit))


@PATIENT
@given(circuits())
def test_gates_and_edges_of_openqasm_2_are_those_of_qiskit(circuit):
    try:
        text = qasm2.dumps(circuit)
    except qasm2.QASM2ExportError:
        assume(False)
    # A text may define a gate of Qiskit's library again, and Qiskit then takes its own, not the text's.
    assume(not any(f"gate {name}" in text for name in LIBRARY_2))
    assert_counted_alike(text)


@PATIENT
@given(circuits(), st.lists(st.sampled_from(["h", "x", "cx", "cz", "ccx"]), max_size=30))
def test_depth_of_library_gates_is_exact(circuit, more):
    flat = QuantumCircuit(max(3, circuit.num_qubits))
    for turn, name in enumerate(more):
        places = [(turn * 7 + k) % flat.num_qubits for k in range(3)]
        getattr(flat, name)(*places[: {"ccx": 3, "cx": 2, "cz": 2}.get(name, 1)])
        if turn % 9 == 5:
            flat.barrier()
    facts, again = assert_counted_alike(qasm3.dumps(flat))
    assert facts.depth_bound == again.depth()
    assert ours(facts) == {k: n for k, n in again.count_ops().items() if k != "barrier"}


@PATIENT
@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.permutations(range(3))), max_size=5), max_size=8))
def test_definitions_that_call_definitions_are_expanded_without_expanding(bodies):
    """Gate ``gN`` calls former ones on its qubits in any order; Qiskit expands, we only add up."""
    text = 'OPENQASM 3.0; include "stdgates.inc"; '
    calls = ["x {0};", "cx {0}, {1};", "ccx {0}, {1}, {2};", "rz(0.5) {2};"]
    for number, body in enumerate(bodies):
        lines = [calls[k % len(calls)].format(*["abc"[place] for place in order]) for k, order in body]
        text += f"gate g{number} a, b, c {{ {' '.join(lines) or 'x a;'} }} "
        calls.append(f"g{number} {{0}}, {{1}}, {{2}};")
    assert_counted_alike(text + "qubit[5] q; " + calls[-1].format("q[4]", "q[0]", "q[2]"))
