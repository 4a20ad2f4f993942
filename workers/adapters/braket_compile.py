"""Circuits as Braket takes them: compiled by Qiskit, written in its OpenQASM with parameters as inputs. CPU.

Braket knows other names for gates, no includes and one register of each kind. An angle that is a parameter
stays one; any other expression of parameters becomes an input of its own, whose values are computed here, so
that no two parsers have to agree on what a formula means.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from shotbus.schemas.errors import fail
from shotbus.schemas.packed import Array
from shotbus.workers.adapters.gate_angles import Angle, Columns
from shotbus.workers.adapters.gate_compile import FlatCircuit, flattened, plain
from shotbus.workers.providers.programs import RemoteCompiler, Written

#: Gates of the same matrix: Qiskit's name -> Braket's.
GATES: Mapping[str, str] = {
    **{name: name for name in ("x", "y", "z", "h", "s", "t", "rx", "ry", "rz", "cy", "cz", "swap", "cswap")},
    "id": "i",
    "sdg": "si",
    "tdg": "ti",
    "sx": "v",
    "sxdg": "vi",
    "p": "phaseshift",
    "cx": "cnot",
    "cp": "cphaseshift",
    "rxx": "xx",
    "ryy": "yy",
    "rzz": "zz",
    "ccx": "ccnot",
}
#: What measurement bases are turned with, and every device has to know.
NEEDED = ("rz", "sx")


class BraketCompiler(RemoteCompiler):
    """Compiles what is gates, then measurements."""

    def prepared(self, circuit: Any) -> Any:
        """Return the circuit without what does nothing. Raises ShotbusError (SB-1118)."""
        return plain(circuit)


@dataclass(frozen=True, slots=True)
class Form:
    """What a device wants of a text.

    Attributes:
        labels: of the qubits, to be called by them; empty where a register is to be used, of those qubits
            that are needed.
        measure_all: whether all qubits that are used have to be measured.
        idle: whether there is a gate that does nothing.

    """

    labels: tuple[int, ...] = ()
    measure_all: bool = False
    idle: bool = False


class Source(NamedTuple):
    """A program on the wire: its text, and what each of its inputs is of the parameters."""

    text: str
    inputs: Mapping[str, Angle]


#: The bits of each outcome of a program.
Slots = tuple[tuple[int, ...], ...]


def slots_of(circuit: FlatCircuit) -> Slots:
    """Return the bits that each outcome of a program goes to: a qubit is measured once, for all its bits.

    They do not depend on where a circuit was placed: a result is read alike after it was compiled anew.
    """
    found: dict[int, list[int]] = {}
    for bit, qubit in circuit.measured:
        found.setdefault(qubit, []).append(bit)
    return tuple(tuple(bits) for bits in found.values())


def values_of(angle: Angle, columns: Columns) -> Array:
    """Return an angle at every point. Raises ShotbusError (SB-1220) where it has no value."""
    with np.errstate(over="ignore", invalid="ignore"):
        values = angle.values(columns)
    if not np.isfinite(values).all():
        raise fail("SB-1220", "$.circuit", detail="an angle is not finite for these bindings")
    return values


def flat_circuits(written: Written) -> list[FlatCircuit]:
    """Return a job's programs as gates, then measurements."""
    return [flattened(circuit) for circuit in written.circuits]


def write(circuit: FlatCircuit, form: Form) -> Source:
    """Return a circuit's text. Raises ShotbusError (SB-1220) for an angle that is no number."""
    measured = list(dict.fromkeys(qubit for _, qubit in circuit.measured))
    driven = {qubit for gate in circuit.gates for qubit in gate.qubits}
    if form.measure_all:
        measured += sorted(driven - set(measured))
    names = _names(sorted(driven | set(measured)), form)
    inputs: dict[Angle, str] = {}
    body = list(_lines(circuit, names, inputs))
    if form.idle:
        body += [f"i {names[qubit]};" for qubit in measured if qubit not in driven]
    register = [] if form.labels else [f"qubit[{len(names)}] q;"]
    text = [
        "OPENQASM 3.0;",
        *(f"input float {name};" for name in inputs.values()),
        f"bit[{len(measured)}] b;",
        *register,
        *body,
        *(f"b[{slot}] = measure {names[qubit]};" for slot, qubit in enumerate(measured)),
    ]
    return Source("\n".join(text) + "\n", {name: angle for angle, name in inputs.items()})


def _names(used: Sequence[int], form: Form) -> dict[int, str]:
    if form.labels:
        return {qubit: f"${form.labels[qubit]}" for qubit in used}
    return {qubit: f"q[{place}]" for place, qubit in enumerate(used)}


def _lines(circuit: FlatCircuit, names: Mapping[int, str], inputs: dict[Angle, str]) -> Iterator[str]:
    for gate in circuit.gates:
        words = [_word(angle, inputs) for angle in gate.angles]
        angles = f"({', '.join(words)})" if words else ""
        yield f"{GATES[gate.name]}{angles} {', '.join(names[qubit] for qubit in gate.qubits)};"


def _word(angle: Angle, inputs: dict[Angle, str]) -> str:
    """Return an angle as it is written: a number, or the name of an input, which is taken note of."""
    if angle.fixed:
        if not math.isfinite(angle.constant):
            raise fail("SB-1220", "$.circuit", detail="an angle is not finite")
        return repr(float(angle.constant))
    as_it_is = angle.constant == 0 and len(angle.terms) == 1 and angle.terms[0][1] == 1
    return inputs.setdefault(angle, angle.terms[0][0] if as_it_is else f"turn_{len(inputs)}")
