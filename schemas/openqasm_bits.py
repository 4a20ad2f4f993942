"""Qubits and bits by name: registers, indices, broadcasting. Pure.

:class:`Bits` also holds the state of one check, which the classes built on it share.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import NoReturn

from shotbus.schemas.openqasm_expression import Expressions
from shotbus.schemas.openqasm_names import Frame, Names, Operands, Place, Register, require_plain
from shotbus.schemas.openqasm_tally import Tally
from shotbus.schemas.openqasm_text import Refusal, Report, Source
from shotbus.schemas.openqasm_tokens import Cursor

#: A name as a regular expression: ASCII letters, and Greek ones for parameters.
WORD = r"[A-Za-z_\u0370-\u03ff][A-Za-z0-9_\u0370-\u03ff]*+"
_PLAIN_OPERAND = re.compile(rf"({WORD})(?:\[([0-9]++)\])?|\$([0-9]++)")


@dataclass(frozen=True, slots=True)
class CircuitLimits:
    """Caps on a circuit. ``operations`` counts what gate definitions, broadcasts and loops expand to.

    ``sorted_gate_parameters`` refuses OpenQASM 3 gate definitions whose parameters are not in the order
    of their names: ``qiskit-qasm3-import`` (0.6) binds arguments in *that* order, so ``gate g(b, a)``
    silently computes something else. Turn it off only where the parser is known to bind by position.
    """

    bytes: int = 1_048_576
    qubits: int = 1_000
    clbits: int = 10_000
    operations: int = 1_000_000
    nesting: int = 16
    sorted_gate_parameters: bool = True


class Bits(ABC):
    """The state of one check, and what operands mean in it."""

    version = 0

    def __init__(self, source: Source, limits: CircuitLimits, report: Report, names: Names) -> None:
        self.text = source.text
        self.limits = limits
        self.report = report
        self.names = names
        self.expressions = Expressions(names, self.version)
        self.top = Frame("program")
        self.tally = Tally()
        self.measured: set[int] = set()
        self.mid_circuit = False
        self._words = 0
        self.qubits = 0
        self.clbits = 0
        self.registers: list[tuple[str, int]] = []
        self.parameters: list[str] = []

    def too_many(self, offset: int) -> NoReturn:
        """Raise the refusal of a program that expands beyond its cap; nothing behind it is read."""
        limit = f"{self.limits.operations} operations"
        hint = "reduce loops, broadcasts and nested gate definitions"
        self.report.fatal(Refusal("SB-1205", offset, limit=limit, hint=hint))

    def charge(self, frame: Frame, width: int, offset: int) -> None:
        """Count operands that are no operations: barriers and conditions on whole registers."""
        frame.width_spent += width
        if frame.width_spent > 4 * self.limits.operations or frame.operations > self.limits.operations:
            self.too_many(offset)

    # Registers

    def declare(self, offset: int, name: str, kind: str, width: int | None) -> Register:
        """Add a register of ``width`` (None: a single one); raises SB-1204, SB-1213, SB-1216."""
        qubit = kind == "qubit"
        limit, used = (self.limits.qubits, self.qubits) if qubit else (self.limits.clbits, self.clbits)
        size = 1 if width is None else width
        if not 1 <= size <= limit - used:
            # It is declared all the same, so that its uses are not reported as well.
            self.names.table.setdefault(
                name, Register("qubit" if qubit else "bit", 0, min(max(size, 1), limit))
            )
            shown = f"1 to {limit} {kind}s in all"
            hint = "give it at least one" if size < 1 else "use fewer or smaller registers"
            raise Refusal(
                "SB-1204", offset, limit=shown, actual=size if abs(size) < 10**30 else "too many", hint=hint
            )
        register = Register("qubit" if qubit else "bit", used if qubit else -1 - used, width)
        self.names.declare(self.names.check(name, offset), register, offset)
        if qubit:
            self.qubits += size
        else:
            self.clbits += size
            if width is not None:
                self.registers.append((name, width))
        return register

    def register(self, frame: Frame, name: str, offset: int, kind: str) -> Register:
        """Return the register called ``name``; raises :class:`Refusal` (SB-1210)."""
        symbol = self.names.table.get(name)
        if isinstance(symbol, Register) and symbol.kind == kind:
            if symbol.local or frame.inside != "gate":
                return symbol
            hint = "a gate sees only its own qubits: add one to its definition"
            raise Refusal("SB-1210", offset, actual=name, hint=hint)
        require_plain(name, offset, greek=False)
        hint = f"declare it as a {kind} register" if symbol is None else f"it is not a {kind} register"
        raise Refusal("SB-1210", offset, actual=name, hint=hint)

    def place(self, frame: Frame, name: str, offset: int, kind: str, index: int | None) -> Place:
        """Return the qubits or bits of ``name`` or ``name[index]``, and whether it is a single one.

        Raises :class:`Refusal`: SB-1210, SB-1211.
        """
        register = self.register(frame, name, offset, kind)
        if index is None:
            return register.ids, register.width is None
        if register.width is None:
            raise Refusal(
                "SB-1211", offset, actual=f"{name}[{index}]", hint=f"{name} is a single {kind}: no index"
            )
        if not -register.width <= index < register.width:
            limit = f"{name} has {register.width}: 0 to {register.width - 1}"
            raise Refusal(
                "SB-1211", offset, limit=limit, actual=f"{name}[{index}]", hint="indices begin at 0"
            )
        return (register.ids[index],), True

    @abstractmethod
    def physical(self, frame: Frame, number: str, offset: int) -> Place:
        """Return the physical qubit ``$number``; raises :class:`Refusal`."""

    # Operands read word by word

    def operands(self, frame: Frame, cursor: Cursor) -> list[Place]:
        """Read qubit operands between commas."""
        places = [self.operand(frame, cursor, "qubit")]
        while cursor.accept(","):
            places.append(self.operand(frame, cursor, "qubit"))
        return places

    def operand(self, frame: Frame, cursor: Cursor, kind: str) -> Place:
        """Read one operand; raises :class:`Refusal`."""
        if cursor.kind == "qubit" and kind == "qubit":
            offset = cursor.start
            return self.physical(frame, cursor.advance()[1:], offset)
        offset, name = cursor.start, self.name(cursor)
        if cursor.accept("["):
            return self.index(frame, cursor, name, offset, kind)
        return self.place(frame, name, offset, kind, None)

    def index(self, frame: Frame, cursor: Cursor, name: str, offset: int, kind: str) -> Place:
        """Read what is between brackets; raises :class:`Refusal`."""
        index = self.whole(cursor)
        cursor.expect("]")
        return self.place(frame, name, offset, kind, index)

    def whole(self, cursor: Cursor) -> int:
        """Step over a whole number; OpenQASM 2 takes plain decimal ones only."""
        if self.version == 2 and cursor.kind == "int":
            self.plain_index(cursor.word, cursor.start)
        if self.version == 2 and (cursor.kind != "int" or "_" in cursor.word):
            raise cursor.unexpected("a decimal number")
        return cursor.integer()

    def name(self, cursor: Cursor) -> str:
        """Step over a name and return it."""
        if cursor.kind != "name":
            raise cursor.unexpected("a name")
        return cursor.advance()

    # Operands of one plain form, cut out by a regular expression

    def plain_places(self, frame: Frame, operands: str, offset: int) -> list[Place]:
        """Return what each of the operands between commas means; raises :class:`Refusal`."""
        places = []
        for part in operands.split(","):
            text = part.strip()
            place = frame.places.get(text)
            if place is None:
                place = frame.places[text] = self.plain_place(frame, text, offset, "qubit")
            places.append(place)
        return places

    def plain_place(self, frame: Frame, text: str, offset: int, kind: str) -> Place:
        """Return what ``name``, ``name[1]`` or ``$1`` means; raises :class:`Refusal`."""
        found = _PLAIN_OPERAND.fullmatch(text)
        assert found is not None, "callers have matched the same pattern"
        name, index, physical = found.groups()
        if physical is None:
            number = None if index is None else self.plain_index(index, offset)
            return self.place(frame, name, offset, kind, number)
        if kind == "bit":
            raise Refusal("SB-1210", offset, actual=text, hint="measure into a bit register")
        return self.physical(frame, physical, offset)

    def plain_index(self, digits: str, offset: int) -> int:
        """Return an index; what is too long to be one stays out of range."""
        if self.version == 2 and digits[0] == "0" and len(digits) > 1:
            raise Refusal("SB-1203", offset, actual=digits, hint="whole numbers have no leading zeros")
        return int(digits) if len(digits) < 10 else 999_999_999


def broadcast(places: Sequence[Place], offset: int) -> Operands:
    """Spread single operands over the registers beside them.

    Raises :class:`Refusal`: SB-1209 for registers of different widths, SB-1212 for a repeated qubit.
    """
    if all(single for _, single in places):
        row = tuple([ids[0] for ids, _ in places])
        if len(set(row)) < len(row):
            raise _repeated(offset)
        return Operands(len(row), (row,))
    widths = {len(ids) for ids, single in places if not single}
    if len(widths) > 1:
        actual = f"widths {', '.join(map(str, sorted(widths)))}"
        raise Refusal("SB-1209", offset, actual=actual, hint="registers in one call must be equally wide")
    count = widths.pop()
    columns = [repeat(ids[0], count) if single else ids for ids, single in places]
    rows = tuple(zip(*columns, strict=True))
    if len(places) > 1 and any(len(set(row)) < len(row) for row in rows):
        raise _repeated(offset)
    return Operands(len(places), rows)


def _repeated(offset: int) -> Refusal:
    return Refusal("SB-1212", offset, hint="the qubits of one gate call must all be different")
