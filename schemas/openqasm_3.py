"""The statements of OpenQASM 3 that ``qiskit-qasm3-import`` takes; the others are refused by name. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from shotbus.schemas.openqasm_3_flow import Flow3
from shotbus.schemas.openqasm_3_modifiers import MODIFIERS, modified, read_modifiers
from shotbus.schemas.openqasm_bits import CircuitLimits, broadcast
from shotbus.schemas.openqasm_calls import wrong_arity
from shotbus.schemas.openqasm_gates import BUILTIN_3, STDGATES, Gate
from shotbus.schemas.openqasm_names import Frame, Names, Place, Symbol, Value
from shotbus.schemas.openqasm_text import Refusal, Report, Source
from shotbus.schemas.openqasm_tokens import KEYWORDS_3, Cursor, words

_CONSTANTS: dict[str, Symbol] = {
    name: Value("float", number, everywhere=True)
    for name, number in (
        ("pi", math.pi),
        ("π", math.pi),
        ("tau", math.tau),
        ("τ", math.tau),
        ("euler", math.e),
    )
}
_UNSUPPORTED = {
    "const": "write the value in its place",
    "let": "name the register and index it",
    "while": "use a for loop with a fixed number of turns",
    "switch": "write if statements",
    "def": "define a gate, or write the statements in place",
    "output": "all bits are results: declare 'bit[n] c' and measure into it",
}
_DECLARES_VARIABLE = words("int uint float angle bool complex array duration stretch readonly mutable")


class Checker3(Flow3):
    """Reads an OpenQASM 3 program. ``headless`` programs have no version statement."""

    def __init__(self, source: Source, limits: CircuitLimits, report: Report, *, headless: bool) -> None:
        super().__init__(source, limits, report, Names({**_CONSTANTS, **BUILTIN_3}, KEYWORDS_3))
        self._headless = headless
        self._declares_qubits = False
        self._uses_physical = False
        self._included = False
        self._statements: dict[str, Callable[[Frame, Cursor], None]] = {
            "include": self._include,
            "qubit": self._typed_register,
            "bit": self._typed_register,
            "qreg": self._old_register,
            "creg": self._old_register,
            "input": self._input,
            "gate": self.define_gate,
            "measure": self._measure_arrow,
            "reset": self.reset,
            "barrier": self.barrier,
            "delay": self._delay,
            "if": self.read_if,
            "for": self.read_for,
            "break": self.read_jump,
            "continue": self.read_jump,
            **dict.fromkeys((*MODIFIERS, "gphase"), self._modified),
        }

    def statement(self, frame: Frame, cursor: Cursor) -> None:
        """Read one statement up to and including its semicolon or its block."""
        if cursor.kind != "name":
            raise self._no_statement(cursor)
        word = cursor.word
        read = self._statements.get(word)
        if read is None and (word in KEYWORDS_3):
            raise self._unsupported(cursor)
        if frame.inside == "gate" and word in _NOT_IN_A_GATE:
            hint = "only gate calls may stand in a gate"
            raise Refusal("SB-1215", cursor.start, actual=f"{word} in a gate", hint=hint)
        (read or self._named)(frame, cursor)

    def _no_statement(self, cursor: Cursor) -> Refusal:
        if cursor.at("@") or cursor.at("#"):
            actual = "annotation" if cursor.at("@") else "pragma"
            return Refusal("SB-1215", cursor.start, actual=actual, hint="remove it")
        if cursor.at("{"):
            return Refusal("SB-1215", cursor.start, actual="bare block", hint="remove the braces")
        return cursor.unexpected("a statement")

    def _unsupported(self, cursor: Cursor) -> Refusal:
        word = cursor.word
        if word in ("else", "in", "true", "false", "im"):
            return cursor.unexpected("a statement")
        if word == "while":
            return Refusal("SB-1206", cursor.start, actual=word, hint=_UNSUPPORTED[word])
        hint = "declare 'input float', or write the value" if word in _DECLARES_VARIABLE else "remove it"
        return Refusal("SB-1215", cursor.start, actual=word, hint=_UNSUPPORTED.get(word, hint))

    # Declarations

    def _include(self, frame: Frame, cursor: Cursor) -> None:
        self.at_the_top(frame, cursor)
        cursor.expect("include")
        offset, word = cursor.start, cursor.word
        if cursor.kind != "string":
            raise cursor.unexpected('"stdgates.inc"')
        cursor.advance()
        cursor.expect(";")
        if word[1:-1] == "qelib1.inc" and self._headless:
            hint = "begin the text with 'OPENQASM 2.0;'"
            raise Refusal("SB-1217", offset, actual="qelib1.inc in a text without a version", hint=hint)
        if word[1:-1] != "stdgates.inc":
            raise Refusal(
                "SB-1202", offset, limit="stdgates.inc", actual=word, hint="put the definitions here"
            )
        if self._included:
            raise Refusal("SB-1216", offset, actual=word, hint="include it once")
        self._included = True
        for name, gate in STDGATES.items():
            self.names.declare(name, gate, offset)

    def _typed_register(self, frame: Frame, cursor: Cursor) -> None:
        """``qubit[n] q;``, ``bit[n] c;``, ``bit[n] c = measure q;``."""
        self.at_the_top(frame, cursor)
        kind = cursor.advance()
        width = self.size(cursor) if cursor.at("[") else None
        offset, name = cursor.start, self.name(cursor)
        self._declare(offset, name, kind, width)
        if kind == "bit" and cursor.accept("="):
            if not cursor.at("measure"):
                hint = "bits begin as zero; assign only a measurement"
                raise Refusal("SB-1215", cursor.start, actual="initial value of bits", hint=hint)
            self._measured_into(frame, cursor, self.place(frame, name, offset, "bit", None), offset)
        cursor.expect(";")

    def _old_register(self, frame: Frame, cursor: Cursor) -> None:
        """``qreg q[n];`` and ``creg c[n];``, kept from OpenQASM 2."""
        self.at_the_top(frame, cursor)
        kind = "qubit" if cursor.advance() == "qreg" else "bit"
        offset, name = cursor.start, self.name(cursor)
        width = self.size(cursor) if cursor.at("[") else None
        cursor.expect(";")
        self._declare(offset, name, kind, width)

    def _declare(self, offset: int, name: str, kind: str, width: int | None) -> None:
        if kind == "qubit":
            if self._uses_physical:
                raise self._mixed(offset)
            self._declares_qubits = True
        self.declare(offset, name, kind, width)

    def _input(self, frame: Frame, cursor: Cursor) -> None:
        self.at_the_top(frame, cursor)
        cursor.expect("input")
        kind = cursor.word
        if kind not in ("float", "angle"):
            hint = "only 'input float' and 'input angle' are supported"
            raise Refusal("SB-1215", cursor.start, actual=f"input {kind}", hint=hint)
        cursor.advance()
        size_at = cursor.start
        if cursor.at("[") and self.size(cursor) < 1:
            raise Refusal("SB-1204", size_at, limit="at least 1 bit", hint="use float[64]")
        offset = cursor.start
        name = self.names.check(self.name(cursor), offset, greek=True)
        cursor.expect(";")
        self.names.declare(name, Value("float" if kind == "float" else "angle"), offset)
        self.parameters.append(name)

    # Gate calls

    def gate_hint(self, name: str) -> str:
        """Say what might be missing when no gate is called ``name``."""
        if name in STDGATES and not self._included:
            return 'add include "stdgates.inc";'
        return "define it with 'gate' before its first use; a gate cannot call itself"

    def _named(self, frame: Frame, cursor: Cursor) -> None:
        """Read what begins with a name: a gate call, or a measurement into bits."""
        ahead = Cursor(cursor.text, cursor.end)
        if ahead.at("=") or ahead.at("["):
            self._assignment(frame, cursor)
        else:
            self._modified(frame, cursor)

    def _modified(self, frame: Frame, cursor: Cursor) -> None:
        offset = cursor.start
        modifiers = read_modifiers(cursor, self.expressions)
        name_at, name = cursor.start, self.name(cursor)
        phase = name == "gphase"
        gate = Gate(1, 0, 1, 0, 1, "gphase") if phase else self.gate(name, name_at)
        values = (
            self.expressions.values(cursor, ")", in_gate=frame.inside == "gate") if cursor.accept("(") else []
        )
        if cursor.at("["):
            raise Refusal("SB-1215", cursor.start, actual="gate with a duration", hint="remove the duration")
        places = [] if phase and cursor.at(";") else self.operands(frame, cursor)
        cursor.expect(";")
        if modifiers.powers and any(value.number is None for value in values):
            hint = "a power needs a gate without free parameters"
            raise Refusal("SB-1215", offset, actual="pow of a parameterised gate", hint=hint)
        gate = modified(name, gate, modifiers, offset)
        if len(values) != gate.parameters or len(places) != gate.qubits:
            raise wrong_arity(name_at, name, gate, len(values), len(places))
        if places:
            self.apply(frame, gate, broadcast(places, name_at), offset)

    # Operands

    def physical(self, frame: Frame, number: str, offset: int) -> Place:
        """Return the physical qubit ``$number``; raises :class:`Refusal` (SB-1204, SB-1210, SB-1215)."""
        if frame.inside == "gate":
            raise Refusal("SB-1210", offset, actual=f"${number}", hint="a gate sees only its own qubits")
        if self._declares_qubits:
            raise self._mixed(offset)
        if number[0] == "0" and len(number) > 1:
            # The importer looks $01 up by its text, does not find it, and fails.
            raise Refusal("SB-1203", offset, actual=f"${number}", hint="leave the leading zeros out")
        self._uses_physical = True
        qubit = int(number[:9])
        if qubit >= self.limits.qubits:
            limit = f"$0 to ${self.limits.qubits - 1}"
            raise Refusal("SB-1204", offset, limit=limit, actual=f"${number}", hint="use lower numbers")
        self.qubits = max(self.qubits, qubit + 1)
        return (qubit,), True

    def _mixed(self, offset: int) -> Refusal:
        hint = "use either declared qubits or physical ones ($0), not both"
        return Refusal("SB-1215", offset, actual="declared and physical qubits", hint=hint)

    def index(self, frame: Frame, cursor: Cursor, name: str, offset: int, kind: str) -> Place:
        """Read an index, a range or a set of indices; raises :class:`Refusal` (SB-1210, SB-1211)."""
        register = self.register(frame, name, offset, kind)
        if register.width is None:
            raise Refusal("SB-1211", offset, actual=name, hint=f"{name} is a single {kind}: no index")
        if cursor.accept("{"):
            chosen = [self._element(cursor)]
            while cursor.accept(","):
                chosen.append(self._element(cursor))
            cursor.expect("}")
            cursor.expect("]")
            return [self.place(frame, name, offset, kind, index)[0][0] for index in chosen], False
        parts = self._range(cursor)
        cursor.expect("]")
        if len(parts) == 1 and parts[0] is not None:
            return self.place(frame, name, offset, kind, parts[0])
        return _slice(register.ids, name, parts, offset), False

    def _element(self, cursor: Cursor) -> int:
        return self.expressions.constant_int(cursor, "SB-1211")

    def _range(self, cursor: Cursor) -> list[int | None]:
        """Read ``index`` or ``start:stop`` or ``start:step:stop``; parts may be left out."""
        parts: list[int | None] = []
        while True:
            parts.append(None if cursor.at(":") or cursor.at("]") else self._element(cursor))
            if len(parts) == 3 or not cursor.accept(":"):
                return parts

    # Measurement and timing

    def _assignment(self, frame: Frame, cursor: Cursor) -> None:
        offset, name = cursor.start, self.name(cursor)
        if not cursor.at("=") and self.names.table.get(name) is None:
            raise Refusal("SB-1210", offset, actual=name, hint="declare it as a bit register")
        if isinstance(self.names.table.get(name), Gate):
            raise Refusal("SB-1215", cursor.start, actual="gate with a duration", hint="remove the duration")
        target = (
            self.index(frame, cursor, name, offset, "bit")
            if cursor.accept("[")
            else self.place(frame, name, offset, "bit", None)
        )
        cursor.expect("=")
        if not cursor.at("measure"):
            hint = "only the result of a measurement can be assigned"
            raise Refusal("SB-1215", cursor.start, actual=f"assignment to {name}", hint=hint)
        self._measured_into(frame, cursor, target, offset)
        cursor.expect(";")

    def _measured_into(self, frame: Frame, cursor: Cursor, target: Place, offset: int) -> None:
        cursor.expect("measure")
        self.measure(frame, self.operand(frame, cursor, "qubit"), target, offset)

    def _measure_arrow(self, frame: Frame, cursor: Cursor) -> None:
        offset = cursor.start
        cursor.expect("measure")
        source = self.operand(frame, cursor, "qubit")
        if cursor.at(";"):
            hint = "keep the result: c = measure q;"
            raise Refusal("SB-1215", offset, actual="measurement without a result", hint=hint)
        cursor.expect("->")
        target = self.operand(frame, cursor, "bit")
        cursor.expect(";")
        self.measure(frame, source, target, offset)

    def _delay(self, frame: Frame, cursor: Cursor) -> None:
        offset = cursor.start
        cursor.expect("delay")
        cursor.expect("[")
        if cursor.kind != "time":
            raise Refusal(
                "SB-1215", cursor.start, actual="computed duration", hint="write it out, as in 100ns"
            )
        if cursor.word.endswith("dt") and not cursor.word[:-2].strip().isdigit():
            raise Refusal("SB-1215", cursor.start, actual=cursor.word, hint="dt comes in whole numbers")
        cursor.advance()
        cursor.expect("]")
        places = [(range(self.qubits), False)] if cursor.at(";") else self.operands(frame, cursor)
        cursor.expect(";")
        for qubits, _ in places:
            self.spend(frame, "delay", qubits, offset)
            for qubit in qubits:
                frame.levels[qubit] += 1


_NOT_IN_A_GATE = frozenset(("measure", "reset", "delay", "if", "for", "break", "continue"))


def _slice(ids: range, name: str, parts: Sequence[int | None], offset: int) -> Sequence[int]:
    """Return the members of an inclusive range of indices; raises :class:`Refusal` (SB-1211)."""
    width = len(ids)
    start = 0 if parts[0] is None else parts[0]
    stop = width - 1 if parts[-1] is None else parts[-1]
    step = 1 if len(parts) < 3 or parts[1] is None else parts[1]
    if len(parts) < 2 or not 0 <= start <= stop < width or step < 1:
        limit = f"{name} has {width}: 0 to {width - 1}"
        raise Refusal("SB-1211", offset, limit=limit, actual=f"range in {name}", hint="count upwards from 0")
    return ids[start : stop + 1 : step]
