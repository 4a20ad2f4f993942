"""Gate modifiers of OpenQASM 3 (``ctrl``, ``negctrl``, ``inv``, ``pow``) and what they cost. Pure.

An SDK expands a controlled gate with the square of its controls, and makes a dense matrix of a power: one
short line could ask for hours. The bounds here were measured on Qiskit 2.
"""

from __future__ import annotations

from typing import NamedTuple

from shotbus.schemas.openqasm_expression import Expressions
from shotbus.schemas.openqasm_gates import DEFINED, INVERSES, SINGLY_CONTROLLED, Gate
from shotbus.schemas.openqasm_text import Refusal
from shotbus.schemas.openqasm_tokens import Cursor

MAX_MODIFIERS = 16
MAX_CONTROLS = 16
MAX_POWER_QUBITS = 5
MAX_EXPONENT = 1e6
MODIFIERS = ("ctrl", "negctrl", "inv", "pow")


class Modifiers(NamedTuple):
    """How many controls and powers stand before a gate, and how all of it is written."""

    controls: int
    powers: int
    words: tuple[str, ...]


def read_modifiers(cursor: Cursor, expressions: Expressions) -> Modifiers:
    """Step over gate modifiers; raises :class:`Refusal` (SB-1207, SB-1209, SB-1214, SB-1215)."""
    controls = powers = 0
    written: list[str] = []
    while cursor.kind == "name" and cursor.word in MODIFIERS:
        offset, word = cursor.start, cursor.advance()
        written.append(word)
        if word == "pow":
            powers += 1
            _exponent(cursor, expressions)
        elif word != "inv":
            more = _controls(cursor, expressions)
            controls += more
            written[-1] += f"({more})" if more > 1 else ""
        if len(written) > MAX_MODIFIERS or controls > MAX_CONTROLS:
            limit = f"{MAX_MODIFIERS} modifiers, {MAX_CONTROLS} controls"
            raise Refusal("SB-1207", offset, limit=limit, hint="define a gate for it")
        at = cursor.end
        cursor.expect("@")
        if cursor.start == at and cursor.kind == "name":
            hint = "put a space behind @: glued to a name it is an annotation"
            raise Refusal("SB-1215", at, actual=f"@{cursor.word}", hint=hint)
    return Modifiers(controls, powers, tuple(written))


def modified(name: str, gate: Gate, modifiers: Modifiers, offset: int) -> Gate:
    """Return the gate with its modifiers, at its largest; raises :class:`Refusal` (SB-1215)."""
    controls, powers, written = modifiers
    if not written:
        return gate
    qubits = gate.qubits + controls
    if powers and qubits > MAX_POWER_QUBITS:
        limit = f"{MAX_POWER_QUBITS} qubits"
        raise Refusal("SB-1215", offset, limit=limit, actual=f"pow on {qubits} qubits", hint="write it out")
    in_the_library = controls == 1 and name in SINGLY_CONTROLLED and gate.operations == 1
    key = _key(gate, name, written)
    factor = 20 * controls * controls if controls and not in_the_library else 1
    operations = gate.operations * factor + (2 * 4**qubits if powers else 0)
    entangling = operations if qubits > 1 and (controls or powers) else gate.entangling
    depth = operations if controls or powers else gate.depth
    edges = None if controls or powers else gate.edges
    return Gate(gate.parameters, qubits, operations, entangling, depth, key, edges)


def _key(gate: Gate, name: str, written: tuple[str, ...]) -> str:
    """Return what a modified gate is counted under: its name in the library, else as it is written."""
    library = not gate.key.startswith(DEFINED)
    if library and written == ("inv",):
        return INVERSES.get(gate.key, gate.key)
    if library and written == ("ctrl",) and name in SINGLY_CONTROLLED:
        return f"c{gate.key}"
    return " @ ".join((*written, name))


def _controls(cursor: Cursor, expressions: Expressions) -> int:
    offset = cursor.start
    if not cursor.accept("("):
        return 1
    controls = expressions.constant_int(cursor, "SB-1209")
    cursor.expect(")")
    if controls < 1:
        raise Refusal("SB-1209", offset, limit="at least 1 control", actual=controls)
    return controls


def _exponent(cursor: Cursor, expressions: Expressions) -> None:
    cursor.expect("(")
    offset = cursor.start
    value = expressions.value(cursor)
    cursor.expect(")")
    if value.kind == "angle" or value.number is None:
        raise Refusal("SB-1215", offset, actual="exponent that is not constant", hint="write a number")
    if abs(value.number) > MAX_EXPONENT:
        raise Refusal("SB-1214", offset, limit=f"{MAX_EXPONENT:g}", actual=f"exponent {value.number:g}")
