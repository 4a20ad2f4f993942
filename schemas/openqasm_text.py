"""From what was sent to text that can be scanned: size, encoding, comments, positions. Pure.

What two parsers could read in two ways is refused here: a lone carriage return ends a comment for one
parser and not for another, and bidirectional controls show a reader something else than what runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from shotbus.schemas.errors import MAX_PROBLEMS, Problem, ShotbusError

_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]|\r(?!\n)"
)
_COMMENT = re.compile(r"""//[^\n]*+|/\*.*?(?:\*/|\Z)|"[^"\n]*+"|'[^'\n]*+'""", re.DOTALL)
_NOT_NEWLINE = re.compile(r"[^\n]+")
# The same mistake on every line is told once; after this many repetitions the rest is not looked at.
_MAX_REPEATS = 1000


class CircuitError(ShotbusError):
    """The circuit text was refused; ``problems`` has a code and ``line:column`` for each reason."""


class Refusal(Exception):  # noqa: N818 - internal signal from a rule to the statement loop, never seen outside
    """One thing is wrong at one offset; the statement around it is given up."""

    def __init__(
        self,
        code: str,
        offset: int,
        *,
        limit: object = "",
        actual: object = "",
        hint: str = "",
        detail: str = "",
    ) -> None:
        """Keep the fields of the :class:`Problem` that this becomes."""
        super().__init__(code)
        self.code = code
        self.offset = offset
        self.fields = {"limit": str(limit), "actual": str(actual), "hint": hint, "detail": detail}


@dataclass(frozen=True, slots=True)
class Source:
    """The text with comments blanked out, so that offsets are still those of the original."""

    text: str
    block_comment: int | None = None

    def place(self, offset: int) -> str:
        """Return ``line:column``, both counted from 1."""
        line = self.text.count("\n", 0, offset) + 1
        return f"{line}:{offset - self.text.rfind(chr(10), 0, offset)}"


class Report:
    """The problems of one document, in the order found."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._problems: list[Problem] = []
        self._seen: set[tuple[str, str]] = set()
        self._repeats = 0

    def add(self, refusal: Refusal) -> None:
        """Note a problem; raises :class:`CircuitError` when there are enough of them."""
        actual = refusal.fields["actual"]
        if actual and (refusal.code, actual) in self._seen:
            self._repeats += 1
        else:
            self._seen.add((refusal.code, actual))
            place = self._source.place(refusal.offset)
            self._problems.append(Problem(refusal.code, place, **refusal.fields))
        if len(self._problems) >= MAX_PROBLEMS or self._repeats >= _MAX_REPEATS:
            self.raise_any()

    def fatal(self, refusal: Refusal) -> NoReturn:
        """Note a problem behind which nothing is read; raises :class:`CircuitError`."""
        self.add(refusal)
        raise CircuitError(self._problems)

    def raise_any(self) -> None:
        """Raise :class:`CircuitError` when anything was noted."""
        if self._problems:
            raise CircuitError(self._problems)


def prepare(given: str | bytes, max_bytes: int) -> Source:
    """Check size, encoding and characters, and blank the comments out.

    Raises :class:`CircuitError` (SB-1200, SB-1201, SB-1203): after one of these nothing else of the
    text can be trusted.
    """
    size = len(given)
    if size > max_bytes:
        raise _refused("SB-1201", "1:1", limit=f"{max_bytes} bytes", actual=f"{size} bytes", hint=_SHORTEN)
    text = given if isinstance(given, str) else _decoded(given)
    if text.startswith(("QISKIT", "UUlTS0lU")):
        raise _refused("SB-1200", "1:1", actual="QPY", hint="send OpenQASM: loading QPY can run code")
    source = Source(text)
    if found := _CONTROL.search(text):
        actual = f"U+{ord(found.group()[0]):04X}"
        raise _refused("SB-1200", source.place(found.start()), actual=actual, hint="remove this character")
    if not text.isascii() and (size := len(text.encode())) > max_bytes:
        raise _refused("SB-1201", "1:1", limit=f"{max_bytes} bytes", actual=f"{size} bytes", hint=_SHORTEN)
    return _without_comments(text)


_SHORTEN = "define repeated parts as gates, or write them as loops"


def _refused(code: str, path: str, **fields: str) -> CircuitError:
    return CircuitError([Problem(code, path, **fields)])


def _decoded(given: bytes) -> str:
    try:
        return given.decode()
    except UnicodeDecodeError as error:
        if given.startswith(b"QISKIT"):
            return "QISKIT"
        detail = f"byte {error.start} is not UTF-8"
        raise _refused("SB-1200", "1:1", detail=detail, hint="send the text as UTF-8") from error


def _without_comments(text: str) -> Source:
    if "/" not in text:
        return Source(text)
    blocks: list[int] = []
    unclosed: list[int] = []

    def blank(found: re.Match[str]) -> str:
        comment = found.group()
        if comment[0] != "/":
            return comment
        if comment[1] == "/":
            return " " * len(comment)
        blocks.append(found.start())
        if len(comment) < 4 or not comment.endswith("*/"):
            unclosed.append(found.start())
        return _spaces(comment)

    blanked = _COMMENT.sub(blank, text)
    if unclosed:
        place = Source(text).place(unclosed[0])
        raise _refused("SB-1203", place, actual="/*", hint="close the comment with */")
    return Source(blanked, blocks[0] if blocks else None)


def _spaces(comment: str) -> str:
    return _NOT_NEWLINE.sub(lambda run: " " * len(run.group()), comment)
