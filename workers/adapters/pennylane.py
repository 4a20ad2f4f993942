"""The PennyLane adapter: state vectors from default.qubit or lightning.qubit. Computes, no I/O.

All points of a chunk are one broadcast tape. PennyLane draws nothing: its stream would run through all points
of a tape, and what a job gets would depend on its neighbours; so outcomes are drawn from its states, as the
vector pool does (:mod:`shotbus.workers.adapters.states`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from shotbus.schemas.packed import Array
from shotbus.workers.adapters.aer_run import refusals
from shotbus.workers.adapters.base import AdapterCapabilities
from shotbus.workers.adapters.gate_angles import Columns
from shotbus.workers.adapters.gate_compile import FlatCircuit, Gate
from shotbus.workers.adapters.options import OptionReader
from shotbus.workers.adapters.states import Prepared, StateAdapter

DEVICES = ("default.qubit", "lightning.qubit")
MAX_QUBITS = 22
_CHUNK_BYTES = 1 << 21

_CAPABILITIES = AdapterCapabilities(
    pool="pennylane",
    kind="simulator",
    modes=("sample", "estimate"),
    max_qubits=MAX_QUBITS,
    inline=False,
    paid=False,
    executed_on=DEVICES[0],
)

#: Gate -> PennyLane's operation of the same matrix; where orders of qubits differ in effect there is none.
_OPERATIONS: Mapping[str, str] = {
    "id": "Identity", "x": "PauliX", "y": "PauliY", "z": "PauliZ", "h": "Hadamard", "s": "S", "t": "T",
    "sx": "SX", "cx": "CNOT", "cy": "CY", "cz": "CZ", "ch": "CH", "swap": "SWAP", "ccx": "Toffoli",
    "ccz": "CCZ", "cswap": "CSWAP", "rx": "RX", "ry": "RY", "rz": "RZ", "p": "PhaseShift", "u": "U3",
    "cp": "ControlledPhaseShift", "crx": "CRX", "cry": "CRY", "crz": "CRZ", "rxx": "IsingXX",
    "ryy": "IsingYY", "rzz": "IsingZZ",
}  # fmt: skip
_INVERSES: Mapping[str, str] = {"sdg": "s", "tdg": "t", "sxdg": "sx"}


class PennyLaneAdapter(StateAdapter):
    """Runs batches on one of PennyLane's state vector devices."""

    def __init__(self, device: str) -> None:
        self._device = device
        packages = ("pennylane",) if device == DEVICES[0] else ("pennylane", "pennylane-lightning")
        super().__init__(replace(_CAPABILITIES, executed_on=device), packages, _CHUNK_BYTES)

    def provenance(self, batch: Any) -> dict[str, Any]:
        return {**super().provenance(batch), "device": self._device}

    def _prepare(self, circuit: FlatCircuit) -> Prepared:
        return Prepared(_Tape(circuit, self._device).states, np.arange(1 << circuit.qubits))


@dataclass
class _Tape:
    """A circuit as PennyLane has it."""

    circuit: FlatCircuit
    device: str

    @cached_property
    def _simulator(self) -> Any:
        import pennylane as qml

        return qml.device(self.device, wires=self.circuit.qubits)

    def states(self, columns: Columns) -> Array:
        """Return amplitudes, points x 2^n; one point if nothing varies. Raises ShotbusError (SB-1220)."""
        import pennylane as qml

        operations = [self._operation(gate, columns) for gate in self.circuit.gates]
        with refusals():
            tape = qml.tape.QuantumScript(operations, [qml.state()])
            (state,) = qml.execute([tape], self._simulator, diff_method=None, cache=False)
        return np.ascontiguousarray(np.asarray(state).reshape(-1, 1 << self.circuit.qubits))

    def _operation(self, gate: Gate, columns: Columns) -> Any:
        import pennylane as qml

        # The first of its wires is the highest bit of a state's index, ours is the lowest.
        wires = [self.circuit.qubits - 1 - qubit for qubit in gate.qubits]
        values = [angle.values(columns) for angle in gate.angles]
        angles = [
            value[0] if angle.fixed else value for angle, value in zip(gate.angles, values, strict=True)
        ]
        with refusals():
            if gate.name in _INVERSES:
                return qml.adjoint(getattr(qml, _OPERATIONS[_INVERSES[gate.name]])(wires))
            return getattr(qml, _OPERATIONS[gate.name])(*angles, wires=wires)


def create(options: Mapping[str, str]) -> PennyLaneAdapter:
    """Return the adapter; PennyLane is imported when it runs its first circuit.

    Raises ShotbusError (SB-2001, SB-2002) for options other than ``device``, or another device.
    """
    reader = OptionReader(options)
    device = reader.word("device", DEVICES[0], DEVICES)
    reader.close()
    return PennyLaneAdapter(device)
