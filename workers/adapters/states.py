"""Adapters whose backend gives state vectors: what is sampled and estimated from those. Computes, no I/O.

Whatever is random is drawn here, from streams that follow from a job's seed and a row's number alone, so jobs
share a call whatever their seeds are. What needs more than a state vector is refused when it is compiled.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np

from shotbus.broker.lru import Lru
from shotbus.broker.stages import Timings
from shotbus.schemas.packed import Array
from shotbus.schemas.pub import Estimates, PauliSums, pack_counts, pack_estimates
from shotbus.workers.adapters.aer_jobs import GroupKey, Part, calls_of, merged, share_out, spans
from shotbus.workers.adapters.aer_run import SEED_STRIDE, out_of_memory
from shotbus.workers.adapters.base import MAX_PAYLOAD_BYTES, AdapterCapabilities, Batch, ItemResult
from shotbus.workers.adapters.bases import Basis, X, Y, constants_of, group, moments
from shotbus.workers.adapters.draws import Draw, Outcomes, row_seeds, seeds_of
from shotbus.workers.adapters.entries import Entries, joined
from shotbus.workers.adapters.gate_angles import Columns
from shotbus.workers.adapters.gate_compile import FlatBody, FlatCircuit, Gate, GateCompiler
from shotbus.workers.adapters.grouped import GroupedAdapter, Program
from shotbus.workers.adapters.state_values import exact_values
from shotbus.workers.adapters.vector_plan import Plan, in_standard_order, plan_of
from shotbus.workers.entering import entering

_AMPLITUDE_BYTES = 16
_MOST_ROWS = 4_096
_BASES = 256
#: What turns the eigenvectors of a Pauli into those of Z.
_TURNS: Mapping[int, Array] = {
    X: np.array([[1, 1], [1, -1]]) / np.sqrt(2),
    Y: np.array([[1, -1j], [1, 1j]]) / np.sqrt(2),
}


class Prepared(NamedTuple):
    """A circuit that is ready to run: ``states`` gives points x 2^n amplitudes, one point if nothing varies.

    Place j of a state is basis state ``meaning[j]``, bit k of which is qubit k.
    """

    states: Callable[[Columns], Array]
    meaning: Array


class StateAdapter(GroupedAdapter):
    """Runs batches on a backend that computes state vectors.

    Args:
        capabilities: what it declares; circuits of more qubits are refused.
        packages: whose versions go into the provenance; the last one's is the backend's.
        chunk_bytes: of amplitudes that are computed at once; temporaries come to a few times as much.

    """

    def __init__(self, capabilities: AdapterCapabilities, packages: Sequence[str], chunk_bytes: int) -> None:
        super().__init__(GateCompiler(capabilities.max_qubits))
        self._capabilities, self._packages, self._chunk_bytes = capabilities, packages, chunk_bytes
        self._draw = Draw()

    @property
    def capabilities(self) -> AdapterCapabilities:
        return self._capabilities

    def provenance(self, batch: Batch) -> dict[str, Any]:
        del batch
        return {
            "backend": self.capabilities.executed_on,
            "backend_version": version(self._packages[-1]),
            "method": "statevector",
            "versions": {name: version(name) for name in ("qiskit", "numpy", *self._packages)},
            "seeds": "row i of basis b, call c: Philox keyed by seed + offset(b) + offset(c)"
            f" + {SEED_STRIDE} i modulo 2**64",
            "circuits": self._ran,
        }

    @abstractmethod
    def _prepare(self, circuit: FlatCircuit) -> Prepared:
        """Make a circuit ready to run."""

    def _calls(self, program: Program, key: GroupKey, parts: list[Part]) -> list[list[Part]]:
        del key
        return calls_of(parts, rows=self._rows(program), seeded=False)

    def _rows(self, program: Program) -> int:
        """Return how many rows are computed at once."""
        bytes_a_row = _AMPLITUDE_BYTES << program.parsed.facts.qubits
        return max(1, min(_MOST_ROWS, self._chunk_bytes // bytes_a_row))

    def _compile(self, batch: Batch, key: GroupKey) -> Program:
        program = super()._compile(batch, key)
        body = _flat(program)
        if body.ready is None:
            prepared = self._prepare(body.flat)
            body.ready = Ready(
                prepared, Outcomes.of(prepared.meaning, body.flat.measured, program.outcome_bits)
            )
        return program

    def _run_parts(self, program: Program, key: GroupKey, call: list[Part]) -> dict[int, ItemResult]:
        entering("execute")
        timings, begun = Timings(), time.perf_counter()
        try:
            run = _Run(_flat(program).ready, key.increments, call, self._rows(program), self._draw)
            payloads, bases = _answers(run, program, call)
        except MemoryError:
            raise out_of_memory() from None
        timings.add("execute", time.perf_counter() - begun)
        return share_out(call, payloads, key.shots * bases, timings)


def _flat(program: Program) -> FlatBody:
    assert isinstance(program.body, FlatBody), "its compiler makes no other"
    return program.body


def _answers(run: _Run, program: Program, call: Sequence[Part]) -> tuple[list[bytes], int]:
    """Return the packed answers of a call's jobs, and in how many bases each row was measured."""
    wires, observables = program.body.wires, program.observables
    if observables is None:
        sampled = joined(run.sampled(), MAX_PAYLOAD_BYTES * len(call))
        registers = program.body.registers
        return [pack_counts(sampled.rows(*span).with_registers(registers)) for span in spans(call)], 1
    placed = replace(observables, paulis=np.ascontiguousarray(observables.paulis[:, np.argsort(wires)]))
    bases = [] if program.exact else group(placed)
    evs, stds = run.exact(placed) if program.exact else run.estimated(placed, bases)
    meta = {"bases": len(bases)}
    return [pack_estimates(Estimates(evs[a:b], stds[a:b]), meta) for a, b in spans(call)], len(bases)


