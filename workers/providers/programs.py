"""From a request to what a provider is handed, and from its counts to a result. Compiles; no I/O.

A job is one submission whatever it asks for: every measurement basis is a program of it, every row of
bindings runs with every program, shots in increments are runs of the same. Parameters have names of their own
on the wire, so that no name of a user's can mean something else there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from shotbus.broker.lru import Lru
from shotbus.schemas.errors import fail
from shotbus.schemas.openqasm import inspect
from shotbus.schemas.packed import Array
from shotbus.schemas.pub import Estimates, PauliSums, pack_counts, pack_estimates
from shotbus.workers.adapters.aer_compile import Compiler
from shotbus.workers.adapters.aer_estimate import check_size
from shotbus.workers.adapters.aer_jobs import GroupKey, check_names, key_of, part_of
from shotbus.workers.adapters.aer_run import refusals
from shotbus.workers.adapters.aer_transpiled import Transpiled
from shotbus.workers.adapters.base import Batch, BatchItem, check_payload
from shotbus.workers.adapters.bases import Basis, constants_of, group, moments
from shotbus.workers.adapters.entries import Entries, read_entries
from shotbus.workers.adapters.grouped import program_of
from shotbus.workers.compiled.cache import Origin
from shotbus.workers.providers.base import Calibrated, Expected

_WIDEST = 100_000
_KEPT = 64


class RemoteCompiler(Compiler):
    """Compiles for a device that is somewhere else: how wide a circuit may be is the device's to say."""

    methods: Mapping[str, int] = {"automatic": _WIDEST}


class Written(NamedTuple):
    """A circuit as the device takes it.

    ``circuits`` are on the device's own qubits, one a program, whose outcomes have ``bits`` bits; ``texts``
    are the same in OpenQASM 3.
    ``bases`` and ``observables`` are there for estimates, of which the lower ``shift`` bits are the
    circuit's own. ``parameters`` are its names, in the order of the wire.
    """

    circuits: tuple[Any, ...]
    texts: tuple[str, ...]
    bits: tuple[int, ...]
    registers: tuple[tuple[str, int], ...]
    parameters: tuple[str, ...]
    facts: Mapping[str, Any]
    observables: PauliSums | None = None
    bases: tuple[Basis, ...] = ()
    shift: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """A job as it is handed in: ``body`` are the submission's bytes.

    ``angles``, rows x parameters, are in the order of :attr:`wire_names`; ``calibration_id`` is what it was
    compiled for.
    """

    body: bytes
    compiled: Written
    angles: Array
    shots: tuple[int, ...]
    facts: Mapping[str, Any]
    calibration_id: str = ""

    @property
    def rows(self) -> int:
        """Number of points."""
        return int(self.angles.shape[0])

    @property
    def wire_names(self) -> list[str]:
        """What the parameters are called at the provider."""
        return _wire_names(self.angles)

    @property
    def digest(self) -> str:
        """The submission's SHA-256, under which a provider can say what it was handed."""
        return hashlib.sha256(self.body).hexdigest()

    @property
    def expected(self) -> Expected:
        """What the result has to hold."""
        return Expected(self.compiled.bits, self.rows, self.shots)

    @property
    def all_shots(self) -> int:
        """Shots over all programs and rows."""
        return len(self.compiled.texts) * self.rows * sum(self.shots)

    def payload(self, outcomes: Sequence[Entries]) -> bytes:
        """Return the packed result. Raises ShotbusError (SB-1113)."""
        if self.compiled.observables is None:
            return check_payload(pack_counts(outcomes[0].with_registers(self.compiled.registers)))
        estimates = _estimated(self.compiled, self.compiled.observables, outcomes, self.rows)
        return check_payload(pack_estimates(estimates, {"bases": len(self.compiled.bases)}))


class Programs:
    """Makes orders; keeps the last few circuits as they were written out.

    Args:
        compiler: what circuits are compiled with, for providers that do not take everything Qiskit has.

    """

    def __init__(self, compiler: RemoteCompiler | None = None) -> None:
        self.compiler = compiler or RemoteCompiler()
        self._kept: Lru[tuple[GroupKey, str], Written] = Lru(_KEPT)

    def order(self, batch: Batch, item: BatchItem, calibration: Calibrated) -> Order:
        """Return what to hand in for a job. Raises ShotbusError for a job that this pool cannot take."""
        key, part = _key(item), part_of(0, item)
        compiled, origin = self.compile(batch, key, calibration)
        check_names(part, frozenset(compiled.parameters))
        if compiled.observables is not None:
            check_size(part.points, compiled.observables.count)
        angles = part.bindings.matrix[:, [part.bindings.names.index(name) for name in compiled.parameters]]
        body = _body(item.token, compiled, angles, key.increments)
        facts = {**key.as_dict(), **compiled.facts, "programs": len(compiled.texts), "compiled": origin}
        return Order(body, compiled, angles, key.increments, facts, calibration.calibration_id)

    def compile(self, batch: Batch, key: GroupKey, calibration: Calibrated) -> tuple[Written, Origin]:
        """Return a circuit written out for a calibration, and where it came from. Raises ShotbusError."""
        place = (key._replace(increments=(), anew=False), calibration.calibration_id)
        known = None if key.anew else self._kept.get(place)
        if known is not None:
            return known, "memory"
        self.compiler.imitate(calibration)
        return self._kept.put(place, self._compile(batch, key)), self.compiler.origin

    def key(self, item: BatchItem) -> GroupKey:
        """Return what a job is compiled by. Raises ShotbusError."""
        return _key(item)

    def _compile(self, batch: Batch, key: GroupKey) -> Written:
        parsed, body, observables, *_ = program_of(self.compiler, batch, key)
        names = tuple(sorted(parsed.parameters))
        written = _sampled(body, names) if observables is None else _in_bases(body, observables, names)
        # It goes with what was written out, since that is kept by calibration too.
        return written._replace(facts={**body.facts, **self.compiler.told(body)})


