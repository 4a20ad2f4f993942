"""Names of a program and the tallies of its blocks. Pure.

There is one table of names, as the OpenQASM scopes allow: only gate definitions and loops bring local
names, and these are put into the table on entry and taken out on exit. Nothing is copied, so that a
hostile program with many names and many scopes stays linear.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from shotbus.schemas.openqasm_gates import Gate
from shotbus.schemas.openqasm_text import Refusal

Kind = Literal["int", "uint", "float", "angle", "real"]
Inside = Literal["program", "branch", "loop", "gate"]


class Value(NamedTuple):
    """A classical value as the importers type it; ``number`` is None when only known at run time.

    ``local`` belongs to a gate definition; ``everywhere`` is a constant.
    """

    kind: Kind
    number: float | None = None
    local: bool = False
    everywhere: bool = False


class Register(NamedTuple):
    """Qubits or bits under one name; ``width`` None is a single one, which takes no index.

    Bits are numbered -1, -2, … so that one table of layers serves qubits and bits.
    """

    kind: Literal["qubit", "bit"]
    first: int
    width: int | None
    local: bool = False

    @property
    def ids(self) -> range:
        """The numbers of all its members."""
        width = 1 if self.width is None else self.width
        step = 1 if self.kind == "qubit" else -1
        return range(self.first, self.first + step * width, step)


Symbol = Gate | Value | Register


#: Qubits or bits, and whether they were given as a single one (which broadcasts).
Place = tuple[Sequence[int], bool]


class Operands(NamedTuple):
    """Operands of one gate call after broadcasting: one row of qubits per application."""

    width: int
    rows: tuple[tuple[int, ...], ...]


@dataclass(slots=True)
class Frame:
    """What a block adds up to. ``levels`` is the last occupied layer of each qubit and bit.

    ``width_spent`` counts the operands of barriers and conditions: work that is no operation, and must
    be bounded all the same. ``calls`` counts operations by :attr:`Gate.key`, definitions not expanded;
    ``edges`` are the pairs of qubits that interact, either way round.
    """

    inside: Inside
    nesting: int = 0
    looping: bool = False
    operations: int = 0
    entangling: int = 0
    measurements: int = 0
    width_spent: int = 0
    calls: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    edges: set[tuple[int, ...]] = field(default_factory=set)
    levels: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    # What texts of operands and arguments mean; nothing is ever declared that could change it.
    places: dict[str, Place] = field(default_factory=dict)
    operands: dict[str, Operands] = field(default_factory=dict)
    angles: dict[str, int] = field(default_factory=dict)

    def child(self, inside: Inside) -> Frame:
        """Return the frame of a block in this one; a branch sees the same names, so it shares caches."""
        frame = Frame(inside, self.nesting + 1, self.looping or inside == "loop", edges=self.edges)
        if inside == "branch":
            frame.places, frame.operands, frame.angles = self.places, self.operands, self.angles
        return frame

    @property
    def depth(self) -> int:
        """An upper bound of the layers so far."""
        return max(self.levels.values(), default=0)

    def occupy(self, ids: Iterable[int], layers: int) -> None:
        """Put something ``layers`` deep on these qubits and bits together."""
        touched = tuple(ids)
        level = max(map(self.levels.__getitem__, touched), default=0) + layers
        self.levels.update(dict.fromkeys(touched, level))

    def absorb(self, body: Frame, times: int, condition: Sequence[int] = ()) -> None:
        """Add a nested block that runs ``times`` times; the block itself is at least one operation."""
        self.operations += max(1, times * max(1, body.operations))
        self.entangling += times * body.entangling
        self.measurements += times * body.measurements
        self.width_spent += times * body.width_spent + len(condition)
        for key, count in body.calls.items():
            self.calls[key] += times * count
        self.occupy({*body.levels, *condition}, max(1, times * max(1, body.depth)))


class Names:
    """The table of names, with the rules about what may be declared."""

    def __init__(self, symbols: Mapping[str, Symbol], keywords: frozenset[str]) -> None:
        self.table: dict[str, Symbol] = dict(symbols)
        self._reserved = keywords
        self._constants = frozenset(symbols)

    def declare(self, name: str, symbol: Symbol, offset: int) -> None:
        """Add a global name; raises :class:`Refusal` (SB-1216) when it is taken."""
        if name in self.table:
            hint = "choose another name: gates, registers and parameters share one set of names"
            raise Refusal("SB-1216", offset, actual=name, hint=hint)
        self.table[name] = symbol

    @contextmanager
    def local(self, symbols: Mapping[str, Symbol]) -> Iterator[None]:
        """Let local names hide global ones for a while."""
        hidden = {name: self.table.get(name) for name in symbols}
        self.table.update(symbols)
        try:
            yield
        finally:
            for name, symbol in hidden.items():
                if symbol is None:
                    del self.table[name]
                else:
                    self.table[name] = symbol

    def check(self, name: str, offset: int, *, greek: bool = False) -> str:
        """Return a name that may be declared; raises :class:`Refusal` (SB-1213).

        ``greek`` admits the letters that Qiskit's exporter writes for its ansatz parameters, but none
        that looks like a Latin one.
        """
        if name in self._reserved or name in self._constants:
            raise Refusal("SB-1213", offset, actual=name, hint="this word is reserved: choose another name")
        if name.startswith("__") and name.endswith("__"):
            hint = "names of the form __x__ mean something in Python: choose another name"
            raise Refusal("SB-1213", offset, actual=name, hint=hint)
        if len(name) > _MAX_NAME:
            raise Refusal(
                "SB-1213", offset, limit=f"{_MAX_NAME} characters", actual=f"{len(name)} characters"
            )
        require_plain(name, offset, greek=greek)
        return name


_MAX_NAME = 256
# Greek letters, less those drawn exactly like Latin ones (capitals, omicron).
_GREEK = frozenset("αβγδεζηθικλμνξπρςστυφχψωΓΔΘΛΞΠΣΦΨΩϑϕϵ")


def require_plain(name: str, offset: int, *, greek: bool) -> None:
    """Refuse look-alike letters: a Cyrillic letter in ``cx`` looks right and names another gate."""
    if name.isascii():
        return
    strange = [letter for letter in name if not letter.isascii() and not (greek and letter in _GREEK)]
    if strange:
        hint = "use ASCII letters; parameters may also have Greek ones"
        raise Refusal("SB-1213", offset, actual=f"{name} (U+{ord(strange[0]):04X})", hint=hint)
