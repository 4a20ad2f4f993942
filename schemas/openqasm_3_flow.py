"""Branches and loops of OpenQASM 3, as far as their work is known before they run. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from shotbus.schemas.openqasm_check import Checker
from shotbus.schemas.openqasm_names import Frame, Kind, Value
from shotbus.schemas.openqasm_text import Refusal
from shotbus.schemas.openqasm_tokens import Cursor

_MAX_PARENTHESES = 16


class _Term(NamedTuple):
    """A part of a condition; a ``test`` is complete, the other kinds can be compared."""

    kind: Literal["bit", "register", "int", "bool", "test"]
    bits: Sequence[int]


class Flow3(Checker):
    """``if``, ``for``, ``break`` and ``continue``; ``while`` has no bound and is refused elsewhere."""

    version = 3

    def read_if(self, frame: Frame, cursor: Cursor) -> None:
        """Read a branch; it depends on results, so it counts as mid-circuit."""
        offset = cursor.start
        cursor.expect("if")
        cursor.expect("(")
        bits = self._condition(frame, cursor)
        cursor.expect(")")
        self.charge(frame, len(bits), offset)
        self.mid_circuit = True
        self._branch(frame, cursor, bits)
        if cursor.accept("else"):
            self._branch(frame, cursor, bits)

    def _branch(self, frame: Frame, cursor: Cursor, bits: Sequence[int]) -> None:
        offset = cursor.start
        body = frame.child("branch")
        self.nested(body, cursor)
        self._absorb(frame, body, 1, bits, offset)

    def _absorb(self, frame: Frame, body: Frame, times: int, bits: Sequence[int], offset: int) -> None:
        """Add a nested block to ``frame`` and check the caps."""
        frame.absorb(body, times, bits)
        self.charge(frame, 0, offset)

    def _condition(self, frame: Frame, cursor: Cursor) -> Sequence[int]:
        """Read ``bit``, ``!bit``, ``bit == true`` or ``register == number``; return the bits."""
        offset = cursor.start
        term = self._comparison(frame, cursor, 0)
        if term.kind not in ("bit", "test"):
            raise _bad_condition(offset)
        return term.bits

    def _comparison(self, frame: Frame, cursor: Cursor, depth: int) -> _Term:
        offset = cursor.start
        left = self._term(frame, cursor, depth)
        if not (cursor.at("==") or cursor.at("!=")):
            return left
        operator = cursor.advance()
        right = self._term(frame, cursor, depth)
        kinds = {left.kind, right.kind}
        if kinds == {"bit", "bool"} or (kinds == {"register", "int"} and operator == "=="):
            return _Term("test", left.bits or right.bits)
        raise _bad_condition(offset)

    def _term(self, frame: Frame, cursor: Cursor, depth: int) -> _Term:
        offset = cursor.start
        if depth < _MAX_PARENTHESES and cursor.accept("("):
            inner = self._comparison(frame, cursor, depth + 1)
            cursor.expect(")")
            return inner
        if cursor.accept("!") or cursor.accept("~"):
            term = self._term(frame, cursor, depth + 1)
            if term.kind != "bit":
                raise _bad_condition(offset)
            return _Term("test", term.bits)
        if cursor.accept("true") or cursor.accept("false"):
            return _Term("bool", ())
        if cursor.kind == "name":
            return self._bits(frame, cursor)
        if self.expressions.constant_int(cursor, "SB-1215") < 0:
            raise _bad_condition(offset)
        return _Term("int", ())

    def _bits(self, frame: Frame, cursor: Cursor) -> _Term:
        offset = cursor.start
        indexed = Cursor(cursor.text, cursor.end).at("[")
        bits, single = self.operand(frame, cursor, "bit")
        if indexed and not single:
            hint = "compare a whole register or a single bit"
            raise Refusal("SB-1215", offset, actual="condition on part of a register", hint=hint)
        return _Term("bit" if single else "register", bits)

    def read_for(self, frame: Frame, cursor: Cursor) -> None:
        """Read a loop whose number of turns is known."""
        offset = cursor.start
        cursor.expect("for")
        kind = self._loop_type(cursor)
        name_at = cursor.start
        name = self.names.check(self.name(cursor), name_at)
        cursor.expect("in")
        times = self._turns(cursor)
        body = frame.child("loop")
        with self.names.local({name: Value(kind)}):
            self.nested(body, cursor)
        if times > 1 and body.measurements:
            self.mid_circuit = True
        self._absorb(frame, body, times, (), offset)

    def size(self, cursor: Cursor) -> int:
        """Read a whole number in brackets."""
        cursor.expect("[")
        size = self.expressions.constant_int(cursor, "SB-1204")
        cursor.expect("]")
        return size

    def _loop_type(self, cursor: Cursor) -> Kind:
        if not (cursor.at("int") or cursor.at("uint")):
            hint = "write 'for int i in [0:9]'"
            raise Refusal("SB-1206", cursor.start, actual=cursor.word, limit="int or uint", hint=hint)
        kind: Kind = "int" if cursor.advance() == "int" else "uint"
        if cursor.at("["):
            self.size(cursor)
        return kind

    def _turns(self, cursor: Cursor) -> int:
        """Read the values of a loop; return how many there are (SB-1206 when too many or unknown)."""
        offset = cursor.start
        if cursor.accept("{"):
            times = 1
            self.expressions.constant_int(cursor, "SB-1206")
            while cursor.accept(","):
                self.expressions.constant_int(cursor, "SB-1206")
                times += 1
            cursor.expect("}")
        elif cursor.accept("["):
            times = self._range_turns(cursor, offset)
        else:
            raise Refusal("SB-1206", offset, actual=cursor.word, hint="write a range, as in [0:9]")
        if times > self.limits.operations:
            limit = f"{self.limits.operations} turns"
            raise Refusal("SB-1206", offset, limit=limit, actual=_shown(times), hint="use fewer turns")
        return times

    def _range_turns(self, cursor: Cursor, offset: int) -> int:
        bounds = [self._bound(cursor)]
        while len(bounds) < 3 and cursor.accept(":"):
            bounds.append(self._bound(cursor))
        cursor.expect("]")
        if len(bounds) < 2:
            raise Refusal("SB-1206", offset, hint="write a range with both ends, as in [0:9]")
        start, stop = bounds[0], bounds[-1]
        step = bounds[1] if len(bounds) == 3 else 1
        if step == 0:
            raise Refusal("SB-1206", offset, actual="step 0", hint="a step of 0 never ends")
        return max(0, (stop - start) // step + 1)

    def _bound(self, cursor: Cursor) -> int:
        offset = cursor.start
        bound = self.expressions.constant_int(cursor, "SB-1206")
        if cursor.kind == "op" and cursor.word not in (":", "]"):
            hint = "the ends of a range must be whole numbers, written out"
            raise Refusal("SB-1206", offset, actual=f"operator '{cursor.word}'", hint=hint)
        return bound

    def read_jump(self, frame: Frame, cursor: Cursor) -> None:
        """Read ``break`` or ``continue``."""
        if not frame.looping:
            raise Refusal("SB-1203", cursor.start, actual=cursor.word, hint="there is no loop around it")
        cursor.advance()
        cursor.expect(";")


def _bad_condition(offset: int) -> Refusal:
    hint = "write 'bit', '!bit', 'bit == true' or 'register == number'"
    return Refusal("SB-1215", offset, actual="condition", hint=hint)


def _shown(times: int) -> str:
    return str(times) if times < 10**18 else "more than 10^18 turns"
