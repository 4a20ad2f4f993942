"""The Aer adapter: groups a batch by circuit and options, runs every group as few calls. Computes, no I/O.

Jobs of one group share a call exactly when their seeds continue one another (shards of one sweep, cut by
rows) or do not matter (exact values): Aer derives a row's seed from its place in the call, so merging
any other two jobs would change what they measure. Those get a call each, with the compile step shared.
A pool's options may have it imitate a device or compute on a GPU: see ``aer_sensing``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

from shotbus.broker.clock import SystemClock
from shotbus.broker.stages import Timings
from shotbus.schemas.errors import ShotbusError, fail
from shotbus.schemas.pub import Estimates, PauliSums, pack_counts, pack_estimates, unpack_observables
from shotbus.workers.adapters.aer_compile import METHODS, Compiler, Parsed, Transpiled
from shotbus.workers.adapters.aer_device import AerSettings, read_settings
from shotbus.workers.adapters.aer_estimate import Estimator, check_size
from shotbus.workers.adapters.aer_jobs import (
    GroupKey,
    Part,
    calls_of,
    check_names,
    key_of,
    merged,
    part_of,
    share_out,
    spans,
)
from shotbus.workers.adapters.aer_run import SEED_STRIDE, Rows, rows_a_call
from shotbus.workers.adapters.aer_sample import sample
from shotbus.workers.adapters.base import (
    AdapterCapabilities,
    Batch,
    BatchItem,
    Compiled,
    ItemResult,
    failed,
    internal,
)
from shotbus.workers.compiled.cache import CompileCache
from shotbus.workers.entering import entering

_CAPABILITIES = AdapterCapabilities(
    pool="aer",
    kind="simulator",
    modes=("sample", "estimate"),
    max_qubits=METHODS["automatic"],
    inline=False,
    paid=False,
    executed_on="aer_simulator",
)


class AerAdapter:
    """Runs batches on Aer, in this process.

    Args:
        device: CPU, or a GPU that is there.
        max_shots: the most that a call may take of a row; 0 is no limit.

    """

    def __init__(self, device: str = "CPU", max_shots: int = 0) -> None:
        self._device, self._max_shots = device, max_shots
        self._compiler = Compiler(device)
        self._ran: dict[str, Any] = {}

    @property
    def capabilities(self) -> AdapterCapabilities:
        return _CAPABILITIES

    def run(self, batch: Batch) -> list[ItemResult]:
        self._ran = {}
        results: dict[int, ItemResult] = {}
        groups: dict[GroupKey, list[Part]] = {}
        for index, item in enumerate(batch.items):
            try:
                key, part = key_of(item), part_of(index, item)
            except ShotbusError as error:
                results[index] = failed(error)
            else:
                groups.setdefault(key, []).append(part)
        for key, parts in groups.items():
            results.update(self._run_group(batch, key, parts))
        return [results[index] for index in range(len(batch.items))]

    def provenance(self, batch: Batch) -> dict[str, Any]:
        del batch
        packages = ("qiskit", "qiskit-aer", "numpy")
        return {
            "backend": self.capabilities.executed_on,
            "device": self._device,
            "versions": {name: version(name) for name in packages},
            "seeds": f"row i of basis b, call c: seed + offset(b) + offset(c) + {SEED_STRIDE} i modulo 2**64",
            "circuits": self._ran,
        }

    def compile(self, batch: Batch) -> list[Compiled]:
        return [self._compile_item(batch, item) for item in batch.items]

    def keep_in(self, cache: CompileCache) -> None:
        self._compiler.kept = cache

    def _compile_item(self, batch: Batch, item: BatchItem) -> Compiled:
        begun = time.perf_counter()
        try:
            self._compile(batch, self._adapted(key_of(item)))
        except ShotbusError as error:
            return Compiled(problems=error.problems)
        return Compiled(self._compiler.origin, time.perf_counter() - begun)

    def _run_group(self, batch: Batch, key: GroupKey, parts: list[Part]) -> dict[int, ItemResult]:
        begun = time.perf_counter()
        try:
            key = self._adapted(key)
            program = self._compile(batch, key)
        except ShotbusError as error:
            return {part.index: failed(error) for part in parts}
        except Exception as error:  # noqa: BLE001 (a defect of ours fails this group, not the batch)
            return {part.index: internal(error) for part in parts}
        seconds = time.perf_counter() - begun
        results, good = _checked(program, parts)
        rows = rows_a_call(key.shots, program.outcome_bits)
        for call in calls_of(good, rows=rows, seeded=not program.exact):
            results.update(self._run_call(program, key, call))
        results[parts[0].index].timings.add("compile", seconds, bytes_in=program.text_bytes)
        return results

    def _adapted(self, key: GroupKey) -> GroupKey:
        """Return what applies to a group on this backend. Raises ShotbusError (SB-1108, SB-1110)."""
        if 0 < self._max_shots < key.increments[0]:
            limit, hint = f"{self._max_shots} shots a call", "shots_per_call takes them in increments"
            raise fail("SB-1110", "$.shots", limit=limit, actual=key.increments[0], hint=hint)
        return key._replace(options=self._compiler.options_for(key.options, exact=key.shots == 0))

    def _compile(self, batch: Batch, key: GroupKey) -> _Program:
        record = batch.circuits.get(key.circuit_id)
        if record is None:
            raise fail("SB-1219", "$.circuit_id", actual=key.circuit_id, hint="send the circuit again")
        entering("compile")
        estimated = key.mode == "estimate"
        parsed = self._compiler.parse(key.circuit_id, record, anew=key.anew)
        if not estimated and not parsed.facts.measurements:
            raise fail("SB-1218", "$.circuit", hint="measure something, or ask for observables")
        observables = _observables(key, parsed) if estimated else None
        body = self._compiler.transpile(key.circuit_id, parsed, key.options, bare=estimated, anew=key.anew)
        told = {**key.as_dict(), **body.facts, "compiled": self._compiler.origin}
        self._ran[key.circuit_id] = told
        return _Program(parsed, body, observables, len(record["text"]), key.shots == 0)

    def _run_call(self, program: _Program, key: GroupKey, call: list[Part]) -> dict[int, ItemResult]:
        try:
            return self._run_parts(program, key, call)
        except ShotbusError as error:
            if len(call) == 1:
                return {call[0].index: failed(error)}
        except Exception as error:  # noqa: BLE001 (a defect of ours fails this call, not the batch)
            if len(call) == 1:
                return {call[0].index: internal(error)}
        # One job's values may be what failed (a division by zero in an angle): each alone, then.
        results: dict[int, ItemResult] = {}
        for part in call:
            results.update(self._run_call(program, key, [part]))
        return results

    def _run_parts(self, program: _Program, key: GroupKey, call: list[Part]) -> dict[int, ItemResult]:
        timings = Timings()
        bindings = merged(call)
        backend = self._compiler.backend(key.options.method)
        rows = Rows(program.body.circuit, bindings.names, bindings.matrix, key.increments, call[0].seed)
        if program.observables is None:
            sampled = sample(backend, rows, program.parsed.facts.clbits, len(call), timings)
            registers = program.body.registers
            payloads = [pack_counts(sampled.rows(*span).with_registers(registers)) for span in spans(call)]
            return share_out(call, payloads, key.shots, timings)
        estimator = Estimator(backend, program.body, program.observables, timings)
        estimates, bases = estimator.exact(rows) if program.exact else estimator.sampled(rows)
        meta = {"bases": bases}
        payloads = [
            pack_estimates(Estimates(estimates.evs[a:b], estimates.stds[a:b]), meta) for a, b in spans(call)
        ]
        return share_out(call, payloads, key.shots * bases, timings)


class _Program(NamedTuple):
    """A group's compiled circuit and what it is asked for."""

    parsed: Parsed
    body: Transpiled
    observables: PauliSums | None
    text_bytes: int
    exact: bool

    @property
    def outcome_bits(self) -> int:
        """Most classical bits of an outcome."""
        return (
            self.parsed.facts.clbits
            if self.observables is None
            else self.parsed.facts.clbits + self.parsed.facts.qubits
        )


