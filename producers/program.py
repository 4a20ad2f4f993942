"""Circuits as callers hold them to circuits as they travel: text, address, facts. Pure.

Accepted are OpenQASM 3 and 2 text, a Qiskit ``QuantumCircuit`` and a PennyLane tape; SDKs are only
imported when their objects come in. The static checker sees every text before it is published.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from shotbus.schemas.errors import fail
from shotbus.schemas.ids import circuit_id
from shotbus.schemas.openqasm import CircuitFacts, inspect

_INPUT = re.compile(r"^input float\[64\] (\S+);$", re.MULTILINE)
# What PennyLane raises for a tape that OpenQASM 2 cannot say: a reset after a measurement, a condition on two
# results, an operator without a decomposition.
_UNSPEAKABLE = (NotImplementedError, ValueError)
_SAMPLING = frozenset({"CountsMP", "SampleMP", "ProbabilityMP"})


@dataclass(frozen=True, slots=True)
class Program:
    """A checked circuit.

    ``circuit_id`` is the SHA-256 of ``text``. ``parameters`` are the text's free parameters in the
    caller's order, which is the order of the columns of a matrix of bindings; ``aliases`` maps the
    caller's names to the text's where they differ (a Qiskit ``θ[0]`` is no name in OpenQASM). ``template`` is
    the ``name@version`` under which it was asked for, or empty.
    """

    circuit_id: str
    text: str
    facts: CircuitFacts
    parameters: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    template: str = ""


def program_of(circuit: Any) -> Program:
    """Return the program of a circuit in any accepted form.

    Raises:
        ShotbusError: everything that is wrong with the circuit, with line and column.

    """
    if isinstance(circuit, Program):
        return circuit
    if isinstance(circuit, str):
        return _checked(circuit)
    module = type(circuit).__module__.partition(".")[0]
    if module == "qiskit" and hasattr(circuit, "parameters"):
        return _from_qiskit(circuit)
    if module == "pennylane" and hasattr(circuit, "measurements"):
        return _checked(_from_pennylane(circuit))
    hint = "pass OpenQASM text, a qiskit.QuantumCircuit or a PennyLane tape"
    raise fail("SB-1200", "$.circuit", actual=type(circuit).__name__, hint=hint)


def _from_qiskit(circuit: Any) -> Program:
    """Keep Qiskit's order and names: the exporter renames, and the text's sorted names differ.

    ``_θ_10_`` sorts before ``_θ_2_``, so columns in Qiskit's order would silently bind other parameters.
    """
    from qiskit import qasm3

    try:
        text: str = qasm3.dumps(circuit)
    except qasm3.QASM3ExporterError as error:
        raise fail("SB-1220", "$.circuit", detail=str(error)) from error
    program = _checked(text)
    names = [parameter.name for parameter in circuit.parameters]
    declared = tuple(_INPUT.findall(text))
    if len(declared) != len(names) or set(declared) != set(program.facts.parameters):
        raise fail("SB-1215", "$.circuit", detail="inputs other than parameters", hint="bind them first")
    aliases = {name: wire for name, wire in zip(names, declared, strict=True) if name != wire}
    return replace(program, parameters=declared, aliases=aliases)


def _from_pennylane(tape: Any) -> str:
    import pennylane

    others = [type(one).__name__ for one in tape.measurements if type(one).__name__ not in _SAMPLING]
    if others:
        hint = "leave the measurement out of the tape and pass observables=…"
        raise fail("SB-1215", "$.circuit", actual=", ".join(others), hint=hint)
    everything = any(not one.wires for one in tape.measurements)
    try:
        text: str = pennylane.to_openqasm(tape, measure_all=everything)
    except _UNSPEAKABLE as error:
        raise fail("SB-1220", "$.circuit", detail=str(error)) from error
    return text


@lru_cache(maxsize=1_024)
def _checked(text: str) -> Program:
    facts = inspect(text)
    return Program(circuit_id(text), text, facts, facts.parameters)