class Ready:
    """A prepared circuit with what its outcomes are, here and in measurement bases."""

    def __init__(self, prepared: Prepared, outcomes: Outcomes) -> None:
        self.states, self.meaning = prepared
        self.outcomes = outcomes
        self._bases: Lru[bytes, tuple[Plan, Outcomes]] = Lru(_BASES)

    def in_basis(self, basis: Basis) -> tuple[Plan, Outcomes]:
        """Return what turns a state in standard order into a basis, and what can be measured then."""
        key = basis.paulis.tobytes()
        return self._bases.get(key) or self._bases.put(key, _turned(basis))


def _turned(basis: Basis) -> tuple[Plan, Outcomes]:
    gates = [
        Gate("turn", (qubit,), matrix=_TURNS[pauli])
        for qubit, pauli in enumerate(basis.paulis.tolist())
        if pauli in _TURNS
    ]
    plan = plan_of(FlatCircuit(len(basis.paulis), tuple(gates), ()), given=True)
    measured = list(enumerate(basis.measured.tolist()))
    return plan, Outcomes.of(plan.meaning, measured, len(measured))


@dataclass(frozen=True, slots=True)
class _Run:
    """One call: a circuit's rows, so many at once, with the increments of each row's shots."""

    ready: Ready
    increments: tuple[int, ...]
    call: Sequence[Part]
    rows: int
    draw: Draw

    def sampled(self) -> Iterator[Entries]:
        """Yield the outcomes of rows. Raises ShotbusError (SB-1110, SB-1220)."""
        outcomes = self.ready.outcomes
        for state, seeds in self._states():
            yield outcomes.entries(self._counts(outcomes.probabilities(state), seeds))

    def estimated(self, observables: PauliSums, bases: Sequence[Basis]) -> tuple[Array, Array]:
        """Return values and standard errors, rows x observables. Raises ShotbusError (SB-1110, SB-1220)."""
        found = [self._estimated(state, seeds, observables, bases) for state, seeds in self._standard()]
        return np.concatenate([evs for evs, _ in found]), np.concatenate([stds for _, stds in found])

    def exact(self, observables: PauliSums) -> tuple[Array, Array]:
        """Return exact values, and errors of zero. Raises ShotbusError (SB-1110, SB-1220)."""
        parts = []
        for state, seeds in self._standard():
            values = exact_values(observables, state)
            parts.append(np.broadcast_to(values, (len(seeds), observables.count)))
        evs = np.concatenate(parts)
        return evs, np.zeros_like(evs)

    def _estimated(
        self, state: Array, seeds: Array, observables: PauliSums, bases: Sequence[Basis]
    ) -> tuple[Array, Array]:
        evs = np.tile(constants_of(observables), (len(seeds), 1))
        squares = np.zeros_like(evs)
        for number, basis in enumerate(bases):
            plan, outcomes = self.ready.in_basis(basis)
            weights = outcomes.probabilities(plan.run({}, state))
            sampled = outcomes.entries(self._counts(weights, seeds, number))
            mean, square = moments(observables, basis, sampled)
            evs, squares = evs + mean, squares + square
        return evs, np.sqrt(squares)

    def _counts(self, weights: Array, seeds: Array, basis: int | None = None) -> Array:
        """Return rows x outcomes of counts, of all increments together."""
        total: Array = np.zeros((len(seeds), weights.shape[1]), dtype=np.int64)
        for increment, shots in enumerate(self.increments):
            total += self.draw.counts(weights, seeds_of(seeds, basis, increment), shots)
        return total

    def _standard(self) -> Iterator[tuple[Array, Array]]:
        for state, seeds in self._states():
            yield in_standard_order(state, self.ready.meaning), seeds

    def _states(self) -> Iterator[tuple[Array, Array]]:
        """Yield states and the seeds of their rows, as many at once as were asked for."""
        bindings = merged(self.call)
        seeds = np.concatenate([row_seeds(part.seed, part.points) for part in self.call])
        for start in range(0, bindings.points, self.rows):
            chunk = np.ascontiguousarray(bindings.matrix[start : start + self.rows].T)
            columns = dict(zip(bindings.names, chunk, strict=True))
            yield self.ready.states(columns), seeds[start : start + self.rows]
