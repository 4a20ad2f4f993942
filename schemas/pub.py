"""What is inside the opaque bytes of requests and results: bindings, observables, outcomes. Pure.

Points are rows. Bit ``i`` of an outcome is classical bit ``i`` (Qiskit's little-endian order), and
column ``i`` of a Pauli matrix acts on qubit ``i``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shotbus.schemas.errors import Problem, ShotbusError, fail
from shotbus.schemas.packed import Array, pack, unpack

MAX_POINTS = 1_000_000
MAX_VALUES = 8 * MAX_POINTS
PAULIS = "IXYZ"
_PAULI_TYPES = ("|u1", "<f8", "<i4")


@dataclass(frozen=True, slots=True)
class Bindings:
    """Parameter values: ``matrix`` is rows x parameters, float64, columns in the order of ``names``."""

    names: tuple[str, ...]
    matrix: Array

    @property
    def points(self) -> int:
        """Number of rows."""
        return int(self.matrix.shape[0])

    def rows(self, start: int, stop: int) -> Bindings:
        """Return rows ``start`` to ``stop`` (exclusive)."""
        return Bindings(self.names, self.matrix[start:stop])


EMPTY_BINDINGS = Bindings((), np.zeros((1, 0)))


def pack_bindings(bindings: Bindings) -> bytes:
    """Return the smaller of the full form and the delta form; empty bytes for no parameters.

    The delta form holds one base row and only the columns that change, so a sweep of 2 of 48
    parameters sends 2 columns.
    """
    matrix = np.ascontiguousarray(bindings.matrix, dtype="<f8")
    if not bindings.names:
        return b""
    meta = {"names": list(bindings.names)}
    changed = np.flatnonzero((matrix != matrix[0]).any(axis=0))
    if matrix.shape[0] > 1 and changed.size < matrix.shape[1]:
        values = matrix[:, changed]
        arrays = {"base": matrix[0], "columns": changed.astype("<i4"), "values": values}
        return pack(arrays, meta)
    return pack({"matrix": matrix}, meta)


def unpack_bindings(data: bytes, *, points: int) -> Bindings:
    """Return the full matrix. Raises ShotbusError: SB-1004, SB-1303 (NaN, infinity), SB-1304, SB-1305."""
    if points < 1 or points > MAX_POINTS:
        raise fail("SB-1305", "$.points", limit=f"1 to {MAX_POINTS}", actual=points)
    if not data:
        return Bindings((), np.zeros((points, 0)))
    arrays, meta = unpack(data)
    names = meta.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise fail("SB-1304", "$.bindings.names", detail="names of the columns are missing")
    try:
        matrix = arrays["matrix"] if "matrix" in arrays else _from_delta(arrays)
    except (KeyError, IndexError, ValueError) as error:
        raise fail("SB-1304", "$.bindings", detail=f"neither full nor delta: {error}") from error
    if matrix.shape != (points, len(names)) or matrix.dtype != np.dtype("<f8"):
        actual = f"{matrix.shape} of {matrix.dtype.str}"
        raise fail("SB-1304", "$.bindings", limit=f"{points} x {len(names)} of <f8", actual=actual)
    problems = check_finite(matrix)
    if problems:
        raise ShotbusError(problems)
    return Bindings(tuple(names), matrix)


def _from_delta(arrays: Mapping[str, Array]) -> Array:
    base, columns, values = arrays["base"], arrays["columns"], arrays["values"]
    if base.ndim != 1 or values.ndim != 2 or columns.shape != values.shape[1:]:
        raise ValueError("delta arrays do not fit together")
    if base.dtype != values.dtype or columns.dtype.kind not in "iu":
        raise ValueError("delta arrays have the wrong types")
    if base.size * values.shape[0] > MAX_VALUES:
        raise ValueError("delta expands to too many values")
    if columns.size and (columns.min() < 0 or len(set(columns.tolist())) != columns.size):
        raise ValueError("delta columns repeat or are negative")
    matrix = np.repeat(base[None, :], values.shape[0], axis=0)
    matrix[:, columns] = values
    return matrix


def check_finite(matrix: Array) -> list[Problem]:
    """Name the first few values that are not finite numbers."""
    places = np.argwhere(~np.isfinite(matrix))
    return [
        Problem(
            "SB-1303",
            f"$.bindings[{row}][{column}]",
            limit="a finite number",
            actual=str(matrix[row, column]),
            hint="drop the point or repair the value before submitting",
        )
        for row, column in places[:5].tolist()
    ]


@dataclass(frozen=True, slots=True)
class PauliSums:
    """Observables: each a real-weighted sum of Pauli strings.

    ``paulis`` is terms x qubits with 0=I 1=X 2=Y 3=Z (uint8), ``coefficients`` one weight a term, and
    terms ``indptr[k]`` to ``indptr[k+1]`` belong to observable k.
    """

    paulis: Array
    coefficients: Array
    indptr: Array

    @property
    def count(self) -> int:
        """Number of observables."""
        return int(self.indptr.size - 1)

    @property
    def qubits(self) -> int:
        """Number of qubits."""
        return int(self.paulis.shape[1])

    def terms(self, observable: int) -> list[tuple[str, float]]:
        """Return an observable as Qiskit-style labels (qubit 0 is the rightmost letter) and weights."""
        span = range(int(self.indptr[observable]), int(self.indptr[observable + 1]))
        return [("".join(PAULIS[p] for p in self.paulis[k][::-1]), float(self.coefficients[k])) for k in span]

    @classmethod
    def from_terms(cls, observables: Sequence[Sequence[tuple[str, float]]]) -> PauliSums:
        """Build from Qiskit-style labels. Raises ShotbusError (SB-1401) with every malformed term."""
        problems: list[Problem] = []
        width = len(observables[0][0][0]) if observables and observables[0] else 0
        rows, weights, indptr = [], [], [0]
        for number, terms in enumerate(observables):
            for label, weight in terms:
                problems += _check_term(number, label, weight, width)
                rows.append([PAULIS.find(letter) for letter in reversed(label)])
                weights.append(weight)
            indptr.append(len(rows))
        if not rows:
            problems.append(Problem("SB-1401", "$.observables", detail="no term at all"))
        if problems:
            raise ShotbusError(problems)
        return cls(np.array(rows, dtype="|u1"), np.array(weights, dtype="<f8"), np.array(indptr, dtype="<i4"))


def _check_term(number: int, label: str, weight: float, width: int) -> list[Problem]:
    path = f"$.observables[{number}]"
    if not label or not isinstance(label, str) or set(label) - set(PAULIS) or len(label) != width:
        return [Problem("SB-1401", path, limit=f"{width} letters of {PAULIS}", actual=str(label))]
    if isinstance(weight, complex) or not np.isfinite(weight):
        return [Problem("SB-1401", path, limit="a finite real weight", actual=str(weight))]
    return []


def pack_observables(observables: PauliSums) -> bytes:
    """Return the wire form."""
    return pack(_observable_arrays(observables))


def _observable_arrays(observables: PauliSums) -> dict[str, Array]:
    return {
        "paulis": observables.paulis,
        "coefficients": observables.coefficients,
        "indptr": observables.indptr,
    }


def unpack_observables(data: bytes) -> PauliSums:
    """Read the wire form. Raises ShotbusError (SB-1004, SB-1401)."""
    arrays, _ = unpack(data)
    try:
        sums = PauliSums(arrays["paulis"], arrays["coefficients"], arrays["indptr"])
    except KeyError as error:
        raise fail("SB-1401", "$.observables", detail=f"array {error} is missing") from error
    if not _consistent(sums):
        raise fail("SB-1401", "$.observables", detail="arrays do not fit together")
    return sums


def _consistent(sums: PauliSums) -> bool:
    terms = sums.coefficients.size
    return bool(
        (sums.paulis.dtype.str, sums.coefficients.dtype.str, sums.indptr.dtype.str) == _PAULI_TYPES
        and sums.paulis.ndim == 2
        and sums.coefficients.ndim == sums.indptr.ndim == 1
        and sums.paulis.shape[0] == terms > 0
        and sums.indptr.size >= 2
        and sums.indptr[0] == 0
        and sums.indptr[-1] == terms
        and (np.diff(sums.indptr) >= 0).all()
        and (sums.paulis <= 3).all()
        and np.isfinite(sums.coefficients).all()
    )


@dataclass(frozen=True, slots=True)
class Counts:
    """Sampled outcomes of all points.

    Row ``r`` has entries ``indptr[r]`` to ``indptr[r+1]``: ``outcomes`` (entries x bytes, uint8, bit i of
    the little-endian number is classical bit i) and ``counts``. ``registers`` are (name, width) from
    classical bit 0 up.
    """

    registers: tuple[tuple[str, int], ...]
    indptr: Array
    outcomes: Array
    counts: Array

    @property
    def points(self) -> int:
        """Number of rows."""
        return int(self.indptr.size - 1)

    @property
    def least_shots(self) -> int:
        """Shots of the point that has the fewest; 0 without points."""
        ends = np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])[self.indptr]
        return int(np.diff(ends).min(initial=np.iinfo(np.int64).max)) if self.points else 0

    def row(self, row: int) -> dict[str, int]:
        """Return one point's counts as Qiskit writes them: last register first, separated by a space."""
        start, stop = int(self.indptr[row]), int(self.indptr[row + 1])
        return {self._label(bytes(self.outcomes[k])): int(self.counts[k]) for k in range(start, stop)}

    def _label(self, outcome: bytes) -> str:
        bits = bin(int.from_bytes(outcome, "little") | 1 << 8 * len(outcome))[3:]
        parts, low = [], 0
        for _, width in self.registers:
            parts.append(bits[len(bits) - low - width : len(bits) - low])
            low += width
        return " ".join(reversed(parts))


