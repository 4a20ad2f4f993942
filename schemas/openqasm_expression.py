"""Values of OpenQASM expressions, as far as they can be known without running. Pure.

The kinds follow ``qiskit-qasm3-import``: what its importer cannot type is refused here, with a hint. A
number that is not finite is refused wherever it arises.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from shotbus.schemas.openqasm_names import Kind, Names, Value, require_plain
from shotbus.schemas.openqasm_text import Refusal
from shotbus.schemas.openqasm_tokens import Cursor

# The importers recurse over expressions, with Python's default limit of 1,000 frames.
MAX_PARENTHESES = 48
MAX_OPERATORS = 96
_BIGGEST = 10**300
_POWERS = {"+": 1, "-": 1, "*": 2, "/": 2}
_POWERS_2 = {**_POWERS, "^": 4}
_SIGN_POWER = 3
_BIT_STRING = re.compile(r'"[01](?:_?[01])*+"')
_FUNCTIONS_2: Mapping[str, Callable[[float], float]] = {
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "exp": math.exp,
    "ln": math.log,
    "sqrt": math.sqrt,
}


class Expressions:
    """Evaluates expressions at a cursor. ``version`` is 2 or 3: only 2 has functions and ``^``."""

    def __init__(self, names: Names, version: int) -> None:
        self._names = names
        self._version = version
        self._powers = _POWERS_2 if version == 2 else _POWERS
        self._operators = 0

    def value(self, cursor: Cursor, *, in_gate: bool = False) -> Value:
        """Read one expression and return its value.

        Raises :class:`Refusal`: SB-1203, SB-1207, SB-1210, SB-1214, SB-1215.
        """
        self._operators = 0
        return self._binary(cursor, 0, 0, in_gate)

    def values(self, cursor: Cursor, closing: str, *, in_gate: bool = False) -> list[Value]:
        """Read expressions between commas up to ``closing``, and step over it."""
        values: list[Value] = []
        while not cursor.accept(closing):
            if values:
                cursor.expect(",")
            values.append(self.value(cursor, in_gate=in_gate))
        return values

    def constant_int(self, cursor: Cursor, code: str) -> int:
        """Read an expression that must be a whole number known now, else raise ``code``."""
        offset = cursor.start
        value = self.value(cursor)
        if value.kind not in ("int", "uint") or value.number is None:
            raise Refusal(code, offset, hint="write a whole number")
        return int(value.number)

    def _binary(self, cursor: Cursor, floor: int, depth: int, in_gate: bool) -> Value:
        left = self._operand(cursor, depth, in_gate)
        while cursor.kind == "op" and self._powers.get(cursor.word, -1) >= floor:
            offset = cursor.start
            self._count(offset)
            operator = cursor.advance()
            power = self._powers[operator]
            # Only ^ groups from the right.
            right = self._binary(cursor, power if operator == "^" else power + 1, depth, in_gate)
            left = self._combine(operator, left, right, offset)
        return left

    def _operand(self, cursor: Cursor, depth: int, in_gate: bool) -> Value:
        if cursor.kind == "op":
            return self._signed(cursor, depth, in_gate)
        if cursor.kind == "name":
            return self._named(cursor, depth, in_gate)
        return self._literal(cursor)

    def _signed(self, cursor: Cursor, depth: int, in_gate: bool) -> Value:
        offset = cursor.start
        if cursor.accept("("):
            return self._parenthesis(cursor, offset, depth + 1, in_gate)
        if cursor.at("-") or (self._version == 2 and cursor.at("+")):
            self._count(offset)
            sign = cursor.advance()
            value = self._binary(cursor, _SIGN_POWER, depth, in_gate)
            if value.kind == "uint":
                raise Refusal("SB-1215", offset, actual="'-' of an unsigned value", hint="use 0 - x")
            return value if sign == "+" or value.number is None else value._replace(number=-value.number)
        raise cursor.unexpected("a number, a name or '('")

    def _parenthesis(self, cursor: Cursor, offset: int, depth: int, in_gate: bool) -> Value:
        if depth > MAX_PARENTHESES:
            hint = "compute the value before you send the circuit"
            raise Refusal("SB-1207", offset, limit=f"{MAX_PARENTHESES} parentheses", hint=hint)
        value = self._binary(cursor, 0, depth, in_gate)
        cursor.expect(")")
        return value

    def _named(self, cursor: Cursor, depth: int, in_gate: bool) -> Value:
        offset, name = cursor.start, cursor.advance()
        if cursor.at("("):
            return self._call(cursor, name, offset, depth, in_gate)
        symbol = self._names.table.get(name)
        if not isinstance(symbol, Value):
            if name in ("true", "false"):
                raise Refusal("SB-1215", offset, actual=name, hint="a boolean is no angle: write a number")
            require_plain(name, offset, greek=True)
            raise Refusal(
                "SB-1210", offset, actual=name, hint="declare it with 'input float' or write a number"
            )
        if in_gate and not symbol.local and not symbol.everywhere:
            hint = "a gate sees only its own parameters: add one and pass the value"
            raise Refusal("SB-1210", offset, actual=name, hint=hint)
        return symbol

    def _call(self, cursor: Cursor, name: str, offset: int, depth: int, in_gate: bool) -> Value:
        function = _FUNCTIONS_2.get(name) if self._version == 2 else None
        if function is None:
            hint = "write the number: the SDK importers do not evaluate functions"
            raise Refusal("SB-1215", offset, actual=f"function {name}", hint=hint)
        opening = cursor.start
        cursor.expect("(")
        argument = self._parenthesis(cursor, opening, depth + 1, in_gate).number
        if argument is None:
            return Value("real")
        return Value("real", _finite(lambda: function(argument), offset, f"{name}({argument:g})"))

    def _literal(self, cursor: Cursor) -> Value:
        offset = cursor.start
        if cursor.kind in ("int", "based"):
            self._require_2(cursor)
            return Value("real" if self._version == 2 else "int", cursor.integer())
        if cursor.kind == "float":
            self._require_2(cursor)
            text = cursor.advance()
            kind: Kind = "real" if self._version == 2 else "float"
            return Value(kind, _finite(lambda: float(text), offset, text))
        if self._version == 3 and _BIT_STRING.fullmatch(cursor.word):
            return Value("uint", int(_bits(cursor), 2))
        raise cursor.unexpected("a number, a name or '('")

    def _require_2(self, cursor: Cursor) -> None:
        """OpenQASM 2 has plain decimal numbers only, and whole ones without leading zeros."""
        word = cursor.word
        leading_zero = cursor.kind == "int" and len(word) > 1 and word[0] == "0"
        if self._version == 2 and ("_" in word or cursor.kind == "based" or leading_zero):
            raise cursor.unexpected("a decimal number")

    def _count(self, offset: int) -> None:
        self._operators += 1
        if self._operators > MAX_OPERATORS:
            hint = "compute the value before you send the circuit"
            raise Refusal("SB-1207", offset, limit=f"{MAX_OPERATORS} operators in an expression", hint=hint)

    def _combine(self, operator: str, left: Value, right: Value, offset: int) -> Value:
        kind = "real" if self._version == 2 else _kind(operator, left.kind, right.kind)
        if kind is None:
            actual = f"{left.kind} {operator} {right.kind}"
            hint = "declare the parameter as 'input float' instead of 'input angle', or write 1.0 for 1"
            raise Refusal("SB-1215", offset, actual=actual, hint=hint)
        if operator == "/" and right.number == 0:
            raise Refusal("SB-1214", offset, actual="division by zero", hint=_FINITE)
        if left.number is None or right.number is None:
            return Value(kind)
        known_left, known_right = left.number, right.number
        whole = kind in ("int", "uint")
        actual = f"{operator} of large or unsuitable numbers"
        return Value(
            kind, _finite(lambda: _apply(operator, known_left, known_right, whole=whole), offset, actual)
        )


_FINITE = "every angle must be a finite number"


def _bits(cursor: Cursor) -> str:
    word = cursor.word
    if len(word) > 302:
        raise Refusal("SB-1214", cursor.start, limit="300 digits", actual=f"{len(word) - 2} digits")
    return cursor.advance()[1:-1]


def _kind(operator: str, left: Kind, right: Kind) -> Kind | None:
    """Return the kind of the result in OpenQASM 3, None where the importer knows none."""
    if "angle" not in (left, right):
        if "float" in (left, right):
            return "float"
        return "uint" if left == right == "uint" else "int"
    other = right if left == "angle" else left
    if operator in "+-":
        return "angle" if other in ("angle", "float") else None
    if operator == "*":
        return "angle" if other != "angle" else None
    if left != "angle":
        return None
    return "uint" if right == "angle" else "angle"


def _apply(operator: str, left: float, right: float, *, whole: bool) -> float:
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    if operator == "/":
        # Whole numbers divide as in OpenQASM 3: 1/2 is 0.
        return left // right if whole else left / right
    result: float | complex = float(left) ** float(right)
    if isinstance(result, complex):
        raise ValueError("the root of a negative number")  # noqa: TRY004 - a domain error, as math.sqrt's
    return result


def _finite(compute: Callable[[], float], offset: int, actual: str) -> float:
    """Return a finite result; raises :class:`Refusal` (SB-1214) otherwise."""
    try:
        result = compute()
    except (ArithmeticError, ValueError) as error:
        raise Refusal("SB-1214", offset, actual=actual, hint=_FINITE) from error
    too_big = abs(result) > _BIGGEST if isinstance(result, int) else not math.isfinite(result)
    if too_big:
        raise Refusal("SB-1214", offset, actual=actual, hint=_FINITE)
    return result
