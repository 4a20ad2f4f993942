"""Classes of work: jobs of one class take about as long a point on the same pool. Pure.

What a point takes is measured by pool and class. A class is coarse on purpose, so that it has been measured
before: within one the time differs by its width, a factor of two in operations and in shots; for qubits,
in which simulators are exponential, each number is a class.
"""

from __future__ import annotations

from shotbus.schemas.openqasm import CircuitFacts

_BITS = 5
_MOST = (1 << _BITS) - 1
_MOST_QUBITS = 63


def work_class(circuit: CircuitFacts | None, shots: int, circuits: int = 1) -> int:
    """Return a job's class of work, 0 to 65,535.

    Args:
        circuit: what inspection found; None when there is no circuit, or nothing is known of it.
        shots: of a point; 0 is exact.
        circuits: measured circuits a point, at least 1.

    """
    qubits, operations = (circuit.qubits, circuit.operations) if circuit is not None else (0, 0)
    size = min(qubits, _MOST_QUBITS) << _BITS | min(operations.bit_length(), _MOST)
    return size << _BITS | min((shots * circuits).bit_length(), _MOST)