def merge_counts(one: Counts, other: Counts) -> Counts:
    """Add the counts of two runs of the same points, outcomes in ascending order within a point.

    Raises ShotbusError (SB-1004) when their points or registers differ.
    """
    if (one.registers, one.points) != (other.registers, other.points):
        raise fail("SB-1004", "$.payload", detail="counts of different points or registers do not add up")
    rows = [np.repeat(np.arange(part.points), np.diff(part.indptr)) for part in (one, other)]
    # Whole entries as numbers written out, the highest byte first: sorting them sorts points, then outcomes.
    places = np.concatenate(rows).astype(">u4").view(np.uint8).reshape(-1, 4)
    outcomes = np.concatenate([one.outcomes, other.outcomes])[:, ::-1]
    entries, inverse = np.unique(np.hstack([places, outcomes]), axis=0, return_inverse=True)
    counts = np.zeros(entries.shape[0], dtype="<i4")
    np.add.at(counts, inverse.reshape(-1), np.concatenate([one.counts, other.counts]))
    points = np.ascontiguousarray(entries[:, :4]).view(">u4").reshape(-1)
    indptr = np.searchsorted(points, np.arange(one.points + 1)).astype("<i4")
    return Counts(one.registers, indptr, np.ascontiguousarray(entries[:, :3:-1]), counts)


