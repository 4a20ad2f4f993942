"""The circuit families that the documentation lists: real circuits of each pass, others do not."""

import re
import tomllib
from pathlib import Path

import pytest
from policy_kit import job
from qiskit import QuantumCircuit, qasm3
from qiskit.circuit import Parameter
from qiskit.circuit.library import QFTGate, n_local

from shotbus.broker.config import Config
from shotbus.broker.config_parse import parse
from shotbus.broker.policy.families import check_family
from shotbus.schemas.openqasm import inspect

PAGE = Path(__file__).parents[2] / "docs" / "circuits.md"


def families():
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return parse(Config, tomllib.loads(block)).families


def ghz():
    circuit = QuantumCircuit(4)
    circuit.h(0)
    for target in range(1, 4):
        circuit.cx(target - 1, target)
    return circuit


def qft():
    circuit = QuantumCircuit(4)
    circuit.append(QFTGate(4), range(4))
    return circuit.decompose()


def hardware_efficient():
    return n_local(4, ["ry", "rz"], "cx", entanglement="linear", reps=2)


def qaoa():
    circuit, gamma, beta = QuantumCircuit(3), Parameter("gamma"), Parameter("beta")
    circuit.h(range(3))
    for pair in ((0, 1), (1, 2), (0, 2)):
        circuit.rzz(2 * gamma, *pair)
    circuit.rx(2 * beta, range(3))
    return circuit


def uccsd():
    circuit, angle = QuantumCircuit(2), Parameter("t")
    circuit.x(0)
    circuit.h([0, 1])
    circuit.cx(0, 1)
    circuit.rz(angle, 1)
    circuit.cx(0, 1)
    return circuit


MAKERS = {made.__name__: made for made in (ghz, qft, hardware_efficient, qaoa, uccsd)}
#: What each is taken for that it is not.
FALSE = {"ghz": qaoa, "qft": ghz, "hardware_efficient": qaoa, "qaoa": qft, "uccsd": qft}


def breaches(family, circuit):
    table = families()
    measured = circuit.copy()
    measured.measure_all()
    facts = inspect(qasm3.dumps(measured))
    asked = job(family=family, family_version=table[family].versions[-1], circuit=facts)
    return check_family(asked, table)


def test_every_documented_family_is_tried():
    assert families().keys() == MAKERS.keys() == FALSE.keys()


@pytest.mark.parametrize("family", MAKERS)
def test_a_real_circuit_of_the_family_passes(family):
    assert breaches(family, MAKERS[family]()) == []


@pytest.mark.parametrize("family", FALSE)
def test_a_circuit_of_another_family_is_refused(family):
    assert {problem.code for problem in breaches(family, FALSE[family]())} == {"SB-1150"}
