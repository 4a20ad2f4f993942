"""Inspection against Qiskit: what Qiskit writes is accepted, and what is accepted Qiskit reads alike."""

import contextlib
import io
import re
import time
import warnings
from unittest import mock

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit, qasm2, qasm3, transpile
from qiskit.circuit import Parameter, ParameterVector
from qiskit.circuit.library import QFTGate, RZXGate, XGate, efficient_su2, qaoa_ansatz, quantum_volume
from qiskit.circuit.random import random_circuit
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.quantum_info import SparsePauliOp

from shotbus.schemas.errors import ShotbusError
from shotbus.schemas.openqasm import CircuitError, inspect
from shotbus.schemas.openqasm_gates import QELIB1, QELIB1_EXTRA, STDGATES

PATIENT = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
LIBRARY = STDGATES.keys() | {"U", "u", "measure", "reset", "delay"}


def read(text, language):
    if language == "openqasm2":
        return qasm2.loads(text, include_path=(), custom_instructions=qasm2.LEGACY_CUSTOM_INSTRUCTIONS)
    # The parser prints its complaints, and the importer uses names that Qiskit has deprecated.
    silent = io.StringIO()
    with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return qasm3.loads(text)


def expanded(circuit):
    """Count operations as Qiskit has them, definitions and blocks opened."""
    total = 0
    for item in circuit.data:
        operation = item.operation
        if blocks := getattr(operation, "blocks", None):
            total += sum(max(1, expanded(block)) for block in blocks)
        elif operation.name in LIBRARY or operation.definition is None:
            total += operation.name != "barrier"
        else:
            total += max(1, expanded(operation.definition))
    return total


def assert_same(text):
    """Compare the facts with the circuit that Qiskit reads."""
    facts = inspect(text)
    circuit = read(text, facts.language)
    assert (facts.qubits, facts.clbits) == (circuit.num_qubits, circuit.num_clbits)
    assert facts.parameters == tuple(parameter.name for parameter in circuit.parameters)
    assert [width for _, width in facts.registers] == [register.size for register in circuit.cregs]
    assert facts.depth_bound >= circuit.depth()
    return facts, circuit


@st.composite
def circuits(draw):
    circuit = random_circuit(
        draw(st.integers(1, 6)),
        draw(st.integers(1, 7)),
        measure=draw(st.booleans()),
        conditional=draw(st.booleans()),
        reset=draw(st.booleans()),
        seed=draw(st.integers(0, 10**6)),
    )
    if draw(st.booleans()):
        circuit = transpile(circuit, basis_gates=["rz", "sx", "x", "cx"], optimization_level=0)
    return circuit


@PATIENT
@given(circuits())
def test_what_qiskit_writes_as_openqasm_3_is_accepted_with_the_same_facts(circuit):
    facts, again = assert_same(qasm3.dumps(circuit))
    assert facts.operations == expanded(again)


@PATIENT
@given(circuits())
def test_what_qiskit_writes_as_openqasm_2_is_accepted_with_the_same_facts(circuit):
    try:
        text = qasm2.dumps(circuit)
    except qasm2.QASM2ExportError:
        assume(False)
    facts, again = assert_same(text)
    assert facts.operations >= again.size()


@PATIENT
@given(
    circuits(),
    st.lists(st.sampled_from(["a", "θ", "γ", "x1", "x10", "x2", "B"]), min_size=2, unique=True),
    st.data(),
)
def test_parameterised_circuits_are_accepted_and_their_parameters_sorted_alike(circuit, names, data):
    vector = ParameterVector("φ", 12)
    free = [Parameter(name) for name in names] + [vector[1], vector[2], vector[11]]
    angle = st.sampled_from(free)
    for _ in range(data.draw(st.integers(1, 6))):
        one, two = data.draw(angle), data.draw(angle)
        shape = data.draw(
            st.sampled_from([one, 2 * one, one + two, -one / 3, one * two, two * 0.123 - 1, one - two])
        )
        circuit.rx(shape, data.draw(st.integers(0, circuit.num_qubits - 1)))
        if circuit.num_qubits > 1:
            circuit.rzz(shape, 0, 1)
    assert_same(qasm3.dumps(circuit))


def test_ansatz_and_library_circuits_are_accepted():
    mixed = QuantumCircuit(5, 2)
    mixed.mcx([0, 1, 2, 3], 4)
    mixed.append(RZXGate(0.5), [0, 1])
    mixed.append(XGate().control(2, ctrl_state=1), [0, 1, 2])
    mixed.append(QFTGate(4), [0, 1, 2, 3])
    mixed.delay(100, 0, unit="ns")
    with mixed.for_loop(range(4)) as turn:
        mixed.rx(turn, 0)
    with mixed.if_test((mixed.clbits[0], 1)) as otherwise:
        mixed.x(0)
    with otherwise:
        mixed.y(0)
    problem = SparsePauliOp(["ZZI", "IZZ"])
    ansatz = (
        efficient_su2(4, reps=2),
        qaoa_ansatz(problem, reps=2).decompose(reps=3),
        quantum_volume(4, 3, seed=1),
    )
    for circuit in (mixed, *ansatz):
        assert_same(qasm3.dumps(circuit))


def test_circuits_transpiled_to_physical_qubits_are_accepted():
    circuit = QuantumCircuit(3)
    circuit.h(0)
    circuit.ccx(0, 1, 2)
    circuit.measure_all()
    backend = GenericBackendV2(5, seed=1)
    text = qasm3.dumps(transpile(circuit, backend, seed_transpiler=1, scheduling_method="alap"))
    assert "$" in text
    assert_same(text)


