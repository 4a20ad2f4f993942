"""Circuits on the simulators of Braket's SDK, row by row, and outcomes drawn from what they say. Computes.

A simulator of the SDK cannot be seeded, so it is asked for exact probabilities and everything is drawn here,
each row from a stream of its own. Its operations are made here, too: the SDK parses a program anew for each
row, which takes fifty times as long as running it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from shotbus.schemas.packed import Array
from shotbus.workers.adapters.aer_run import refusals
from shotbus.workers.adapters.braket_compile import GATES, flat_circuits, values_of
from shotbus.workers.adapters.draws import Draw, Outcomes, row_seeds, seeds_of
from shotbus.workers.adapters.entries import Entries, joined
from shotbus.workers.adapters.gate_angles import Columns
from shotbus.workers.adapters.gate_compile import FlatCircuit, Gate
from shotbus.workers.providers.programs import Order

#: The simulators' own names of their operations, where those are not the gates' in capitals.
_CLASSES: Mapping[str, str] = {
    "i": "Identity",
    "x": "PauliX",
    "y": "PauliY",
    "z": "PauliZ",
    "h": "Hadamard",
    "si": "Si",
    "ti": "Ti",
    "vi": "Vi",
    "phaseshift": "PhaseShift",
    "rx": "RotX",
    "ry": "RotY",
    "rz": "RotZ",
    "cnot": "CX",
    "cphaseshift": "CPhaseShift",
    "swap": "Swap",
    "ccnot": "CCNot",
    "cswap": "CSwap",
}
#: What the outcomes of a job may take of memory; no result that can be handed on has as much.
_MOST_BYTES = 1 << 28


class Simulation:
    """Runs jobs on one kind of simulator.

    Args:
        device: the SDK's name of it, ``braket_sv`` or ``braket_dm``.

    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._draw = Draw()
        self._simulator: Any = None

    def run(self, order: Order, seed: int) -> tuple[Entries, ...]:
        """Return the outcomes of each program of a job, all runs of a row added up.

        Raises ShotbusError: SB-1110 for want of memory, SB-1113, SB-1220.
        """
        columns = {name: order.angles[:, k] for k, name in enumerate(order.wire_names)}
        sampled = order.compiled.observables is None
        seeds = row_seeds(seed, order.rows)
        found = []
        for number, circuit in enumerate(flat_circuits(order.compiled)):
            bits = order.compiled.bits[number]
            outcomes = Outcomes.of(_meaning(circuit.qubits), circuit.measured, bits)
            keys = [seeds_of(seeds, None if sampled else number, run) for run in range(len(order.shots))]
            rows = self._rows(circuit, columns, outcomes, np.array(keys), order.shots)
            found.append(joined(rows, _MOST_BYTES))
        return tuple(found)

    def _rows(
        self, circuit: FlatCircuit, columns: Columns, outcomes: Outcomes, keys: Array, shots: tuple[int, ...]
    ) -> Iterator[Entries]:
        """Yield the outcomes of row after row; ``keys`` of their streams are runs x rows."""
        angles = [[values_of(angle, columns) for angle in gate.angles] for gate in circuit.gates]
        fixed: dict[int, Any] = {}
        for row in range(keys.shape[1]):
            with refusals():
                operations = [
                    fixed.get(place) or _operation(gate, angles[place], row, fixed, place)
                    for place, gate in enumerate(circuit.gates)
                ]
                weights = outcomes.gathered(self._probabilities(circuit.qubits, operations))
            counts = np.zeros(weights.shape, dtype=np.int64)
            for run, taken in enumerate(shots):
                counts += self._draw.counts(weights, keys[run, row : row + 1], taken)
            yield outcomes.entries(counts)

    def _probabilities(self, qubits: int, operations: list[Any]) -> Array:
        """Return the probabilities of all basis states, 1 x 2^n."""
        if self._simulator is None:
            self._simulator = _simulator(self._device)
        simulation = self._simulator.initialize_simulation(qubit_count=qubits, shots=0, batch_size=1)
        simulation.evolve(operations)
        return np.asarray(simulation.probabilities, dtype=np.float64)[np.newaxis]


def _simulator(device: str) -> Any:
    import numba
    from braket.default_simulator import DensityMatrixSimulator, StateVectorSimulator

    # Of this thread alone; parallelism is the pool's.
    numba.set_num_threads(1)
    return DensityMatrixSimulator() if device == "braket_dm" else StateVectorSimulator()


def _operation(gate: Gate, angles: list[Array], row: int, fixed: dict[int, Any], place: int) -> Any:
    from braket.default_simulator import gate_operations

    name = GATES[gate.name]
    make = getattr(gate_operations, _CLASSES.get(name, name.upper()))
    operation = make(gate.qubits, *(float(values[row % len(values)]) for values in angles))
    if all(angle.fixed for angle in gate.angles):
        fixed[place] = operation
    return operation


def _meaning(qubits: int) -> Array:
    """Return the basis state at each place of Braket's states, whose first qubit is the highest bit."""
    places = np.arange(1 << qubits)
    meaning = np.zeros_like(places)
    for qubit in range(qubits):
        meaning |= (places >> (qubits - 1 - qubit) & 1) << qubit
    return meaning
