"""Circuit text to a flat list of gates for simulators of our own and PennyLane's. CPU, compile cache.

Qiskit parses the inspected text and writes it in the gates named here; whatever is no gate on state vectors
(a measurement that something follows, a reset, a condition) is refused as nothing for these pools.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from shotbus.schemas.errors import ShotbusError, fail
from shotbus.schemas.packed import Array
from shotbus.workers.adapters.aer_compile import Compiler, RunOptions
from shotbus.workers.adapters.aer_kept import Target
from shotbus.workers.adapters.aer_transpiled import Transpiled
from shotbus.workers.adapters.gate_angles import Angle, read_angle

FIXED = ("id", "x", "y", "z", "h", "s", "sdg", "t", "tdg", "sx", "sxdg", "cx", "cy", "cz", "ch", "swap")
FIXED_WIDE = ("ccx", "ccz", "cswap")
TURNS = ("rx", "ry", "rz", "p", "u", "cp", "crx", "cry", "crz", "rxx", "ryy", "rzz")
_IGNORED = ("barrier", "delay")


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate on ``qubits``, the first of them the lowest bit of its matrix, as Qiskit has it.

    ``matrix`` is that of a gate without angles that vary.
    """

    name: str
    qubits: tuple[int, ...]
    angles: tuple[Angle, ...] = ()
    matrix: Array | None = None


@dataclass(frozen=True, slots=True)
class FlatCircuit:
    """Gates in order, then measurements: classical bit -> qubit."""

    qubits: int
    gates: tuple[Gate, ...]
    measured: tuple[tuple[int, int], ...]


@dataclass
class FlatBody(Transpiled):
    """A transpiled circuit that can be read as a list of gates; ``ready`` is what a backend made of it."""

    ready: Any = None

    @cached_property
    def flat(self) -> FlatCircuit:
        """The list."""
        return flattened(self.circuit)


def flattened(circuit: Any) -> FlatCircuit:
    """Return a circuit that :func:`plain` has let pass, and the transpiler has not added anything to."""
    places = {qubit: number for number, qubit in enumerate(circuit.qubits)}
    bits = {bit: number for number, bit in enumerate(circuit.clbits)}
    gates, measured = [], {}
    for item in circuit.data:
        qubits = tuple(places[qubit] for qubit in item.qubits)
        if item.operation.name == "measure":
            measured[bits[item.clbits[0]]] = qubits[0]
        elif item.operation.name not in _IGNORED:
            gates.append(_gate(item.operation, qubits))
    return FlatCircuit(len(places), tuple(gates), tuple(sorted(measured.items())))


def _gate(operation: Any, qubits: tuple[int, ...]) -> Gate:
    angles = tuple(read_angle(given) for given in operation.params)
    if not all(angle.fixed for angle in angles):
        return Gate(operation.name, qubits, angles)
    return Gate(operation.name, qubits, angles, np.asarray(operation.to_matrix(), dtype=np.complex128))


class GateCompiler(Compiler):
    """Compiles to the gates above; ``qubits`` is the most a circuit may have."""

    form = FlatBody

    def __init__(self, qubits: int) -> None:
        super().__init__()
        self.methods = {"automatic": qubits, "statevector": qubits}

    def target(self, options: RunOptions) -> Target:
        del options
        return Target(f"gates {' '.join((*FIXED, *FIXED_WIDE, *TURNS))}")

    def goal(self, options: RunOptions, *, varies: bool) -> dict[str, Any]:
        del options, varies
        return {"basis_gates": [*FIXED, *FIXED_WIDE, *TURNS]}

    def options_for(self, options: RunOptions, *, exact: bool) -> RunOptions:
        """Return the options: there is but one method. Raises ShotbusError (SB-1108)."""
        del exact
        if options.method not in self.methods:
            raise fail("SB-1108", "$.options.method", limit=", ".join(self.methods), actual=options.method)
        return options

    def prepared(self, circuit: Any) -> Any:
        """Return the circuit without what does nothing. Raises ShotbusError (SB-1118)."""
        return plain(circuit)


def plain(circuit: Any) -> Any:
    """Return a parsed circuit as gates, then measurements, without what does nothing.

    Raises ShotbusError (SB-1118) for one that needs more.
    """
    if "for_loop" in circuit.count_ops():
        from qiskit.transpiler.passes import UnrollForLoops

        circuit = UnrollForLoops()(circuit)
    left = circuit.copy_empty_like()
    for item in _unitary(circuit):
        left.append(item)
    return left


def _not_here(name: str) -> ShotbusError:
    return fail(
        "SB-1118",
        "$.circuit",
        limit="gates, then measurements",
        actual="a gate behind a measurement" if name == "measure" else name,
        hint="choose a pool whose backend can, such as aer",
    )


def _unitary(circuit: Any) -> Iterator[Any]:
    """Yield gates and final measurements; a reset at the beginning does nothing."""
    from qiskit.circuit import Gate as QiskitGate

    used: set[Any] = set()
    measured: set[Any] = set()
    for item in circuit.data:
        name = item.operation.name
        if name in _IGNORED or (name == "reset" and not used & set(item.qubits)):
            continue
        if name == "measure":
            measured.update(item.qubits)
        elif not isinstance(item.operation, QiskitGate):
            raise _not_here(name)
        elif measured & set(item.qubits):
            raise _not_here("measure")
        used.update(item.qubits)
        yield item
