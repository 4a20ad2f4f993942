"""A circuit as it was transpiled, measured in whatever basis is asked for. Uses Qiskit's circuits, no I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from shotbus.broker.lru import Lru
from shotbus.schemas.errors import fail
from shotbus.workers.adapters.aer_facts import counted, registers_of
from shotbus.workers.adapters.aer_kept import NO_TARGET, Target
from shotbus.workers.adapters.bases import Basis, X, Y
from shotbus.workers.compiled.reuse import Fit

_BASES = 256
_UNITARY_ONLY = ("reset", "measure", "if_else", "for_loop", "while_loop", "switch_case")


@dataclass
class Transpiled:
    """A circuit for the Aer target. Qubit i of the text begins at ``begins[i]`` and ends up at ``wires[i]``.

    ``native``: what is added to it has to be made of the device's own gates. ``fit``: what it was compiled
    for, where that is a calibration; ``why`` it runs under another one, or was compiled although there was
    one for an earlier. ``key``: under what it is kept.
    """

    circuit: Any
    wires: tuple[int, ...]
    begins: tuple[int, ...]
    native: bool = False
    fit: Fit | None = None
    why: str = ""
    key: str = ""
    target: Target = NO_TARGET
    _bases: Lru[bytes, Any] = field(default_factory=lambda: Lru(_BASES))

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What transpiling made of it, for provenance."""
        return {
            "target": self.target.name,
            "compiled_key": self.key,
            **counted(self.circuit),
            "initial_layout": list(self.begins),
            "layout": list(self.wires),
        }

    @cached_property
    def registers(self) -> tuple[tuple[str, int], ...]:
        """The classical registers as (name, width) from bit 0 up, single bits included."""
        return registers_of(self.circuit)

    def in_basis(self, basis: Basis) -> Any:
        """Return the circuit with the rotations and measurements of ``basis`` behind it.

        They act on single qubits, so nothing needs routing, and the expensive transpilation of the body is
        shared by all bases.
        """
        key = basis.paulis.tobytes()
        return self._bases.get(key) or self._bases.put(key, _measured(self, basis))

    def with_expectations(self, operators: list[Any]) -> Any:
        """Return the circuit with an exact expectation value saved for each operator (label ``e0``…)."""
        circuit = self.circuit.copy()
        for number, operator in enumerate(operators):
            circuit.save_expectation_value(operator, self.wires, label=f"e{number}")
        return circuit


def _measured(transpiled: Transpiled, basis: Basis) -> Any:
    from qiskit.circuit import ClassicalRegister

    circuit = transpiled.circuit.copy()
    taken = {register.name for register in circuit.cregs}
    name = next(name for name in (f"basis{k}" for k in range(len(taken) + 1)) if name not in taken)
    register = ClassicalRegister(basis.measured.size, name)
    circuit.add_register(register)
    for bit, qubit in enumerate(basis.measured.tolist()):
        wire = transpiled.wires[qubit]
        turn = _turn_natively if transpiled.native else _turn
        turn(circuit, wire, basis.paulis[qubit])
        circuit.measure(wire, register[bit])
    return circuit


def _turn(circuit: Any, wire: int, pauli: int) -> None:
    """Turn the eigenvectors of a Pauli into those of Z; H and S-dagger are native to every Aer method."""
    if pauli == Y:
        circuit.sdg(wire)
    if pauli in (X, Y):
        circuit.h(wire)


def _turn_natively(circuit: Any, wire: int, pauli: int) -> None:
    """Do the same with gates of which a device's noise is known: a Hadamard would be free of any."""
    if pauli == X:
        circuit.rz(math.pi / 2, wire)
    if pauli in (X, Y):
        circuit.sx(wire)


def check_exact(circuit: Any) -> None:
    """Refuse what has no exact expectation value in a single run (SB-1215)."""
    for item in circuit.data:
        if item.operation.name in _UNITARY_ONLY:
            raise fail(
                "SB-1215",
                "$.circuit",
                actual=item.operation.name,
                limit="unitary circuits",
                hint="give shots",
            )
