"""Inspection of circuit text before any SDK sees it: refuse what is wrong or hostile, size the rest. Pure.

SDK parsers open files named in includes, expand 700 characters to 2^29 gates and die of a register
size. So :func:`inspect` reads the text first, in time and memory proportional to its length, and reports
everything that is wrong with it at once. What it accepts, ``qiskit.qasm3.loads`` and
``qiskit.qasm2.loads(include_path=(), custom_instructions=LEGACY_CUSTOM_INSTRUCTIONS)`` accept too.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Literal

from shotbus.schemas.openqasm_2 import Checker2
from shotbus.schemas.openqasm_3 import Checker3
from shotbus.schemas.openqasm_bits import CircuitLimits
from shotbus.schemas.openqasm_check import Checker
from shotbus.schemas.openqasm_tally import MAX_EDGES, MAX_GATES, undirected
from shotbus.schemas.openqasm_text import CircuitError, Refusal, Report, Source, prepare

__all__ = ["COST_QUBITS", "INSPECTOR_VERSION", "CircuitError", "CircuitFacts", "CircuitLimits", "inspect"]

#: Raised whenever the same text may get other facts or another verdict; kept answers of another are not used.
INSPECTOR_VERSION = 1

#: No statevector is larger; the cost of a wider circuit is that of so many qubits, and fits 64 bits.
COST_QUBITS = 40

_VERSION = re.compile(r"[ \t\r\n]*+OPENQASM(?![A-Za-z0-9_])[ \t\r\n]*+([^;\n]{0,20})(;?)")
_DEFAULT_LIMITS = CircuitLimits()
_EDGE = struct.Struct("<HH")


@dataclass(frozen=True, slots=True)
class CircuitFacts:
    """What a circuit is, known without expanding it.

    ``registers`` are the classical registers in the order of declaration, as (name, width), named as in
    the text (a single ``bit`` is counted in ``clbits`` only). ``parameters`` are the free ``input``
    parameters, sorted as ``QuantumCircuit.parameters`` sorts them. ``operations`` counts gates,
    measurements and resets with gate definitions, broadcasts and loops expanded, both branches of an
    ``if``, but no barriers; ``two_qubit_gates`` those on two qubits or more. ``depth_bound`` is an upper
    bound of the layers. ``has_mid_circuit`` is true when anything depends on a result or follows one on
    its qubit (it may be true without need, never false where it matters).

    ``gates`` counts the operations by name, the most frequent first: the names are those of the SDKs
    (``cx``, ``u``, ``measure``, ``reset``, ``delay``), definitions are expanded, and a modified gate that
    is not in the library stands as it is written (``ctrl(2) @ x``). ``packed_edges`` are the pairs of
    qubits that interact. ``gates_cut`` and ``edges_cut`` say that there are more than are told, and
    then nothing follows from one that is missing. ``expanded_size`` is the operations and the operands of
    barriers and conditions: what an SDK holds once everything is written out.
    """

    language: Literal["openqasm3", "openqasm2"]
    qubits: int
    clbits: int
    registers: tuple[tuple[str, int], ...]
    parameters: tuple[str, ...]
    operations: int
    two_qubit_gates: int
    depth_bound: int
    measurements: int
    has_mid_circuit: bool
    gates: tuple[tuple[str, int], ...]
    gates_cut: bool
    packed_edges: bytes
    edges_cut: bool
    expanded_size: int

    @property
    def measures(self) -> bool:
        """Whether anything is measured."""
        return self.measurements > 0

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Pairs of qubits that interact, lower first, in order; a gate on three counts as all its pairs."""
        return tuple(_EDGE.iter_unpack(self.packed_edges))

    @property
    def statevector_cost(self) -> int:
        """Amplitudes that a statevector simulator updates a shot: operations * 2^min(qubits, 40)."""
        return self.operations << min(self.qubits, COST_QUBITS)


def inspect(text: str | bytes, limits: CircuitLimits = _DEFAULT_LIMITS) -> CircuitFacts:
    """Check an OpenQASM 3 or 2 program and return its facts.

    A text without a version statement is OpenQASM 3; OpenQASM 2 must say ``OPENQASM 2.0;``. Raises
    :class:`CircuitError` with up to 20 problems (codes SB-1200 to SB-1217, path ``line:column``).
    """
    source = prepare(text, limits.bytes)
    report = Report(source)
    checker, offset = _checker(source, limits, report)
    checker.run(offset)
    report.raise_any()
    gates = checker.tally.counts(checker.top.calls)
    edges = undirected(checker.top.edges)
    return CircuitFacts(
        language="openqasm3" if checker.version == 3 else "openqasm2",
        qubits=checker.qubits,
        clbits=checker.clbits,
        registers=tuple(checker.registers),
        parameters=tuple(sorted(checker.parameters)),
        operations=checker.top.operations,
        two_qubit_gates=checker.top.entangling,
        depth_bound=checker.top.depth,
        measurements=checker.top.measurements,
        has_mid_circuit=checker.mid_circuit,
        gates=tuple(gates[:MAX_GATES]),
        gates_cut=len(gates) > MAX_GATES,
        packed_edges=b"".join(_EDGE.pack(*edge) for edge in edges[:MAX_EDGES]),
        edges_cut=checker.tally.edges_cut or len(edges) > MAX_EDGES,
        expanded_size=checker.top.operations + checker.top.width_spent,
    )


def _checker(source: Source, limits: CircuitLimits, report: Report) -> tuple[Checker, int]:
    found = _VERSION.match(source.text)
    if found is None:
        if not source.text.strip(" \t\r\n"):
            report.fatal(Refusal("SB-1203", 0, actual="end of text", hint="there is no program in it"))
        return Checker3(source, limits, report, headless=True), 0
    version = found[1].rstrip()
    if re.fullmatch(r"2(\.0)?", version) and found[2]:
        return Checker2(source, limits, report), found.end()
    if not (re.fullmatch(r"3(\.[0-9]{1,2})?", version) and found[2]):
        hint = "begin the text with 'OPENQASM 3.0;' or 'OPENQASM 2.0;'"
        report.fatal(Refusal("SB-1217", found.start(1), limit="3.x or 2.0", actual=version, hint=hint))
    return Checker3(source, limits, report, headless=False), found.end()
