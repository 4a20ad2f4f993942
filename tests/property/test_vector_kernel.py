"""The plans of the vector pool against Qiskit: states, norms, values, and points that do not see each other."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Parameter
from qiskit.circuit.library import get_standard_gate_name_mapping
from qiskit.quantum_info import Operator, SparsePauliOp, Statevector

from shotbus.schemas.pub import PauliSums
from shotbus.workers.adapters.draws import Draw, Outcomes, row_seeds
from shotbus.workers.adapters.gate_compile import FIXED, FIXED_WIDE, TURNS, FlatBody
from shotbus.workers.adapters.state_values import exact_values
from shotbus.workers.adapters.vector_plan import in_standard_order, plan_of

PATIENT = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
KNOWN = get_standard_gate_name_mapping()
NAMES = (*FIXED, *FIXED_WIDE, *TURNS)
A, B = Parameter("a"), Parameter("b")
ANGLES = (A, B, -A, 2 * A + B, A * B, 0.3, np.pi)


@st.composite
def circuits(draw, most=5):
    qubits = draw(st.integers(1, most))
    circuit = QuantumCircuit(qubits)
    for _ in range(draw(st.integers(0, 30))):
        name = draw(st.sampled_from([one for one in NAMES if KNOWN[one].num_qubits <= qubits]))
        kind = KNOWN[name]
        given_angles = [draw(st.sampled_from(ANGLES)) for _ in kind.params]
        places = draw(st.permutations(range(qubits)))[: kind.num_qubits]
        circuit.append(kind.base_class(*given_angles), places)
    return circuit


def flat(circuit):
    places = tuple(range(circuit.num_qubits))
    return FlatBody(circuit, places, places).flat


def columns(points, seed):
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(-4, 4, points) for name in "ab"}


def states(circuit, values):
    plan = plan_of(flat(circuit))
    found = in_standard_order(plan.run(values), plan.meaning)
    return np.broadcast_to(found, (len(values["a"]), found.shape[1]))


@PATIENT
@given(circuits(), st.integers(0, 2**32))
def test_states_are_qiskits_up_to_a_phase_and_normalised(circuit, seed):
    values = columns(3, seed)
    found = states(circuit, values)
    for point in range(3):
        bound = circuit.assign_parameters({p: values[p.name][point] for p in circuit.parameters})
        overlap = np.vdot(Statevector(bound).data, found[point])
        assert abs(abs(overlap) - 1) < 1e-10
    np.testing.assert_allclose(np.sum(np.abs(found) ** 2, axis=1), 1, atol=1e-12)


@PATIENT
@given(circuits(most=4))
def test_a_plan_for_any_state_is_the_circuits_operator(circuit):
    bound = circuit.assign_parameters(dict.fromkeys(circuit.parameters, 0.7))
    size = 1 << circuit.num_qubits
    plan = plan_of(flat(bound), given=True)
    found = in_standard_order(plan.run({}, np.eye(size, dtype=complex)), plan.meaning)
    np.testing.assert_allclose(found.T, Operator(bound).data, atol=1e-10)


@PATIENT
@given(circuits(), st.integers(0, 2**32), st.integers(1, 10))
def test_points_do_not_see_each_other_to_the_last_bit(circuit, seed, cut):
    values = columns(11, seed)
    whole = states(circuit, values)
    parts = [
        states(circuit, {name: column[start : start + cut] for name, column in values.items()})
        for start in range(0, 11, cut)
    ]
    assert np.concatenate(parts).tobytes() == np.ascontiguousarray(whole).tobytes()


@PATIENT
@given(circuits(), st.integers(0, 2**32), st.integers(1, 20))
def test_values_of_pauli_sums_are_qiskits(circuit, seed, terms):
    rng = np.random.default_rng(seed)
    letters = ["".join(rng.choice(list("IXYZ"), circuit.num_qubits)) for _ in range(terms)]
    sums = PauliSums.from_terms([[(label, float(rng.normal())) for label in letters], [(letters[0], 1.0)]])
    state = states(circuit, columns(2, seed))
    found = exact_values(sums, state)
    for point in range(2):
        for k in range(2):
            wanted = Statevector(state[point]).expectation_value(SparsePauliOp.from_list(sums.terms(k)))
            assert abs(found[point, k] - wanted.real) < 1e-10


@PATIENT
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 400))
def test_counts_add_up_to_the_shots_and_what_cannot_be_is_never_drawn(seed, qubits, shots):
    rng = np.random.default_rng(seed)
    weights = rng.random((4, 1 << qubits)) * (rng.random((4, 1 << qubits)) < 0.5)
    weights[:, -1] += 0.01
    counts = Draw().counts(weights, row_seeds(seed, 4), shots)
    assert (counts.sum(axis=1) == shots).all()
    assert (counts >= 0).all()
    assert not counts[weights == 0].any()


def test_a_circuit_of_layers_is_a_few_steps():
    circuit = QuantumCircuit(8)
    for layer in range(3):
        for qubit in range(8):
            circuit.ry(Parameter(f"r{layer}{qubit}"), qubit)
            circuit.rz(Parameter(f"z{layer}{qubit}"), qubit)
        for qubit in range(7):
            circuit.cx(qubit, qubit + 1)
    assert len(plan_of(flat(circuit)).steps) == 3
    diagonal = transpile(circuit, basis_gates=["rz", "sx", "cx"], optimization_level=0)
    assert len(plan_of(flat(diagonal)).steps) == 3


def test_outcomes_come_in_ascending_order_whatever_the_bits_are():
    outcomes = Outcomes.of(np.arange(8), [(9, 0), (2, 2), (0, 1), (1, 1)], 10)
    numbers = [int.from_bytes(bytes(row), "little") for row in outcomes.packed]
    assert numbers == sorted(numbers) == [0, 3, 4, 7, 512, 515, 516, 519]
