"""Circuits as callers hold them to circuits as they travel: text, address, facts. Pure.

Accepted are OpenQASM 3 and 2 text, a Qiskit ``QuantumCircuit`` and a PennyLane tape; SDKs are only
imported when their objects come in. The static checker sees every text before it is published.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from shotbus.schemas.errors import fail
from shotbus.schemas.ids import circuit_id
from shotbus.schemas.openqasm import CircuitFacts, inspect


@dataclass(frozen=True, slots=True)
class Program:
    """A checked circuit: ``circuit_id`` is the SHA-256 of ``text``."""

    circuit_id: str
    text: str
    facts: CircuitFacts


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
    if module == "qiskit":
        return _checked(_from_qiskit(circuit))
    if module == "pennylane":
        return _checked(circuit.to_openqasm(measure_all=False))
    hint = "pass OpenQASM text, a qiskit.QuantumCircuit or a PennyLane tape"
    raise fail("SB-1200", "$.circuit", actual=type(circuit).__name__, hint=hint)


def _from_qiskit(circuit: Any) -> str:
    from qiskit import qasm3

    text: str = qasm3.dumps(circuit)
    return text


@lru_cache(maxsize=1_024)
def _checked(text: str) -> Program:
    return Program(circuit_id(text), text, inspect(text))