def test_the_gate_tables_are_those_of_the_importers():
    from qiskit_qasm3_import.converter import _STDGATES

    assert {name: gate[:2] for name, gate in STDGATES.items()} == {n: g[1:] for n, g in _STDGATES.items()}
    legacy = {item.name: (item.num_params, item.num_qubits) for item in qasm2.LEGACY_CUSTOM_INSTRUCTIONS}
    ours = {name: gate[:2] for name, gate in {**QELIB1, **QELIB1_EXTRA}.items()}
    assert legacy.pop("delay") == (1, 1)
    assert ours == legacy


def test_the_importer_still_binds_gate_parameters_by_name():
    """The reason for ``sorted_gate_parameters``: when this fails, the limit can go."""
    text = "OPENQASM 3.0; gate g(b, a) r { U(b, 0, 0) r; U(0, 0, a) r; } qubit q; g(1, 2) q;"
    first, second = read(text, "openqasm3").decompose().data
    assert (first.operation.params[0], second.operation.params[2]) == (2.0, 1.0)
    with pytest.raises(CircuitError, match="alphabetical"):
        inspect(text)


@pytest.mark.parametrize("controls", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("gate", ["x", "h", "rx(0.3)", "U(0.1, 0.2, 0.3)", "g"])
def test_the_cost_of_controls_is_bounded_from_above(gate, controls):
    qubits = ", ".join(f"q[{number}]" for number in range(controls + 1))
    text = f'include "stdgates.inc"; gate g a {{ h a; rz(0.3) a; }} qubit[9] q; ctrl({controls}) @ {gate} {qubits};'
    facts, circuit = assert_same(text)
    assert facts.operations >= expanded(circuit)


SEEDS = (
    """OPENQASM 3.0;
include "stdgates.inc";
input float[64] a; input angle b;
gate foo(p0, p1) x0, x1 { rx(p0/2) x0; ctrl @ rz(-p1) x0, x1; barrier x0, x1; U(p0, 0, pi/2) x1; inv @ cx x0, x1; }
qubit[4] q; qubit anc; bit[4] c; bit d;
h q; rx(2*a + 1) q[0]; rx(-b/2) q[1]; foo(1, 2) q[0:1], q[2:3];
ctrl(2) @ x q[0], q[1], anc; pow(2) @ x q[{0,2}];
barrier; reset q[1]; delay[10ns] q; /* c */ // d
for int i in [0:3] { rx(i*0.5) q[0]; if (c[0]) { break; } }
if (c == 3) { x q[0]; } else if (!d) { y q[1]; } else { z q; }
c = measure q; d = measure anc; measure q[0] -> c[1]; c[0:1] = measure q[2:3];
""",
    'include "stdgates.inc"; bit[2] m; x $0; cx $0, $3; m[0] = measure $3; if (m[0]) { x $1; }\n',
    """OPENQASM 2.0;
include "qelib1.inc";
gate foo(p0,p1) a,b { rx(p0/2) a; cx a,b; u3(p0,p1^2,sin(p1)) b; barrier a,b; swap a,b; }
qreg q[3]; qreg r[3]; creg c[3];
h q; cx q,r; cx q[0],r; foo(0.5,1.5e-3) q[0],q[1]; U(0,0,0) q; // x
barrier q,r[0]; reset q[2]; if(c==3) x q[0]; measure q->c; u2(1/3,cos(2)*ln(3)) q;;
""",
)
STRANGE = r"""q[4] q[-1] 1e999 00 0x1 1_0 10^12 ln( ** == != ~ @ -> $0 $01 " ' // /* */ while let const box π é θ
__x__ #pragma @x \ float[ 999999999999999999999 OPENQASM 2.0 opaque true uint continue }} {{ (((("""
WORDS = [*re.findall(r"\w+|\s+|.", "".join(SEEDS)), *STRANGE.split(), "\0", "\r", "\u202e"]


@st.composite
def mutants(draw):
    """A program in order with a few words changed, lost, doubled or moved."""
    words = re.findall(r"\w+|\s+|.", draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(words) - 1))
        width = draw(st.integers(0, 4))
        words[place : place + width] = draw(st.lists(st.sampled_from(WORDS), max_size=3)) or [" "]
    return "".join(words)


def outcome(text):
    try:
        return inspect(text), ()
    except ShotbusError as error:
        return None, error.problems


@settings(PATIENT, max_examples=400)
@given(mutants())
def test_mutated_programs_are_refused_cleanly_or_read_alike(text):
    begin = time.process_time()
    facts, problems = outcome(text)
    assert time.process_time() - begin < 1
    if facts is None:
        assert 1 <= len(problems) <= 20
        assert all(re.fullmatch(r"\d+:\d+", problem.path) for problem in problems)
    else:
        _, circuit = assert_same(text)
        assert facts.operations >= circuit.size()


@settings(PATIENT, max_examples=200)
@given(
    st.one_of(
        st.text(max_size=200),
        st.binary(max_size=200),
        st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join),
    )
)
def test_arbitrary_input_raises_nothing_but_our_error(text):
    with contextlib.suppress(ShotbusError):
        inspect(text)


def test_inspection_opens_nothing():
    with (
        mock.patch("builtins.open", side_effect=AssertionError("a file was opened")),
        pytest.raises(CircuitError),
    ):
        inspect('OPENQASM 2.0; include "/etc/passwd"; qreg q[1];')