def _key(item: BatchItem) -> GroupKey:
    key = key_of(item)
    if key.shots == 0:
        hint = "give shots, or name a pool of simulators"
        raise fail("SB-1110", "$.mode", limit="sampled estimates", actual="exact values", hint=hint)
    # How a simulator would compute it means nothing to a device.
    return key._replace(options=replace(key.options, method="automatic"))


def _sampled(body: Transpiled, names: tuple[str, ...]) -> Written:
    circuits, bits = (_flat(body.circuit, names),), (int(body.circuit.num_clbits),)
    return Written(circuits, _texts(circuits, names), bits, body.registers, names, body.facts)


def _in_bases(body: Transpiled, observables: PauliSums, names: tuple[str, ...]) -> Written:
    bases = tuple(group(observables))
    circuits = tuple(_flat(body.in_basis(basis), names) for basis in bases)
    return Written(
        circuits,
        _texts(circuits, names),
        tuple(int(circuit.num_clbits) for circuit in circuits),
        body.registers,
        names,
        body.facts,
        observables,
        bases,
        int(body.circuit.num_clbits),
    )


def _texts(circuits: Sequence[Any], names: tuple[str, ...]) -> tuple[str, ...]:
    """Write circuits down. Raises ShotbusError (SB-1220)."""
    from qiskit import qasm3

    with refusals():
        texts = tuple(str(qasm3.dumps(circuit)) for circuit in circuits)
    known = {_wire_name(k) for k in range(len(names))}
    for text in texts:
        if set(inspect(text).parameters) - known:
            raise fail("SB-1220", "$.circuit", detail="its parameters cannot be written down")
    return texts


def _flat(circuit: Any, names: tuple[str, ...]) -> Any:
    """Return a circuit on the device's qubits: one register of qubits, one of bits, our own names."""
    from qiskit import QuantumCircuit
    from qiskit.circuit import Parameter

    places = {name: number for number, name in enumerate(names)}
    with refusals():
        flat = QuantumCircuit(circuit.num_qubits, circuit.num_clbits)
        flat.compose(circuit, qubits=flat.qubits, clbits=flat.clbits, inplace=True)
        renamed = {one: Parameter(_wire_name(places[one.name])) for one in flat.parameters}
        return flat.assign_parameters(renamed)


def _wire_name(number: int) -> str:
    return f"angle_{number}"


def _wire_names(angles: Array) -> list[str]:
    return [_wire_name(number) for number in range(angles.shape[1])]


def _body(token: str, compiled: Written, angles: Array, shots: tuple[int, ...]) -> bytes:
    document = {
        "token": token,
        "programs": compiled.texts,
        "parameters": _wire_names(angles),
        "bindings": angles.tolist(),
        "shots": shots,
    }
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def _estimated(
    compiled: Written, observables: PauliSums, outcomes: Sequence[Entries], rows: int
) -> Estimates:
    evs = np.tile(constants_of(observables), (rows, 1))
    squares = np.zeros_like(evs)
    for basis, entries in zip(compiled.bases, outcomes, strict=True):
        mean, square = moments(observables, basis, _dropped(entries, compiled, basis))
        evs, squares = evs + mean, squares + square
    return Estimates(evs, np.sqrt(squares))


def _dropped(entries: Entries, compiled: Written, basis: Basis) -> Entries:
    """Return outcomes without the circuit's own bits, those of the basis alone."""
    if not compiled.shift:
        return entries
    tables = [_table(entries, row) for row in range(entries.indptr.size - 1)]
    return read_entries(tables, int(basis.measured.size), shift=compiled.shift)


def _table(entries: Entries, row: int) -> dict[str, int]:
    start, stop = int(entries.indptr[row]), int(entries.indptr[row + 1])
    outcomes: Array = entries.outcomes
    return {
        hex(int.from_bytes(bytes(outcomes[k]), "little")): int(entries.counts[k]) for k in range(start, stop)
    }
