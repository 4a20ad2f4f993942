"""Devices of Braket's as they tell of themselves, and programs as they take them."""

import json

import numpy as np
import pytest
from braket_devices import QPU, SIMULATOR, capabilities, simulator
from braket_orders import order_of, turned
from qiskit import QuantumCircuit

from shotbus.schemas.errors import ShotbusError
from shotbus.workers.adapters.braket_compile import Form, write
from shotbus.workers.adapters.braket_device import calibrated
from shotbus.workers.adapters.braket_facts import read_facts
from shotbus.workers.adapters.braket_programs import Limits, action_of
from shotbus.workers.adapters.gate_compile import flattened
from shotbus.workers.providers.base import DownError, RefusedError


def test_a_device_is_read_with_its_labels_couplings_limits_and_errors():
    facts = read_facts(capabilities(sets=True))
    assert facts.labels == (1, 2, 3, 5, 8)
    assert facts.pairs[:3] == ((0, 1), (1, 0), (1, 2))
    assert facts.limits == Limits(1, 5_000, 12, 1, 20_000)
    assert facts.form == Form((1, 2, 3, 5, 8), measure_all=False, idle=True)
    assert facts.errors[3, 4] == pytest.approx(0.02)
    assert facts.errors[0,] == pytest.approx(0.001)
    assert facts.readouts[4] == pytest.approx(0.03)
    assert facts.times[0] == (pytest.approx(3e-5), pytest.approx(2e-5))
    target = calibrated(QPU, facts).target
    assert sorted(target.operation_names) == ["cz", "measure", "rz", "sx", "x"]
    assert target["cz"][1, 0].error == pytest.approx(0.02)


def test_a_simulator_has_no_couplings_and_every_gate_that_both_know():
    facts = read_facts(simulator())
    assert (facts.pairs, facts.form.labels, facts.limits.executables) == (None, (), 0)
    calibration = calibrated(SIMULATOR, facts)
    assert "h" in calibration.target.operation_names
    assert (calibration.model.qubits, calibration.model.edges()) == (20, [])


def everywhere(**more):
    said = capabilities(sets=True)
    said["paradigm"] |= {"qubitCount": 3, "connectivity": {"fullyConnected": True, "connectivityGraph": {}}}
    said["action"]["braket.ir.openqasm.program"]["supportPhysicalQubits"] = False
    del said["standardized"]
    return said | more


def test_errors_of_a_whole_device_are_those_of_all_its_pairs():
    ionq = {
        "fidelity": {"1Q": {"mean": 0.99}, "2Q": {"mean": 0.95}, "spam": {"mean": 0.9}},
        "timing": {"T1": 10, "T2": 1},
    }
    facts = read_facts(everywhere(provider=ionq))
    assert facts.pairs == ((0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1))
    assert {round(facts.errors[pair], 6) for pair in facts.pairs} == {0.05}
    assert facts.times == ((10.0, 1.0),) * 3
    seconds = {"value": 250.0, "unit": "ms"}
    shares = {
        "T1": seconds,
        "T2": seconds,
        "twoQubitGateFidelity": [{"fidelity": 0.97}],
        "readoutFidelity": [{"fidelity": 0.8}],
    }
    singles = {str(k): {"oneQubitFidelity": [{"fidelity": 0.999, "fidelityType": None}]} for k in (4, 5, 6)}
    facts = read_facts(everywhere(standardized={**shares, "oneQubitProperties": singles}))
    assert facts.labels == (4, 5, 6)
    assert facts.errors[0, 2] == pytest.approx(0.03)
    assert facts.readouts[1] == pytest.approx(0.2)


@pytest.mark.parametrize("lacks", ["rz", "v", "action"])
def test_a_device_that_takes_no_such_programs_is_none_for_us(lacks):
    said = capabilities(sets=True)
    action = said["action"]["braket.ir.openqasm.program"]
    action["supportedOperations"] = [one for one in action["supportedOperations"] if one != lacks]
    if lacks == "action":
        del said["action"]["braket.ir.openqasm.program"]
    with pytest.raises(DownError):
        read_facts(said)


def test_a_program_is_written_with_its_parameters_and_each_qubit_is_measured_once():
    source = write(flattened(turned()), Form(idle=True))
    assert source.text.splitlines() == [
        "OPENQASM 3.0;",
        "input float angle_0;",
        "input float turn_1;",
        "bit[2] b;",
        "qubit[3] q;",
        "rz(angle_0) q[0];",
        "rz(turn_1) q[2];",
        "rz(0.5) q[2];",
        "cz q[0], q[2];",
        "v q[2];",
        "i q[1];",
        "b[0] = measure q[2];",
        "b[1] = measure q[1];",
    ]
    columns = {"angle_0": np.array([0.1]), "angle_1": np.array([0.25])}
    assert [angle.values(columns).tolist() for angle in source.inputs.values()] == [[0.1], [1.5]]


def test_qubits_are_called_by_their_labels_where_the_device_knows_them_and_all_measured_where_it_asks():
    text = write(flattened(turned()), Form((1, 2, 5), measure_all=True)).text
    assert "qubit[" not in text
    assert text.endswith("cz $1, $5;\nv $5;\nb[0] = measure $5;\nb[1] = measure $2;\nb[2] = measure $1;\n")


def test_a_register_has_only_the_qubits_that_are_used():
    circuit = QuantumCircuit(9, 1)
    circuit.sx(7)
    circuit.measure(7, 0)
    assert "qubit[1] q;\nv q[0];" in write(flattened(circuit), Form()).text


def test_one_executable_is_a_program_and_more_are_a_program_set_with_inputs_as_columns():
    limits = Limits(1, 100, 12, 1, 1_000)
    single = action_of(order_of(1), Form(), limits)
    told = json.loads(single.document)
    assert told["braketSchemaHeader"]["name"] == "braket.ir.openqasm.program"
    assert (told["inputs"], single.shots) == ({"angle_0": 0.0, "turn_1": 3.0}, 10)
    several = action_of(order_of(2, (10, 10)), Form(), limits)
    (program,) = json.loads(several.document)["programs"]
    assert program["inputs"] == {"angle_0": [0.0, 2.0, 0.0, 2.0], "turn_1": [3.0, 7.0, 3.0, 7.0]}
    assert several.shots == 40


def test_an_angle_without_a_value_is_the_jobs_own_fault():
    order = order_of(1)
    order.angles[0, 1] = 1.7e308
    with pytest.raises(ShotbusError, match="SB-1220"):
        action_of(order, Form(), Limits())


@pytest.mark.parametrize(
    ("order", "limits", "hint"),
    [
        (order_of(2), Limits(1, 100, 0), "one row a job"),
        (order_of(5, (10, 10)), Limits(1, 100, 4), "at most 2 rows"),
        (order_of(1, (10, 10)), Limits(1, 100, 1), "fewer runs"),
        (order_of(1, (200,)), Limits(1, 100, 9), "shots_per_call"),
        (order_of(4, (100,)), Limits(1, 100, 9, 1, 300), "fewer rows"),
        (order_of(1, (10, 9)), Limits(1, 100, 9), ""),
        (order_of(1, (1,)), Limits(5, 100, 9), ""),
    ],
)
def test_what_a_device_does_not_take_at_once_is_another_pools_with_what_would_help(order, limits, hint):
    with pytest.raises(RefusedError) as error:
        action_of(order, Form(), limits)
    assert error.value.problem.code == "SB-1110"
    assert hint in error.value.problem.hint
