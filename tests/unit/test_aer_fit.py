"""What a compiled circuit uses of a device, and when a device is another one."""

import copy
import math

import pytest
from qiskit import QuantumCircuit
from qiskit.circuit.library import RZGate, XGate
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.transpiler import InstructionProperties, Target

from shotbus.workers.adapters.aer_fit import errors_at, places_of, topology_of


@pytest.fixture(scope="module")
def target():
    return GenericBackendV2(4, coupling_map=[[0, 1], [1, 2], [2, 3]], control_flow=True, seed=1).target


def changed(target, name, qubits, **properties):
    made = copy.deepcopy(target)
    made.update_instruction_properties(name, qubits, InstructionProperties(**properties))
    return made


def test_gates_readouts_and_what_stands_in_branches_are_used_and_nothing_else(target):
    circuit = QuantumCircuit(4, 1)
    circuit.sx(0)
    circuit.barrier()
    circuit.measure(1, 0)
    with circuit.if_test((0, 1)):
        circuit.cx(2, 3)
        with circuit.for_loop(range(2)):
            circuit.x(3)
    places = places_of(target, circuit, (0, 1, 2, 3), bare=False)
    errors = errors_at(target, places)
    measured = [place for place, error in errors.items() if error is not None]
    assert measured == [("cx", (2, 3)), ("measure", (1,)), ("sx", (0,)), ("x", (3,))]
    assert errors["cx", (2, 3)] == target["cx"][2, 3].error


def test_what_is_to_be_measured_in_bases_uses_each_qubit_s_readout_and_turns(target):
    circuit = QuantumCircuit(4)
    circuit.cx(0, 1)
    places = places_of(target, circuit, (1, 0), bare=True)
    assert set(places) == {("cx", (0, 1))} | {
        (name, (q,)) for name in ("measure", "rz", "sx") for q in (0, 1)
    }


@pytest.mark.parametrize("error", [None, math.nan, math.inf])
def test_an_error_that_is_no_number_was_not_measured(target, error):
    odd = changed(target, "sx", (0,), error=error)
    assert errors_at(odd, [("sx", (0,)), ("ecr", (0, 1)), ("cx", (3, 0))]) == {
        ("sx", (0,)): None,
        ("ecr", (0, 1)): None,
        ("cx", (3, 0)): None,
    }


def test_a_device_is_the_same_one_however_well_it_works(target):
    worse = changed(target, "cx", (0, 1), error=0.4, duration=9e-7)
    assert topology_of(worse) == topology_of(target)


def small(*gates, qubits=2):
    made = Target(num_qubits=qubits)
    for gate, places in gates:
        made.add_instruction(gate, dict.fromkeys(places), name=gate.name)
    return made


def test_other_qubits_gates_places_and_angles_make_another_device():
    both, one = [(0,), (1,)], [(0,)]
    devices = [
        small((XGate(), both)),
        small((XGate(), both), qubits=3),
        small((XGate(), one)),
        small((XGate(), both), (RZGate(0.5), both)),
        small((XGate(), both), (RZGate(0.25), both)),
    ]
    assert len({topology_of(device) for device in devices}) == len(devices)