def _observables(key: GroupKey, parsed: Parsed) -> PauliSums:
    observables = unpack_observables(key.observables)
    if observables.qubits != parsed.facts.qubits:
        limit, actual = f"{parsed.facts.qubits} qubits", f"{observables.qubits} qubits"
        raise fail("SB-1402", "$.observables", limit=limit, actual=actual)
    return observables


def _checked(program: _Program, parts: Iterable[Part]) -> tuple[dict[int, ItemResult], list[Part]]:
    """Part the jobs whose bindings fit from the others, which are refused."""
    results: dict[int, ItemResult] = {}
    good = []
    for part in parts:
        try:
            check_names(part, program.parsed.parameters)
            if program.observables is not None:
                check_size(part.points, program.observables.count)
        except ShotbusError as error:
            results[part.index] = failed(error)
        else:
            good.append(part)
    return results, good


def create(options: Mapping[str, str]) -> AerAdapter:
    """Return the adapter; Qiskit is imported at its first run, or when its backend is first sensed.

    Raises ShotbusError (SB-2001, SB-2002) for options it does not know or cannot use.
    """
    settings = read_settings(options)
    if settings == AerSettings():
        return AerAdapter()
    from shotbus.workers.adapters.aer_sensing import SensingAerAdapter

    return SensingAerAdapter(settings, SystemClock())