@dataclass(frozen=True, slots=True)
class Estimates:
    """Expectation values and standard errors, both rows x observables, float64."""

    evs: Array
    stds: Array


def pack_counts(counts: Counts) -> bytes:
    """Return the wire form."""
    arrays = {"indptr": counts.indptr, "outcomes": counts.outcomes, "counts": counts.counts}
    return pack(arrays, {"registers": [list(register) for register in counts.registers]})


def pack_estimates(estimates: Estimates, meta: Mapping[str, Any] | None = None) -> bytes:
    """Return the wire form; ``meta`` holds small facts such as the number of measurement bases."""
    return pack({"evs": estimates.evs, "stds": estimates.stds}, meta)


def unpack_result(data: bytes) -> Counts | Estimates | None:
    """Read a result's payload; None for the empty payload of the noop pool. Raises ShotbusError."""
    if not data:
        return None
    arrays, meta = unpack(data)
    try:
        if "evs" in arrays:
            return Estimates(arrays["evs"], arrays["stds"])
        registers = tuple((str(name), int(width)) for name, width in meta["registers"])
        return Counts(registers, arrays["indptr"], arrays["outcomes"], arrays["counts"])
    except (KeyError, TypeError, ValueError) as error:
        raise fail("SB-1004", "$.payload", detail=f"neither counts nor estimates: {error}") from error


@dataclass(frozen=True, slots=True)
class ProblemStatement:
    """What a circuit encodes, so that a classical solver can answer and judge the same job.

    ``kind`` ``hamiltonian`` (version 1): arrays of :class:`PauliSums` with one observable, whose lowest
    eigenvalue is asked for. ``ising`` (version 1): ``h`` (n), ``edges`` (m x 2), ``couplings`` (m); the
    lowest energy of sum h_i s_i + sum J_ij s_i s_j over spins +1/-1 is asked for.
    """

    kind: str
    version: int
    payload: bytes

    @classmethod
    def hamiltonian(cls, observable: PauliSums) -> ProblemStatement:
        """State "what is the ground state energy of this operator"."""
        return cls("hamiltonian", 1, pack_observables(observable))

    @classmethod
    def ising(cls, h: Array, edges: Array, couplings: Array) -> ProblemStatement:
        """State "what is the lowest energy of this spin glass"."""
        arrays = {
            "h": np.asarray(h, dtype="<f8"),
            "edges": np.asarray(edges, dtype="<i4"),
            "couplings": np.asarray(couplings, dtype="<f8"),
        }
        return cls("ising", 1, pack(arrays))
