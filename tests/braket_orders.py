"""A job as an adapter of Braket's gets it, compiled."""

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter

from shotbus.workers.providers.programs import Order, Written


def turned(qubits=3):
    """A circuit of two angles on qubits 0 and 2; qubit 2 is read into bits 0 and 3, qubit 1 into bit 1."""
    circuit = QuantumCircuit(qubits, 4)
    circuit.rz(Parameter("angle_0"), 0)
    circuit.rz(Parameter("angle_1") * 2 + 1, 2)
    circuit.rz(0.5, 2)
    circuit.cz(0, 2)
    circuit.sx(2)
    circuit.measure([2, 1, 2], [0, 1, 3])
    return circuit


def order_of(rows, shots=(10,), circuits=None):
    circuits = circuits or (turned(),)
    written = Written(circuits, ("",) * len(circuits), (4,) * len(circuits), (("c", 4),), ("a", "b"), {})
    return Order(b"", written, np.arange(2.0 * rows).reshape(rows, 2), shots, {})
