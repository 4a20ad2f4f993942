"""Sweeps: cut, declare, submit, follow. I/O through the client's session."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shotbus.broker.bus.base import Outgoing, Record, RecordTooLargeError
from shotbus.producers.job import decode_name
from shotbus.producers.plan import JobPlan, Reduction, SweepPlan
from shotbus.producers.program import Program, program_of
from shotbus.producers.request import Question, check_envelope, mode_of, question_of
from shotbus.producers.result import JobFailedError, JobResult, JobTimeoutError, RefusedError, read_answer
from shotbus.producers.session import Session
from shotbus.producers.shards import shard_key
from shotbus.producers.wishes import Wishes
from shotbus.schemas.codec import encode
from shotbus.schemas.errors import Problem, ShotbusError, fail
from shotbus.schemas.ids import keyed_partition
from shotbus.schemas.layout import Layout, pack_layout
from shotbus.schemas.outcomes import LATE_HEADER
from shotbus.schemas.pub import MAX_POINTS
from shotbus.schemas.reductions import check_modes, check_reduction

if TYPE_CHECKING:
    from shotbus.producers.client import AsyncClient

MAX_CHUNK_POINTS = 256
MAX_RESULT_BYTES = 800_000
_REQUEST_OVERHEAD = 16_384
_SUBMIT_BATCH = 64


@dataclass(frozen=True, slots=True)
class ShardFailure:
    """A shard that ended without an answer."""

    shard_index: int
    error: ShotbusError


def cut_sweep(
    question: Question, reduce: str, options: Mapping[str, str], wishes: Wishes, chunk: int | None
) -> SweepPlan:
    """Cut a matrix of points into jobs of at most ``chunk`` points. Raises ShotbusError (SB-1305)."""
    size = chunk or _chunk_of(question)
    if size < 1:
        raise fail("SB-1305", "$.chunk", limit="1 or more", actual=size)
    program, jobs = question.program, []
    circuit = (
        replace(program_of(program.text), template=program.template) if program.template else program.text
    )
    for start in range(0, question.bindings.points, size):
        rows = question.bindings.rows(start, start + size)
        axis = np.arange(start, start + rows.points, dtype="<f8")
        # Row i of the whole has seed S + 2113 i, Aer's own stride, so cutting does not show.
        seed = None if wishes.seed is None else (wishes.seed + 2113 * start) % 2**31
        jobs.append(
            JobPlan(
                circuit,
                rows,
                question.observables,
                question.shots,
                seed,
                0,
                axis,
                wishes.backend,
                wishes.problem,
            )
        )
    return SweepPlan("sweep", tuple(jobs), reduce, dict(options))


def _chunk_of(question: Question) -> int:
    """Choose points a job: within a request's and a result's size, at most 256."""
    columns = max(1, len(question.bindings.names))
    by_request = (262_144 - _REQUEST_OVERHEAD) // (8 * columns)
    bits = question.program.facts.clbits
    if question.observables is not None:
        row_bytes = 16 * question.observables.count
    else:
        row_bytes = min(2 ** min(bits, 30), question.shots) * (4 + -(-bits // 8)) + 8
    return max(1, min(MAX_CHUNK_POINTS, by_request, MAX_RESULT_BYTES // max(1, row_bytes)))


@dataclass(frozen=True, slots=True)
class ReadySweep:
    """A sweep that was checked whole and encoded; nothing of it is published yet.

    ``named``: its id was given, so the bus may hold something of it already. ``circuits``: programs with
    family and version.
    """

    sweep_id: str
    named: bool
    tenant: str
    declaration: Outgoing
    circuits: tuple[tuple[Program, str, str], ...]
    records: list[Outgoing]
    pools: tuple[str, ...]
    place: str = "$"


async def prepare_sweep(
    client: AsyncClient, plan: SweepPlan, wishes: Wishes, *, sweep_id: str | None = None
) -> ReadySweep:
    """Check and encode every job of a sweep. Raises ShotbusError with everything that is wrong."""
    session = client.session
    wishes = replace(wishes, traceparent=session.traceparent(wishes.traceparent))
    questions = await _questions(client, plan, wishes)
    name = sweep_id or os.urandom(12).hex()
    return ReadySweep(
        name,
        sweep_id is not None,
        wishes.tenant,
        _declaration(session, plan, name, wishes),
        _circuits(plan, questions, wishes),
        _records(client, plan, questions, name, wishes),
        _pools(plan, wishes),
    )


async def submit_sweep(session: Session, ready: ReadySweep, *, collect: bool = False) -> AsyncSweep:
    """Declare a sweep, then submit its jobs.

    With the ``sweep_id`` of an earlier call every job that was accepted then is recognised by its key.
    ``collect`` keeps the shards' results, so that the sweep can be iterated.
    """
    sweep = AsyncSweep(session, ready.sweep_id, len(ready.records), ready.tenant)
    await sweep.attach(known=ready.named, collect=collect)
    try:
        await session.bus.publish([ready.declaration])
    except RecordTooLargeError as error:
        hint = "cut the points into several sweeps"
        raise fail("SB-1112", "$", detail=str(error), hint=hint) from error
    for circuit in ready.circuits:
        await session.send_circuit(*circuit)
    for start in range(0, len(ready.records), _SUBMIT_BATCH):
        await session.bus.publish(ready.records[start : start + _SUBMIT_BATCH])
    return sweep


async def _questions(client: AsyncClient, plan: SweepPlan, wishes: Wishes) -> list[Question]:
    problems = _check_extent(plan) + check_reduction(plan.reduce, plan.options, len(plan.jobs))
    for pool in _pools(plan, wishes):
        problems += await client.check_pool(pool)
    questions: list[Question] = []
    shards = [_shard(job, wishes) for job in plan.jobs]
    solving = [client.is_solving(shard) for shard in shards]
    for number, job in enumerate(plan.jobs):
        try:
            questions.append(
                question_of(
                    client.resolved(job.circuit),
                    job.bindings,
                    shots=job.shots,
                    observables=job.observables,
                    precision=None,
                    solving=solving[number],
                )
            )
        except ShotbusError as error:
            problems += [one.under(f"$.jobs[{number}]") for one in error.problems]
    modes = [mode_of(job.observables, solving=one) for job, one in zip(plan.jobs, solving, strict=True)]
    problems += check_modes(plan.reduce, modes)
    if problems:
        now_ms = time.time_ns() // 1_000_000
        raise ShotbusError(problems + check_envelope(wishes, client.session.config, shots=1, now_ms=now_ms))
    return questions


def _pools(plan: SweepPlan, wishes: Wishes) -> tuple[str, ...]:
    return tuple(sorted({job.backend for job in plan.jobs} | {wishes.backend}))


def _shard(job: JobPlan, wishes: Wishes) -> Wishes:
    """Return the wishes of a shard: the sweep's, with what its own plan says instead."""
    return replace(
        wishes,
        seed=job.seed,
        backend=job.backend or wishes.backend,
        problem=job.problem or wishes.problem,
        family=job.family or wishes.family,
        family_version=job.family_version or wishes.family_version,
    )


