"""The classical adapter: answers a job's problem statement exactly, with numpy and SciPy. CPU only.

``hamiltonian``: the lowest eigenvalue, dense for small operators, by Lanczos above. ``ising``: the lowest
energy over all spin states. The payload is that one value, a row a point (points x 1), with a standard
error of zero: a job that a simulator could run at many angles has the same shape from here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

from shotbus.broker.stages import Timings
from shotbus.schemas.errors import ShotbusError, fail
from shotbus.schemas.packed import Array, unpack
from shotbus.schemas.pub import Estimates, PauliSums, pack_estimates, unpack_observables
from shotbus.workers.adapters.base import (
    MAX_PAYLOAD_BYTES,
    AdapterCapabilities,
    Batch,
    BatchItem,
    ItemResult,
    error_class_of,
    failed,
    internal,
    too_large,
)
from shotbus.workers.adapters.options import take_none
from shotbus.workers.entering import entering

MAX_SPINS = 22
MAX_QUBITS = 20
#: numpy's dense solver takes 0.02 s at 8 qubits and half a minute at 12, Lanczos well under a second.
_DENSE_QUBITS = 8
#: Bound of the sparse matrix: entries of 16 bytes (24 with their indices).
_MAX_NONZEROS = 1 << 25
_VERSION = 1

_CAPABILITIES = AdapterCapabilities(
    pool="classical",
    kind="classical",
    modes=("estimate",),
    max_qubits=MAX_QUBITS,
    inline=False,
    paid=False,
    executed_on="classical",
)


class ClassicalAdapter:
    """Solves problem statements, one after the other."""

    @property
    def capabilities(self) -> AdapterCapabilities:
        return _CAPABILITIES

    def run(self, batch: Batch) -> list[ItemResult]:
        return [_answer(item) for item in batch.items]

    def provenance(self, batch: Batch) -> dict[str, Any]:
        del batch
        return {
            "backend": _CAPABILITIES.executed_on,
            "backend_version": version("shotbus"),
            "versions": {name: version(name) for name in ("numpy", "scipy")},
        }


def create(options: Mapping[str, str]) -> ClassicalAdapter:
    """Return the adapter. Raises ShotbusError (SB-2001): it has no options."""
    take_none(options)
    return ClassicalAdapter()


def _answer(item: BatchItem) -> ItemResult:
    timings = Timings()
    entering("execute")
    begun = time.perf_counter()
    try:
        value, method = _solve(item.request["problem"])
    except ShotbusError as error:
        return failed(error, timings)
    except MemoryError:
        return failed(fail("SB-1110", "$.problem", limit="memory of a worker process"), timings)
    except Exception as error:  # noqa: BLE001 (a defect of ours fails this job, not its neighbours)
        return internal(error)
    timings.add("execute", time.perf_counter() - begun, bytes_in=len(item.request["problem"]["payload"]))
    rows = (int(item.request["points"]), 1)
    payload = pack_estimates(Estimates(np.full(rows, value), np.zeros(rows)), {"method": method})
    if len(payload) > MAX_PAYLOAD_BYTES:
        return failed(too_large(len(payload)), timings)
    timings.add("decode", 0.0, bytes_out=len(payload))
    return ItemResult(payload=payload, timings=timings)


def _solve(problem: Mapping[str, Any] | None) -> tuple[float, str]:
    """Return the answer and how it was found. Raises ShotbusError (SB-1110, SB-1403, SB-1404)."""
    if problem is None:
        raise fail("SB-1110", "$.problem", detail="no problem statement", hint="send the job to a simulator")
    solver = _SOLVERS.get(problem["kind"])
    if solver is None or problem["version"] != _VERSION:
        known = ", ".join(f"{kind} {_VERSION}" for kind in _SOLVERS)
        raise fail("SB-1404", "$.problem", limit=known, actual=f"{problem['kind']} {problem['version']}")
    try:
        return solver(problem["payload"])
    except ShotbusError as error:
        if error_class_of(error.problems) == "CONSTRAINT":
            raise
        raise fail("SB-1403", "$.problem.payload", detail=error.problems[0].detail) from error


def _hamiltonian(payload: bytes) -> tuple[float, str]:
    operator = unpack_observables(payload)
    if operator.count != 1:
        raise fail("SB-1403", "$.problem.payload", limit="1 observable", actual=operator.count)
    if operator.qubits > MAX_QUBITS:
        raise fail("SB-1110", "$.problem", limit=f"{MAX_QUBITS} qubits", actual=operator.qubits)
    return lowest_eigenvalue(operator)


def lowest_eigenvalue(operator: PauliSums) -> tuple[float, str]:
    """Return the lowest eigenvalue of the one observable, and the method's name.

    Raises ShotbusError (SB-1110) when the sparse matrix would be too large.
    """
    diagonals = _by_flip(operator)
    if set(diagonals) <= {0}:
        return float(diagonals.get(0, np.zeros(1)).real.min()), "diagonal"
    matrix = _sparse(operator.qubits, diagonals)
    if operator.qubits <= _DENSE_QUBITS:
        return float(np.linalg.eigvalsh(matrix.toarray())[0]), "dense"
    from scipy.sparse.linalg import eigsh  # type: ignore[import-untyped]  # SciPy ships no stubs

    # ARPACK's own start vector is random; a fixed one makes the answer repeat to the last bit.
    start = np.random.Generator(np.random.Philox(0)).standard_normal(2**operator.qubits)
    values = eigsh(matrix, k=1, which="SA", v0=start, return_eigenvectors=False)
    return float(values[0]), "lanczos"


def _by_flip(operator: PauliSums) -> dict[int, Array]:
    """Return the operator as a sum over flips x of |k xor x> d_x(k) <k|: the vector d_x for every x."""
    size = 1 << operator.qubits
    powers = 1 << np.arange(operator.qubits, dtype=np.int64)
    flips = ((operator.paulis == 1) | (operator.paulis == 2)) @ powers
    if np.unique(flips).size * size > _MAX_NONZEROS:
        entries = np.unique(flips).size * size
        raise fail("SB-1110", "$.problem", limit=f"{_MAX_NONZEROS} matrix entries", actual=entries)
    phases = ((operator.paulis == 2) | (operator.paulis == 3)) @ powers
    turns = np.count_nonzero(operator.paulis == 2, axis=1)
    states = np.arange(size, dtype=np.int64)
    diagonals: dict[int, Array] = {}
    for flip, phase, turn, weight in zip(flips.tolist(), phases, turns, operator.coefficients, strict=True):
        signs = 1.0 - 2.0 * (np.bitwise_count(states & phase) & 1)
        diagonal = diagonals.setdefault(flip, np.zeros(size, dtype=np.complex128))
        diagonal += weight * 1j ** int(turn) * signs
    return diagonals


def _sparse(qubits: int, diagonals: Mapping[int, Array]) -> Any:
    from scipy.sparse import csr_array  # type: ignore[import-untyped]  # SciPy ships no stubs

    states = np.arange(1 << qubits, dtype=np.int32)
    values = np.concatenate(list(diagonals.values()))
    rows = np.concatenate([states ^ flip for flip in diagonals])
    columns = np.tile(states, len(diagonals))
    # Terms with an even number of Y are real, and real arithmetic is four times cheaper.
    kept = values if values.imag.any() else values.real
    return csr_array((kept, (rows, columns)), shape=(states.size, states.size))


def _ising(payload: bytes) -> tuple[float, str]:
    arrays, _ = unpack(payload)
    if not {"h", "edges", "couplings"} <= arrays.keys():
        raise fail("SB-1403", "$.problem.payload", limit="h, edges, couplings", detail="an array is missing")
    h, edges, couplings = arrays["h"], arrays["edges"], arrays["couplings"]
    if not _fits(h, edges, couplings):
        raise fail("SB-1403", "$.problem.payload", detail="arrays do not fit together")
    if h.size > MAX_SPINS:
        raise fail("SB-1110", "$.problem", limit=f"{MAX_SPINS} spins", actual=h.size)
    return lowest_energy(h, edges, couplings), "enumeration"


def _fits(h: Array, edges: Array, couplings: Array) -> bool:
    return bool(
        h.ndim == couplings.ndim == 1
        and h.size > 0
        and edges.shape == (couplings.size, 2)
        and np.issubdtype(edges.dtype, np.integer)
        and ((edges >= 0) & (edges < h.size)).all()
        and (edges[:, 0] != edges[:, 1]).all()
        and np.isfinite(h).all()
        and np.isfinite(couplings).all()
    )


def lowest_energy(h: Array, edges: Array, couplings: Array) -> float:
    """Return the lowest energy of sum h_i s_i + sum J_ij s_i s_j over all spins of +1 and -1.

    Spins are added one at a time: with the energies and the new spin's field over all states so far, both
    of its values follow by one addition. The whole enumeration is a few passes over 2**n numbers.
    """
    matrix = np.zeros((h.size, h.size))
    np.add.at(matrix, (edges.max(axis=1, initial=0), edges.min(axis=1, initial=h.size)), couplings)
    energies = np.zeros(1)
    for spin in range(h.size):
        field = np.full(1, h[spin])
        for other in range(spin):
            field = np.concatenate([field + matrix[spin, other], field - matrix[spin, other]])
        energies = np.concatenate([energies + field, energies - field])
    return float(energies.min())


_SOLVERS: Mapping[str, Callable[[bytes], tuple[float, str]]] = {
    "hamiltonian": _hamiltonian,
    "ising": _ising,
}
