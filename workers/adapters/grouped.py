"""What simulators that run circuits have in common: a batch grouped by circuit and options. Computes, no I/O.

A group's circuit is compiled once and its jobs run as few calls; which jobs may share a call is the
backend's to say. Whatever is wrong with one job is that job's result and leaves its neighbours alone.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, NamedTuple

from shotbus.schemas.errors import ShotbusError, fail
from shotbus.schemas.pub import PauliSums, unpack_observables
from shotbus.workers.adapters.aer_compile import Compiler, Parsed
from shotbus.workers.adapters.aer_estimate import check_size
from shotbus.workers.adapters.aer_jobs import GroupKey, Part, check_names, key_of, part_of
from shotbus.workers.adapters.aer_transpiled import Transpiled
from shotbus.workers.adapters.base import Batch, BatchItem, Compiled, ItemResult, failed, internal
from shotbus.workers.compiled.cache import CompileCache
from shotbus.workers.entering import entering


class Program(NamedTuple):
    """A group's compiled circuit and what it is asked for."""

    parsed: Parsed
    body: Transpiled
    observables: PauliSums | None
    text_bytes: int
    exact: bool

    @property
    def outcome_bits(self) -> int:
        """Most classical bits of an outcome."""
        measured = 0 if self.observables is None else self.parsed.facts.qubits
        return self.parsed.facts.clbits + measured


def program_of(compiler: Compiler, batch: Batch, key: GroupKey) -> Program:
    """Return a group's circuit, compiled. Raises ShotbusError for what cannot be run."""
    record = batch.circuits.get(key.circuit_id)
    if record is None:
        raise fail("SB-1219", "$.circuit_id", actual=key.circuit_id, hint="send the circuit again")
    entering("compile")
    estimated = key.mode == "estimate"
    parsed = compiler.parse(key.circuit_id, record, anew=key.anew)
    if not estimated and not parsed.facts.measurements:
        raise fail("SB-1218", "$.circuit", hint="measure something, or ask for observables")
    observables = _observables(key, parsed) if estimated else None
    body = compiler.transpile(key.circuit_id, parsed, key.options, bare=estimated, anew=key.anew)
    return Program(parsed, body, observables, len(record["text"]), key.shots == 0)


class GroupedAdapter(ABC):
    """Runs batches group by group with one compiler."""

    def __init__(self, compiler: Compiler) -> None:
        self._compiler = compiler
        self._ran: dict[str, Any] = {}

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
        for call in self._calls(program, key, good):
            results.update(self._run_call(program, key, call))
        results[parts[0].index].timings.add("compile", seconds, bytes_in=program.text_bytes)
        return results

    def _adapted(self, key: GroupKey) -> GroupKey:
        """Return what applies to a group on this backend. Raises ShotbusError (SB-1108, SB-1110)."""
        return key._replace(options=self._compiler.options_for(key.options, exact=key.shots == 0))

    def _compile(self, batch: Batch, key: GroupKey) -> Program:
        program = program_of(self._compiler, batch, key)
        self._ran[key.circuit_id] = {
            **key.as_dict(),
            **program.body.facts,
            **self._compiler.told(program.body),
        }
        return program

    def _run_call(self, program: Program, key: GroupKey, call: list[Part]) -> dict[int, ItemResult]:
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

    @abstractmethod
    def _calls(self, program: Program, key: GroupKey, parts: list[Part]) -> list[list[Part]]:
        """Return which jobs of a group run together, in the order of the batch."""

    @abstractmethod
    def _run_parts(self, program: Program, key: GroupKey, call: list[Part]) -> dict[int, ItemResult]:
        """Run jobs together and return their results by place in the batch. Raises ShotbusError."""


def _observables(key: GroupKey, parsed: Parsed) -> PauliSums:
    observables = unpack_observables(key.observables)
    if observables.qubits != parsed.facts.qubits:
        limit, actual = f"{parsed.facts.qubits} qubits", f"{observables.qubits} qubits"
        raise fail("SB-1402", "$.observables", limit=limit, actual=actual)
    return observables


def _checked(program: Program, parts: Iterable[Part]) -> tuple[dict[int, ItemResult], list[Part]]:
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