def _circuits(
    plan: SweepPlan, questions: list[Question], wishes: Wishes
) -> tuple[tuple[Program, str, str], ...]:
    found = {}
    for job, question in zip(plan.jobs, questions, strict=True):
        shard, program = _shard(job, wishes), question.program
        key = (program.circuit_id, shard.family, shard.family_version)
        found[key] = (program, shard.family, shard.family_version)
    return tuple(found.values())


def _check_extent(plan: SweepPlan) -> list[Problem]:
    points = sum(job.points for job in plan.jobs)
    if 1 <= points <= MAX_POINTS:
        return []
    return [Problem("SB-1305", "$.jobs", limit=f"1 to {MAX_POINTS} points a sweep", actual=str(points))]


def _records(
    client: AsyncClient,
    plan: SweepPlan,
    questions: list[Question],
    sweep_id: str,
    wishes: Wishes,
) -> list[Outgoing]:
    records = []
    for number, (job, question) in enumerate(zip(plan.jobs, questions, strict=True)):
        shard = replace(
            _shard(job, wishes),
            idempotency_key=shard_key(sweep_id, number),
            sweep_id=sweep_id,
            shard_index=number,
        )
        fields = client.build(question, shard)
        value = encode("circuit_request", fields)
        client.check_size(value)
        records.append(client.session.request(fields, value, wishes.traceparent))
    return records


