"""Matrices of gates for many points at once, as trees that are put together once a circuit. Pure numpy.

A matrix is points x d x d, with one point where it is the same at all. Bit k of an index is the k-th of its
qubits. Trees fold at once whatever does not vary, so that only what depends on a point is computed for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np

from shotbus.schemas.packed import Array
from shotbus.workers.adapters.gate_angles import Angle, Columns

_X: Array = np.array([[0, 1], [1, 0]], dtype=complex)
_Y: Array = np.array([[0, -1j], [1j, 0]])
_Z: Array = np.diag([1.0 + 0j, -1.0])
_ONE: Array = np.eye(2, dtype=complex)
#: exp(-i angle/2 P), by gate.
_ROTATIONS: Mapping[str, Array] = {
    "rx": _X,
    "ry": _Y,
    "rz": _Z,
    "rxx": np.kron(_X, _X),
    "ryy": np.kron(_Y, _Y),
    "rzz": np.kron(_Z, _Z),
}
#: exp(i angle n), n a 0 or 1 for every index.
_PHASES: Mapping[str, Array] = {"p": np.array([0.0, 1.0]), "cp": np.array([0.0, 0.0, 0.0, 1.0])}
#: The lowest qubit is the control, as Qiskit has it.
_CONTROLLED: Mapping[str, str] = {"crx": "rx", "cry": "ry", "crz": "rz"}


class Values:
    """What a run's angles come to, each computed once."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._known: dict[Any, tuple[Array, Array]] = {}

    def turn(self, angle: Angle) -> tuple[Array, Array]:
        """Return cosine and sine at every point. Raises ShotbusError (SB-1220)."""
        # By identity where it cannot be hashed by value: Qiskit's expressions can, and compare slowly.
        key = angle if angle.expression is None else (id(angle.expression), angle.scale)
        found = self._known.get(key)
        if found is None:
            values = angle.values(self._columns)
            found = self._known[key] = (np.cos(values), np.sin(values))
        return found


class Moves(NamedTuple):
    """Where basis states go, and what multiplies their amplitudes; ones if that depends on the point."""

    targets: Array
    factors: Array


class Node(ABC):
    """A matrix; ``fixed`` is its value if that is the same at all points (d x d)."""

    fixed: Array | None = None

    @abstractmethod
    def value(self, values: Values) -> Array:
        """Return points x d x d, or 1 x d x d. Raises ShotbusError (SB-1220)."""


@dataclass
class Fixed(Node):
    """A matrix that is the same at all points."""

    matrix: Array

    def __post_init__(self) -> None:
        self.fixed = self.matrix

    @cached_property
    def moves(self) -> Moves | None:
        """Where each basis state goes and with which factor; None if one goes to several."""
        if (np.count_nonzero(self.matrix, axis=0) != 1).any():
            return None
        targets = np.argmax(self.matrix != 0, axis=0)
        return Moves(targets, self.matrix[targets, np.arange(len(self.matrix))])

    def widened(self, places: Sequence[int], qubits: int) -> Fixed:
        """Return it on more qubits, see :func:`_widened`."""
        return Fixed(_widened(self.matrix, places, qubits))

    def value(self, values: Values) -> Array:
        del values
        return self.matrix[None]


@dataclass
class Turn(Node):
    """``still`` + cos(angle) ``cosine`` + sin(angle) ``sine``."""

    angle: Angle
    still: Array
    cosine: Array
    sine: Array

    @cached_property
    def moves(self) -> Moves | None:
        """Every basis state stays where it is, if nothing is off the diagonal."""
        parts = (self.still, self.cosine, self.sine)
        diagonal = all(np.array_equal(one, np.diag(np.diag(one))) for one in parts)
        size = len(self.still)
        return Moves(np.arange(size), np.ones(size)) if diagonal else None

    def widened(self, places: Sequence[int], qubits: int) -> Turn:
        """Return it on more qubits, see :func:`_widened`."""
        parts = (_widened(one, places, qubits) for one in (self.still, self.cosine, self.sine))
        return Turn(self.angle, *parts)

    def value(self, values: Values) -> Array:
        cos, sin = values.turn(self.angle)
        found: Array = self.still + cos[:, None, None] * self.cosine + sin[:, None, None] * self.sine
        return found

    def phases(self, values: Values) -> Array:
        """Return a diagonal turn's diagonal, points x d."""
        cos, sin = values.turn(self.angle)
        still, cosine, sine = self._diagonals
        found: Array = still + cos[:, None] * cosine + sin[:, None] * sine
        return found

    @cached_property
    def _diagonals(self) -> tuple[Array, Array, Array]:
        return np.diag(self.still), np.diag(self.cosine), np.diag(self.sine)


@dataclass
class Product(Node):
    """``later`` after ``earlier``."""

    later: Node
    earlier: Node

    def value(self, values: Values) -> Array:
        if isinstance(self.later, Turn) and self.later.moves:
            found: Array = self.later.phases(values)[:, :, None] * self.earlier.value(values)
            return found
        return cast("Array", np.matmul(self.later.value(values), self.earlier.value(values)))


@dataclass
class Kron(Node):
    """``high`` on the upper bits of an index, ``low`` on the lower."""

    high: Node
    low: Node

    def value(self, values: Values) -> Array:
        return _kron(self.high.value(values), self.low.value(values))


def _kron(high: Array, low: Array) -> Array:
    size = high.shape[1] * low.shape[1]
    return (high[:, :, None, :, None] * low[:, None, :, None, :]).reshape(-1, size, size)


def product(later: Node, earlier: Node | None) -> Node:
    """Return ``later`` after ``earlier``, computed now if it can be."""
    if earlier is None:
        return later
    if later.fixed is not None and earlier.fixed is not None:
        return Fixed(later.fixed @ earlier.fixed)
    if later.fixed is not None and isinstance(earlier, Product) and earlier.later.fixed is not None:
        return Product(Fixed(later.fixed @ earlier.later.fixed), earlier.earlier)
    return Product(later, earlier)


def kron(high: Node, low: Node) -> Node:
    """Return both side by side, computed now if it can be."""
    if high.fixed is not None and low.fixed is not None:
        return Fixed(np.kron(high.fixed, low.fixed))
    return Kron(high, low)


def turn(name: str, angle: Angle) -> Turn:
    """Return the matrix of a gate of one angle."""
    if name in _PHASES:
        ones = _PHASES[name]
        return Turn(angle, np.diag(1 - ones + 0j), np.diag(ones + 0j), np.diag(1j * ones))
    if name in _CONTROLLED:
        inner = turn(_CONTROLLED[name], angle)
        on = np.diag([0, 1 + 0j])
        still = np.kron(_ONE, np.diag([1 + 0j, 0]))
        return Turn(inner.angle, still, np.kron(inner.cosine, on), np.kron(inner.sine, on))
    generator = _ROTATIONS[name]
    nothing = np.zeros_like(generator)
    return Turn(angle.times(0.5), nothing, np.eye(len(generator), dtype=complex), -1j * generator)


def _widened(matrix: Array, places: Sequence[int], qubits: int) -> Array:
    """Return a matrix on so many qubits, bit k of whose index becomes bit ``places[k]``."""
    full = np.arange(1 << qubits)
    small = np.array([(full >> place & 1) << bit for bit, place in enumerate(places)]).sum(axis=0)
    others = full & ~sum(1 << place for place in places)
    return np.where(others[:, None] == others[None, :], matrix[np.ix_(small, small)], 0)
