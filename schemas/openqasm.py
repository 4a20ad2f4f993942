"""Inspection of circuit text before any SDK sees it: refuse what is wrong or hostile, size the rest. Pure.

SDK parsers open files named in includes, expand 700 characters to 2^29 gates and die of a register
size. So :func:`inspect` reads the text first, in time and memory proportional to its length, and reports
everything that is wrong with it at once. What it accepts, ``qiskit.qasm3.loads`` and
``qiskit.qasm2.loads(include_path=(), custom_instructions=LEGACY_CUSTOM_INSTRUCTIONS)`` accept too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from shotbus.schemas.openqasm_2 import Checker2
from shotbus.schemas.openqasm_3 import Checker3
from shotbus.schemas.openqasm_bits import CircuitLimits
from shotbus.schemas.openqasm_check import Checker
from shotbus.schemas.openqasm_text import CircuitError, Refusal, Report, Source, prepare

__all__ = ["CircuitError", "CircuitFacts", "CircuitLimits", "inspect"]

_VERSION = re.compile(r"[ \t\r\n]*+OPENQASM(?![A-Za-z0-9_])[ \t\r\n]*+([^;\n]{0,20})(;?)")
_DEFAULT_LIMITS = CircuitLimits()


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