def _declaration(session: Session, plan: SweepPlan, sweep_id: str, wishes: Wishes) -> Outgoing:
    layout = Layout(
        rows=np.array([job.points for job in plan.jobs], dtype="<i4"),
        groups=np.array([job.group for job in plan.jobs], dtype="<i4"),
        axis=np.concatenate([np.asarray(job.axis, dtype="<f8") for job in plan.jobs]),
    )
    fields = {
        "command": "declare",
        "sweep_id": sweep_id,
        "tenant": wishes.tenant,
        "principal": wishes.principal,
        "shards": len(plan.jobs),
        "layout": pack_layout(layout),
        "reduce": plan.reduce,
        "options": dict(plan.options),
        "experiment": wishes.experiment,
        "tags": list(wishes.tags),
        "traceparent": wishes.traceparent,
        "at_us": time.time_ns() // 1000,
    }
    partition = keyed_partition(sweep_id, session.topics.partitions)
    return Outgoing(
        session.topics.name("sweeps"), partition, sweep_id.encode(), encode("sweep_command", fields)
    )


class AsyncSweep:
    """A sweep's handle."""

    def __init__(self, session: Session, sweep_id: str, shards: int, tenant: str) -> None:
        """``shards`` 0 means unknown: the handle was made from an id."""
        self._session, self.sweep_id, self.shards, self._tenant = session, sweep_id, shards, tenant
        self._final: asyncio.Future[Reduction] = asyncio.get_running_loop().create_future()
        self._latest: Reduction | None = None
        self._arrived: asyncio.Queue[Record] = asyncio.Queue()
        self._collecting = False

    async def attach(self, *, known: bool, collect: bool = False) -> None:
        """Listen.

        ``known``: the sweep may exist already, take what the bus holds of it. ``collect`` keeps
        shards' results for iteration.
        """
        self._collecting = collect
        if collect:
            self._session.inbox.listen_sweep(self.sweep_id, self._arrived.put_nowait)
        self._session.inbox.listen(self.sweep_id, self._take)
        if known:
            # After listening, so that nothing falls between; from the bus, which is never behind.
            found = await self._session.find_reduction(self.sweep_id)
            if found is not None:
                self._take(found)

    def _take(self, record: Record) -> None:
        if record.value is not None and decode_name(record.value) == "sweep_reduction":
            self._learn(record.value)

    def _learn(self, value: bytes) -> None:
        reduction = Reduction.from_record(value)
        if self._latest is None or reduction.final or reduction.done >= self._latest.done:
            self._latest = reduction
        if reduction.final and not self._final.done():
            self._finish(reduction)

    def _finish(self, reduction: Reduction) -> None:
        """Hand out the final reduction, or why the declaration was refused."""
        problems = tuple(Problem.from_record(one) for one in reduction.meta.get("problems", ()))
        if problems and not reduction.done:
            self._final.set_exception(RefusedError(self.sweep_id, problems, 0.0))
            # Nobody has to ask: a sweep that is only followed by its partials must not warn at its end.
            self._final.exception()
        else:
            self._final.set_result(reduction)

    def partial(self) -> Reduction | None:
        """Return the newest reduction, None before the first."""
        return self._latest

    async def result(self, timeout: float | None = None) -> Reduction:
        """Wait for the final reduction.

        Raises:
            JobTimeoutError: not final in time; the sweep goes on.
            RefusedError: the declaration was refused, for an unknown reduction for example.

        """
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(self._final)
        except TimeoutError as error:
            hint = f"it goes on; come back with sweep id {self.sweep_id}"
            raise JobTimeoutError([Problem("SB-4006", "$", limit=f"{timeout} s", hint=hint)]) from error

    async def __aiter__(self) -> AsyncIterator[JobResult | ShardFailure]:
        """Yield each shard's result as it comes, a :class:`ShardFailure` for one without an answer."""
        if not self._collecting:
            raise RuntimeError("this handle does not keep results: use the one that sweep() returned")
        seen: set[int] = set()
        while len(seen) < self.shards:
            answer = _shard_answer(await self._arrived.get())
            if answer is not None and answer[0] not in seen:
                seen.add(answer[0])
                yield answer[1]
        self._session.inbox.forget_sweep(self.sweep_id)


def _shard_answer(record: Record) -> tuple[int, Any] | None:
    from shotbus.schemas.codec import decode

    if record.value is None or LATE_HEADER in record.headers:
        return None
    if decode_name(record.value) not in ("circuit_result", "refusal"):
        return None
    index = decode(record.value)[1]["shard_index"]
    try:
        return index, read_answer(record.value)
    except (JobFailedError, RefusedError) as error:
        return index, ShardFailure(index, error)
