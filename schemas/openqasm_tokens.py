"""Words of OpenQASM 2 and 3, one at a time. Pure.

The language's words are those of the reference grammar (openqasm.com, ``qasm3Lexer.g4``). A number may
carry a unit of time; ``@`` glued to a name is an annotation, not a gate modifier.
"""

from __future__ import annotations

import re

from shotbus.schemas.openqasm_text import Refusal

_DIGITS = r"[0-9](?:_?[0-9])*+"
_EXPONENT = rf"[eE][+-]?{_DIGITS}"
_FLOAT = rf"(?:{_DIGITS}(?:\.(?:{_DIGITS})?(?:{_EXPONENT})?|{_EXPONENT})|\.{_DIGITS}(?:{_EXPONENT})?)"
TOKEN = re.compile(
    rf"""[ \t\r\n]*+(?:
      (?P<name>[^\W\d]\w*+)
    | (?P<based>0[xX][0-9a-fA-F](?:_?[0-9a-fA-F])*+|0o[0-7](?:_?[0-7])*+|0[bB][01](?:_?[01])*+)
    | (?P<time>(?:{_FLOAT}|{_DIGITS})[ \t]*(?:dt|ns|us|µs|ms|s)(?!\w))
    | (?P<float>{_FLOAT})
    | (?P<int>{_DIGITS})
    | (?P<qubit>\$[0-9]++)
    | (?P<string>"[^"\n]*+"|'[^'\n]*+')
    | (?P<op>->|\*\*|\+\+|==|!=|<=|>=|<<|>>|&&|\|\||[-+*/%^&|~!<>=(){{}}\[\]:;,.@\#])
    | (?P<bad>.)
    | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
#: Operators of OpenQASM 3 expressions that the SDKs' importers do not take.
OPERATORS = frozenset(
    ("**", "++", "==", "!=", "<=", ">=", "<<", ">>", "&&", "||", "%", "^", "&", "|", "<", ">", "~", "!")
)


def words(spec: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(spec.split())


KEYWORDS_3 = words(
    "OPENQASM include defcalgrammar def cal defcal gate extern box let break continue if else end return"
    " for while in switch case default input output const readonly mutable qreg qubit creg bool bit int"
    " uint float angle complex array void duration stretch gphase inv pow ctrl negctrl durationof delay"
    " reset measure barrier im true false pragma sizeof"
)
KEYWORDS_2 = words(
    "OPENQASM include qreg creg gate opaque if measure reset barrier pi sin cos tan exp ln sqrt U CX"
)
_MAX_DIGITS = 300


class Cursor:
    """One word of look-ahead over the text: ``kind``, ``word``, where it begins and ends.

    ``words`` counts the words read: the work done with this cursor.
    """

    __slots__ = ("end", "kind", "start", "text", "word", "words")

    def __init__(self, text: str, offset: int) -> None:
        self.text = text
        self.words = 0
        self.move(offset)

    def move(self, offset: int) -> None:
        """Read the word at or after ``offset``."""
        found = TOKEN.match(self.text, offset)
        assert found is not None, "the last alternatives match anything"
        kind = found.lastgroup
        assert kind is not None, "every alternative is a named group"
        self.words += 1
        self.kind = kind
        self.word = found[kind]
        self.start, self.end = found.span(kind)

    def advance(self) -> str:
        """Go to the next word and return the one that was current."""
        word = self.word
        self.move(self.end)
        return word

    def at(self, word: str) -> bool:
        """Tell whether the current word is this operator or keyword."""
        return self.word == word and self.kind in ("op", "name")

    def accept(self, word: str) -> bool:
        """Step over ``word`` when it is here."""
        if self.at(word):
            self.advance()
            return True
        return False

    def expect(self, word: str) -> None:
        """Step over ``word``; raises :class:`Refusal` when something else is here."""
        if not self.accept(word):
            raise self.unexpected(f"'{word}'")

    def integer(self) -> int:
        """Step over a whole number and return it."""
        if self.kind not in ("int", "based"):
            raise self.unexpected("a whole number")
        if len(self.word) > _MAX_DIGITS:
            raise Refusal(
                "SB-1214", self.start, limit=f"{_MAX_DIGITS} digits", actual=f"{len(self.word)} digits"
            )
        base = 0 if self.kind == "based" else 10
        return int(self.advance(), base)

    def unexpected(self, wanted: str) -> Refusal:
        """Return the refusal of the current word where ``wanted`` should be."""
        if self.kind == "op" and self.word in OPERATORS:
            hint = "only + - * / are supported in expressions"
            return Refusal("SB-1215", self.start, actual=f"operator '{self.word}'", hint=hint)
        actual = "end of text" if self.kind == "end" else self.word
        return Refusal("SB-1203", self.start, actual=actual, hint=f"expected {wanted}")
