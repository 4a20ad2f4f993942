"""Reads a program statement by statement: blocks, plain calls, gate definitions, recovery. Pure.

Nine statements in ten are plain gate calls, and these take a short cut: one regular expression, and
tables of operands and arguments already seen. Everything else is read word by word, by the same rules.
Time and memory stay in proportion to the text.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable

from shotbus.schemas.openqasm_bits import WORD
from shotbus.schemas.openqasm_calls import Calls, wrong_arity
from shotbus.schemas.openqasm_gates import Gate
from shotbus.schemas.openqasm_names import Frame, Kind, Register, Value
from shotbus.schemas.openqasm_tally import undirected
from shotbus.schemas.openqasm_text import Refusal
from shotbus.schemas.openqasm_tokens import Cursor

_WORD_END = r"[A-Za-z0-9_\u0370-\u03ff]"
_GAP = r"[ \t\r\n]*+"
_FLAT = r"[^(){}\[\];\"'@]*+"
_OPERAND = rf"(?:{WORD}(?:\[[0-9]++\])?|\$[0-9]++)"
# The arguments may contain parentheses one level deep; anything deeper is read word by word.
CALL = re.compile(
    rf"{_GAP}({WORD})(?:{_GAP}\(({_FLAT}(?:\({_FLAT}\){_FLAT})*+)\))?+"
    rf"{_GAP}(?<!{_WORD_END})({_OPERAND}(?:{_GAP},{_GAP}{_OPERAND})*+){_GAP};"
)
MEASURE = re.compile(
    rf"{_GAP}(?:({_OPERAND}){_GAP}={_GAP}measure[ \t\r\n]++({_OPERAND})"
    rf"|measure[ \t\r\n]++({_OPERAND}){_GAP}->{_GAP}({_OPERAND})){_GAP};"
)
_SPACE = re.compile(r"[ \t\r\n]*+")
# Where a statement may end; the braces of a set of indices do not count.
_BREAKS = re.compile(r"(?:\[|\bin)[ \t\r\n]*+\{[^{}\[\];]*+\}|[;{}]")


class Checker(Calls):
    """Reads one program; the two languages differ in their statements. Not reusable."""

    space = _SPACE

    def run(self, offset: int) -> None:
        """Check the program from ``offset`` (behind the version) to its end."""
        while (offset := self.block(self.top, offset)) < len(self.text):
            self.report.add(Refusal("SB-1203", offset, actual="}", hint="there is no block to close here"))
            offset += 1

    def block(self, frame: Frame, offset: int, *, single: bool = False) -> int:
        """Read statements up to a closing brace or the end (or just one); return where that is."""
        text, table, match = self.text, self.names.table, CALL.match
        operands_seen, angles_seen = frame.operands, frame.angles
        while True:
            found = match(text, offset)
            gate = table.get(found[1]) if found is not None else None
            if found is not None and isinstance(gate, Gate):
                offset = found.end()
                try:
                    angles, operands = found[2], found[3]
                    count = 0 if angles is None else angles_seen.get(angles, -1)
                    if count < 0:
                        count = self.count_angles(frame, angles or "", found.start(2))
                    applied = operands_seen.get(operands)
                    if applied is None:
                        applied = self.plain_operands(frame, operands, found.start(3))
                    if count != gate[0] or applied[0] != gate[1]:
                        raise wrong_arity(found.start(1), found[1], gate, count, applied.width)
                    self.apply(frame, gate, applied, found.start(1))
                except Refusal as refusal:
                    self.report.add(refusal)
            else:
                begin = self._skip_space(frame, offset)
                if begin >= len(text) or text[begin] == "}":
                    return begin
                offset = self._statement(frame, begin, found)
            if single:
                return offset

    def _skip_space(self, frame: Frame, offset: int) -> int:
        found = (self.space if frame.inside == "program" else _SPACE).match(self.text, offset)
        assert found is not None, "the pattern matches the empty string"
        return found.end()

    def _statement(self, frame: Frame, offset: int, found: re.Match[str] | None) -> int:
        try:
            if found is not None and found[2] is None and found[1] in ("barrier", "reset"):
                if self._plain_statement(frame, found[1], found[3], found.start(3)):
                    return found.end()
            elif frame.inside != "gate" and (measure := MEASURE.match(self.text, offset)):
                self._plain_measure(frame, measure)
                return measure.end()
            cursor = Cursor(self.text, offset)
            self.statement(frame, cursor)
        except Refusal as refusal:
            self.report.add(refusal)
            return self._recover(max(offset, refusal.offset))
        self.spend_words(cursor)
        return cursor.start

    def _plain_statement(self, frame: Frame, word: str, operands: str, offset: int) -> bool:
        """Read a barrier or a reset on plain operands; False when it is something else."""
        places = self.plain_places(frame, operands, offset)
        if word == "barrier":
            self.apply_barrier(frame, places, offset)
        elif len(places) == 1:
            self.apply_reset(frame, places[0], offset)
        else:
            return False
        return True

    def _plain_measure(self, frame: Frame, found: re.Match[str]) -> None:
        bit, qubit = (1, 2) if found[1] is not None else (4, 3)
        if bit == 1 and self.version == 2:
            raise Refusal("SB-1203", found.start(1), actual="=", hint="write measure q -> c;")
        target = self.plain_place(frame, found[bit], found.start(bit), "bit")
        (source,) = self.plain_places(frame, found[qubit], found.start(qubit))
        self.measure(frame, source, target, found.start(bit))

    @abstractmethod
    def statement(self, frame: Frame, cursor: Cursor) -> None:
        """Read one statement that is not a plain call, up to and including its semicolon."""

    def _recover(self, offset: int) -> int:
        """Return the offset behind the statement around ``offset``, blocks and ``else`` included."""
        nesting = 0
        for found in _BREAKS.finditer(self.text, offset):
            if found[0] == "{":
                nesting += 1
                continue
            if found[0] == "}":
                if nesting == 0:
                    return found.start()
                nesting -= 1
            if nesting == 0:
                cursor = Cursor(self.text, found.end())
                if not cursor.at("else"):
                    return found.end()
        return len(self.text)

    def nested(self, frame: Frame, cursor: Cursor) -> None:
        """Read the body of a loop or a branch: a block in braces or one statement."""
        if frame.nesting > self.limits.nesting:
            hint = "unroll the loops or flatten the branches"
            raise Refusal("SB-1207", cursor.start, limit=f"{self.limits.nesting} nested blocks", hint=hint)
        if cursor.at("{"):
            self.braces(frame, cursor)
        elif cursor.kind == "end" or cursor.at("}"):
            raise cursor.unexpected("a statement")
        else:
            cursor.move(self.block(frame, cursor.start, single=True))

    def braces(self, frame: Frame, cursor: Cursor) -> None:
        """Read a block in braces."""
        opening = cursor.start
        cursor.expect("{")
        end = self.block(frame, opening + 1)
        if end >= len(self.text):
            # Told here, not raised: the blocks around it are unclosed too, and need no second reading.
            self.report.add(Refusal("SB-1203", opening, actual="{", hint="close this block with }"))
            end -= 1
        cursor.move(end + 1)

    # Gate definitions

    def define_gate(self, frame: Frame, cursor: Cursor) -> None:
        """Read a gate definition; its weight is known before anything is expanded."""
        self.at_the_top(frame, cursor)
        cursor.expect("gate")
        offset = cursor.start
        name = self.name(cursor)
        symbols: dict[str, Value | Register] = {}
        if cursor.accept("("):
            kind: Kind = "angle" if self.version == 3 else "real"
            self._formals(cursor, ")", symbols, lambda _: Value(kind, local=True))
            cursor.expect(")")
        parameters = tuple(symbols)
        self._formals(
            cursor, "{", symbols, lambda n: Register("qubit", n - len(parameters), None, local=True)
        )
        if len(symbols) == len(parameters):
            raise Refusal(
                "SB-1209", offset, actual=f"{name} on no qubit", hint="a gate acts on one qubit at least"
            )
        body = Frame("gate", nesting=1)
        with self.names.local(symbols):
            self.braces(body, cursor)
        qubits = len(symbols) - len(parameters)
        weight = max(1, body.operations)
        key, edges = self.tally.define(name, body.calls), tuple(undirected(body.edges))
        gate = Gate(len(parameters), qubits, weight, body.entangling, max(1, body.depth), key, edges)
        self.declare_gate(name, gate, offset)
        ordered = sorted(parameters)
        if self.version == 3 and self.limits.sorted_gate_parameters and list(parameters) != ordered:
            hint = f"name them in alphabetical order: Qiskit would bind them as {', '.join(ordered)}"
            raise Refusal("SB-1215", offset, actual=f"order of the parameters of {name}", hint=hint)

    def _formals(
        self,
        cursor: Cursor,
        closing: str,
        symbols: dict[str, Value | Register],
        make: Callable[[int], Value | Register],
    ) -> None:
        first = True
        while not cursor.at(closing):
            if not first:
                cursor.expect(",")
            first = False
            offset = cursor.start
            name = self.names.check(self.name(cursor), offset, greek=closing == ")" and self.version == 3)
            if name in symbols:
                raise Refusal("SB-1216", offset, actual=name, hint="name each parameter and qubit once")
            symbols[name] = make(len(symbols))

    def declare_gate(self, name: str, gate: Gate, offset: int) -> None:
        """Add a gate; raises :class:`Refusal` (SB-1213, SB-1216)."""
        self.names.declare(self.names.check(name, offset), gate, offset)

    def at_the_top(self, frame: Frame, cursor: Cursor) -> None:
        """Refuse a declaration inside a block (SB-1215)."""
        if frame.nesting:
            actual = f"{cursor.word} in a block"
            raise Refusal("SB-1215", cursor.start, actual=actual, hint="declare at the top of the program")
