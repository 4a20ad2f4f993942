"""The statements of OpenQASM 2, as ``qiskit.qasm2`` takes them with its legacy gates. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from shotbus.schemas.openqasm_bits import CircuitLimits, broadcast
from shotbus.schemas.openqasm_calls import wrong_arity
from shotbus.schemas.openqasm_check import Checker
from shotbus.schemas.openqasm_gates import BUILTIN_2, QELIB1, QELIB1_EXTRA, Gate
from shotbus.schemas.openqasm_names import Frame, Names, Place, Symbol, Value
from shotbus.schemas.openqasm_text import Refusal, Report, Source
from shotbus.schemas.openqasm_tokens import KEYWORDS_2, Cursor

_CONSTANTS: dict[str, Symbol] = {"pi": Value("real", math.pi, everywhere=True)}
_NAME = re.compile(r"[a-z][A-Za-z0-9_]*")
_KNOWN = {**QELIB1, **QELIB1_EXTRA, "delay": Gate(1, 1, 1, 0, 1, "delay")}
# Empty statements are allowed between statements, though not inside a gate.
_SPACE = re.compile(r"[ \t\r\n;]*+")


class Checker2(Checker):
    """Reads an OpenQASM 2 program."""

    version = 2
    space = _SPACE

    def __init__(self, source: Source, limits: CircuitLimits, report: Report) -> None:
        super().__init__(source, limits, report, _Names2({**_CONSTANTS, **BUILTIN_2}, KEYWORDS_2))
        self._included = False
        self._statements: dict[str, Callable[[Frame, Cursor], None]] = {
            "include": self._include,
            "qreg": self._register,
            "creg": self._register,
            "gate": self.define_gate,
            "measure": self._measure,
            "reset": self.reset,
            "barrier": self.barrier,
            "if": self._if,
        }
        if source.block_comment is not None:
            hint = "OpenQASM 2 has // comments only"
            report.add(Refusal("SB-1203", source.block_comment, actual="/*", hint=hint))

    def statement(self, frame: Frame, cursor: Cursor) -> None:
        """Read one statement up to and including its semicolon or its block."""
        if cursor.kind != "name":
            raise cursor.unexpected("a statement")
        word = cursor.word
        if word == "opaque":
            hint = "nothing is known about an opaque gate: define it with 'gate'"
            raise Refusal("SB-1215", cursor.start, actual="opaque", hint=hint)
        if frame.inside == "gate" and word in ("measure", "reset", "if", "include", "qreg", "creg"):
            hint = "only gate calls may stand in a gate"
            raise Refusal("SB-1215", cursor.start, actual=f"{word} in a gate", hint=hint)
        self._statements.get(word, self._call)(frame, cursor)

    def _include(self, frame: Frame, cursor: Cursor) -> None:
        cursor.expect("include")
        offset, word = cursor.start, cursor.word
        if cursor.kind != "string":
            raise cursor.unexpected('"qelib1.inc"')
        cursor.advance()
        cursor.expect(";")
        if word[1:-1] != "qelib1.inc":
            raise Refusal("SB-1202", offset, limit="qelib1.inc", actual=word, hint="put the definitions here")
        if self._included or frame.nesting:
            raise Refusal("SB-1216", offset, actual=word, hint="include it once, at the top")
        self._included = True
        for name, gate in QELIB1.items():
            self.names.declare(name, gate, offset)
        for name, gate in QELIB1_EXTRA.items():
            self.names.table.setdefault(name, gate)

    def _register(self, frame: Frame, cursor: Cursor) -> None:
        self.at_the_top(frame, cursor)
        kind = "qubit" if cursor.advance() == "qreg" else "bit"
        offset, name = cursor.start, self.name(cursor)
        cursor.expect("[")
        if cursor.at("-"):
            raise Refusal("SB-1204", cursor.start, limit="at least 1", actual="a negative size")
        width = self.whole(cursor)
        cursor.expect("]")
        cursor.expect(";")
        if name in QELIB1_EXTRA:
            raise Refusal("SB-1216", offset, actual=name, hint="a gate has this name: choose another")
        self.declare(offset, name, kind, width)

    def declare_gate(self, name: str, gate: Gate, offset: int) -> None:
        """Add a gate; one of Qiskit's own may be defined again with the same signature."""
        self.names.check(name, offset)
        known = _KNOWN.get(name)
        if known is not None and known[:2] != gate[:2]:
            limit = f"{known.parameters} parameters, {known.qubits} qubits"
            raise Refusal("SB-1216", offset, limit=limit, actual=name, hint="a library gate has this name")
        if name in QELIB1_EXTRA and self.names.table.get(name) is QELIB1_EXTRA[name]:
            self.names.table[name] = gate
        else:
            self.names.declare(name, gate, offset)

    def gate_hint(self, name: str) -> str:
        """Say what might be missing when no gate is called ``name``."""
        if name in _KNOWN and not self._included:
            return 'add include "qelib1.inc";'
        return "define it with 'gate' before its first use; a gate cannot call itself"

    def physical(self, frame: Frame, number: str, offset: int) -> Place:
        """Refuse: OpenQASM 2 has no physical qubits."""
        actual = f"${number} in a {frame.inside}"
        raise Refusal("SB-1215", offset, actual=actual, hint="declare a register with qreg")

    def _call(self, frame: Frame, cursor: Cursor) -> None:
        offset, name = cursor.start, self.name(cursor)
        gate = self.gate(name, offset)
        angles = (
            self.expressions.values(cursor, ")", in_gate=frame.inside == "gate") if cursor.accept("(") else []
        )
        places = self.operands(frame, cursor)
        cursor.expect(";")
        if len(angles) != gate.parameters or len(places) != gate.qubits:
            raise wrong_arity(offset, name, gate, len(angles), len(places))
        self.apply(frame, gate, broadcast(places, offset), offset)

    def _measure(self, frame: Frame, cursor: Cursor) -> None:
        offset = cursor.start
        cursor.expect("measure")
        source = self.operand(frame, cursor, "qubit")
        cursor.expect("->")
        target = self.operand(frame, cursor, "bit")
        cursor.expect(";")
        self.measure(frame, source, target, offset)

    def _if(self, frame: Frame, cursor: Cursor) -> None:
        offset = cursor.start
        cursor.expect("if")
        cursor.expect("(")
        register_at, name = cursor.start, self.name(cursor)
        bits, _ = self.place(frame, name, register_at, "bit", None)
        cursor.expect("==")
        self.whole(cursor)
        cursor.expect(")")
        self.charge(frame, len(bits), offset)
        if frame.nesting or cursor.kind != "name" or cursor.word in ("if", "barrier", "gate", "qreg", "creg"):
            raise cursor.unexpected("one gate call, measurement or reset")
        self.mid_circuit = True
        body = frame.child("branch")
        self.nested(body, cursor)
        # Each operation of a broadcast reads the register by itself, one after the other.
        body.occupy(bits, body.operations)
        frame.absorb(body, 1, bits)
        self.charge(frame, 0, offset)


class _Names2(Names):
    def check(self, name: str, offset: int, *, greek: bool = False) -> str:
        """Return a name that may be declared: in OpenQASM 2 it begins with a small letter."""
        super().check(name, offset, greek=greek)
        if not _NAME.fullmatch(name):
            hint = "begin it with a small letter, and use letters, digits and _ only"
            raise Refusal("SB-1213", offset, actual=name, hint=hint)
        return name
