"""``AsyncClient``: submits jobs and sweeps, over all that a connection can do. I/O through its session."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Unpack

from shotbus.broker.config import Config
from shotbus.broker.stages import Timings
from shotbus.producers.job import AsyncJob
from shotbus.producers.options import SubmitOptions, wishes_of
from shotbus.producers.origin import code_commit, sdk_versions
from shotbus.producers.plan import SweepPlan
from shotbus.producers.program import Program
from shotbus.producers.replay import TOLERANCE, Replay, compared, submit_again
from shotbus.producers.request import (
    Question,
    build_request,
    check_envelope,
    is_solving,
    mode_of,
    question_of,
)
from shotbus.producers.result import JobResult, RefusedError
from shotbus.producers.steering import Steering
from shotbus.producers.sweep import AsyncSweep, ReadySweep, cut_sweep, prepare_sweep, submit_sweep
from shotbus.producers.templates import resolved
from shotbus.producers.wishes import Wishes, check_keys
from shotbus.schemas.codec import encode
from shotbus.schemas.errors import Problem, ShotbusError
from shotbus.schemas.pub import MAX_POINTS
from shotbus.schemas.reductions import check_modes, check_reduction

_ANSWER_SECONDS = 10.0


class AsyncClient(Steering):
    """A connection to a broker.

    ``AsyncClient()`` and ``AsyncClient("sqlite://")`` start an embedded broker with its workers in child
    processes on a temporary directory, closed with the client; ``sqlite:///DIR`` uses the broker that
    runs on that data directory or starts one; ``kafka://host:port?store=redis://…`` only connects.

    Args:
        url: where; None is a temporary embedded broker.
        config: None loads ``shotbus.toml`` and the environment.

    """

    def __init__(self, url: str | None = None, *, config: Config | None = None) -> None:
        super().__init__(url, config=config)
        self._origin: dict[str, Any] | None = None

    async def submit(
        self,
        circuit: Any,
        bindings: Any = None,
        *,
        shots: int | None = None,
        observables: Any = None,
        precision: float | None = None,
        **options: Unpack[SubmitOptions],
    ) -> AsyncJob:
        """Submit one PUB; returns when it is durable on the bus.

        Args:
            circuit: OpenQASM 3 or 2 text, ``QuantumCircuit``, PennyLane tape, a prepared ``Program``, or a
                template's ``name@version``.
            bindings: see :func:`shotbus.producers.coerce.bindings_of`.
            shots: a point (and measurement basis); None is 1,024, or exact with observables.
            observables: None samples; see :func:`shotbus.producers.coerce.observables_of`.
            precision: standard error asked for instead of shots.
            options: see :class:`SubmitOptions`.

        With a ``unique_key`` it returns when the broker has taken the job, or has named the live one that
        has the key: then the handle is that one's.

        Raises:
            ShotbusError: everything that is wrong, at once; nothing was published.

        """
        began = time.perf_counter()
        wishes, problems = wishes_of(options)
        question = await self._ask(
            problems,
            wishes,
            circuit,
            bindings,
            shots=shots,
            observables=observables,
            precision=precision,
        )
        job = await self._send(question, wishes, began)
        return await self._rightful(job, wishes) if wishes.unique_key else job

    async def check(
        self,
        circuit: Any,
        bindings: Any = None,
        *,
        shots: int | None = None,
        observables: Any = None,
        precision: float | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Program:
        """Check what would be submitted and publish nothing; works before :meth:`start`, too.

        Arguments are those of :meth:`submit`, to which the program that is returned can be passed on. Raises
        ShotbusError with everything that is wrong.
        """
        wishes, problems = wishes_of(options)
        asked = {"shots": shots, "observables": observables, "precision": precision}
        question = await self._ask(problems, wishes, circuit, bindings, **asked)
        self.check_size(encode("circuit_request", self.build(question, wishes)))
        return question.program

    async def _ask(
        self,
        problems: list[Problem],
        wishes: Wishes,
        circuit: Any,
        bindings: Any,
        *,
        shots: Any,
        many: bool = False,
        **asked: Any,
    ) -> Question:
        """Return the checked PUB, or raise what is wrong with it and with the wishes, at once.

        One job's wishes are checked as its request is built; those of ``many`` are, before they are cut.
        """
        question, unread = None, False
        try:
            circuit = self.resolved(circuit)
        except ShotbusError as error:
            problems += error.problems
            circuit, unread = None, True
        try:
            question = question_of(circuit, bindings, shots=shots, solving=self.is_solving(wishes), **asked)
        except ShotbusError as error:
            # Why there is no circuit has been said.
            problems += [one for one in error.problems if not unread or one.path != "$.circuit"]
        problems += await self.check_pool(wishes.backend)
        if many:
            problems += check_keys(wishes)
        if problems or question is None or many:
            now_ms = time.time_ns() // 1_000_000
            problems += check_envelope(wishes, self._session.config, shots=shots, now_ms=now_ms)
        if problems or question is None:
            raise ShotbusError(problems)
        return question

    def resolved(self, circuit: Any) -> Any:
        """Return a circuit, a template's by its name: :func:`shotbus.producers.templates.resolved`."""
        return resolved(circuit, self._session.config.templates)

    def is_solving(self, wishes: Wishes) -> bool:
        """Tell whether a job asks a classical solver for the answer to its problem."""
        return is_solving(wishes.problem, wishes.backend, self._session.config)

    async def _send(self, question: Question, wishes: Wishes, began: float) -> AsyncJob:
        session = self._session
        fields = self.build(question, wishes)
        prepared = time.perf_counter()
        fields["client_prepare_us"] = int((prepared - began) * 1e6)
        fields["think_us"] = int(session.think_seconds(began) * 1e6)
        value = encode("circuit_request", fields)
        self.check_size(value)
        record = session.request(fields, value, session.traceparent(wishes.traceparent))
        serialised = time.perf_counter()
        await session.send_circuit(question.program, wishes.family, wishes.family_version)
        timings = Timings()
        timings.add("serialise", serialised - prepared, bytes_out=len(value))
        payload = fields["payload_hash"]
        # With a key it may be a job that has been there for long.
        since_ms = 0 if wishes.idempotency_key else fields["submitted_us"] // 1000
        job = AsyncJob(
            session,
            fields["job_id"],
            tenant=wishes.tenant,
            timings=timings,
            payload=payload,
            since_ms=since_ms,
        )
        session.asked()
        await session.bus.publish([record])
        timings.add("submit-ack", time.perf_counter() - serialised)
        return job

    async def _rightful(self, job: AsyncJob, wishes: Wishes) -> AsyncJob:
        """Return the handle of the job that does the work; one that was refused otherwise says so itself."""
        if wishes.unique_policy in ("reject", "supersede"):
            return job
        try:
            await job.accepted(_ANSWER_SECONDS)
        except RefusedError as error:
            for problem in error.problems:
                if problem.code == "SB-1114":
                    return self.job(problem.actual, tenant=wishes.tenant)
        return job

    async def replay(
        self,
        job_id: str,
        *,
        tenant: str = "default",
        pool: str = "",
        pay: bool = False,
        tolerance: float = TOLERANCE,
        timeout: float | None = None,
    ) -> Replay:
        """Run a job again, as it ran, as a new job, and compare the two answers.

        Args:
            job_id: of one that has an answer.
            tenant: whose it is.
            pool: where to; empty is where it ran.
            pay: whether it may cost.
            tolerance: how often chance may bring equal answers so far apart, 0 to 1.
            timeout: seconds to wait for either answer; None waits for ever.

        Raises:
            JobFailedError: either of them ended without an answer.
            ShotbusError: SB-4011 when the request is not kept any more, SB-4012 when it would cost.

        """
        first = await self.job(job_id, tenant=tenant).result(timeout)
        job = await self.submit_again(first, tenant=tenant, pool=pool, pay=pay)
        return compared(first, await job.result(timeout), tolerance)

    async def submit_again(
        self, first: JobResult, *, tenant: str = "default", pool: str = "", pay: bool = False
    ) -> AsyncJob:
        """Submit the job of a result once more; see :meth:`replay`. Returns when that is durable."""
        if problems := await self.check_pool(pool):
            raise ShotbusError(problems)
        return await submit_again(
            self._session, first, tenant=tenant, pool=pool, pay=pay, origin=self._own_origin()
        )

    def _own_origin(self) -> dict[str, Any]:
        if self._origin is None:
            self._origin = {"code_commit": code_commit(), "sdk_versions": sdk_versions()}
        return self._origin

    def build(self, question: Question, wishes: Wishes) -> dict[str, Any]:
        """Return a checked request; nothing is published."""
        return build_request(
            question,
            wishes,
            config=self._session.config,
            origin=self._own_origin(),
            entropy=os.urandom(12),
            now_us=time.time_ns() // 1000,
        )

    def check_size(self, value: bytes) -> None:
        """Refuse a request that the bus would not take. Raises ShotbusError (SB-1112)."""
        limit = self._session.config.limits.max_request_bytes
        if len(value) > limit:
            hint = "submit it as a sweep, which cuts the bindings"
            problem = Problem("SB-1112", "$", limit=f"{limit} bytes", actual=f"{len(value)} bytes", hint=hint)
            raise ShotbusError([problem])

    async def sweep(
        self,
        circuit: Any,
        bindings: Any,
        *,
        shots: int | None = None,
        observables: Any = None,
        precision: float | None = None,
        reduce: str = "collect",
        reduce_options: dict[str, str] | None = None,
        chunk: int | None = None,
        **options: Unpack[SubmitOptions],
    ) -> AsyncSweep:
        """Submit many points of one circuit as jobs with one reduction; see :meth:`prepare_sweep`."""
        ready = await self.prepare_sweep(
            circuit,
            bindings,
            shots=shots,
            observables=observables,
            precision=precision,
            reduce=reduce,
            reduce_options=reduce_options,
            chunk=chunk,
            **options,
        )
        return (await self.submit_ready([ready], collect=True))[0]

    async def prepare_sweep(
        self,
        circuit: Any,
        bindings: Any,
        *,
        shots: int | None = None,
        observables: Any = None,
        precision: float | None = None,
        reduce: str = "collect",
        reduce_options: dict[str, str] | None = None,
        chunk: int | None = None,
        **options: Unpack[SubmitOptions],
    ) -> ReadySweep:
        """Check many points of one circuit and cut them into jobs; works before :meth:`start`, too.

        Args:
            circuit: as for :meth:`submit`.
            bindings: one row a point.
            shots: as for :meth:`submit`.
            observables: as for :meth:`submit`.
            precision: as for :meth:`submit`.
            reduce: name of the reduction (docs/reductions.md).
            reduce_options: its options.
            chunk: points a job; None chooses by size.
            options: see :class:`SubmitOptions`.

        """
        wishes, problems = wishes_of(options)
        # How many shards there will be depends on the points; the number is checked with the plan.
        problems += check_reduction(reduce, reduce_options or {}, MAX_POINTS)
        problems += check_modes(reduce, [mode_of(observables, solving=self.is_solving(wishes))])
        question = await self._ask(
            problems,
            wishes,
            circuit,
            bindings,
            shots=shots,
            observables=observables,
            precision=precision,
            many=True,
        )
        plan = cut_sweep(question, reduce, reduce_options or {}, wishes, chunk)
        return await prepare_sweep(self, plan, wishes)

    async def submit_plan(
        self, plan: SweepPlan, *, sweep_id: str | None = None, **options: Unpack[SubmitOptions]
    ) -> AsyncSweep:
        """Submit a planned sweep; with the ``sweep_id`` of an earlier call it goes on where that stopped."""
        return (await self.submit_plans([plan], sweep_ids=[sweep_id], **options))[0]

    async def submit_plans(
        self,
        plans: Sequence[SweepPlan],
        *,
        sweep_ids: Sequence[str | None],
        **options: Unpack[SubmitOptions],
    ) -> list[AsyncSweep]:
        """Submit planned sweeps; when anything is wrong with any of them, none is: :meth:`prepare_plans`."""
        return await self.submit_ready(await self.prepare_plans(plans, sweep_ids=sweep_ids, **options))

    async def prepare_plans(
        self,
        plans: Sequence[SweepPlan],
        *,
        sweep_ids: Sequence[str | None],
        **options: Unpack[SubmitOptions],
    ) -> list[ReadySweep]:
        """Check planned sweeps and make their requests; works before :meth:`start`, too.

        Args:
            plans: the sweeps.
            sweep_ids: for each None, or the id of an earlier call, to go on where that stopped.
            options: see :class:`SubmitOptions`.

        Raises:
            ShotbusError: everything that is wrong with any of them.

        """
        wishes, problems = wishes_of(options)
        problems += check_keys(wishes)
        if problems:
            raise ShotbusError(problems)
        pairs = zip(plans, sweep_ids, strict=True)
        ready = []
        for plan, sweep_id in pairs:
            place = "$" if len(plans) == 1 else f"$.sweeps.{plan.name}"
            try:
                one = await prepare_sweep(self, plan, wishes, sweep_id=sweep_id)
                ready.append(replace(one, place=place))
            except ShotbusError as error:
                problems += [one.under(place) for one in error.problems]
        if problems:
            raise ShotbusError(problems)
        return ready

    async def submit_ready(self, ready: Sequence[ReadySweep], *, collect: bool = False) -> list[AsyncSweep]:
        """Submit prepared sweeps; ``collect`` keeps their shards' results, so that they can be iterated.

        Raises ShotbusError (SB-1102) when the bus has no such pool: before the start nobody could be asked.
        """
        problems = [
            problem.under(one.place)
            for one in ready
            for pool in one.pools
            for problem in await self.check_pool(pool)
        ]
        if problems:
            raise ShotbusError(problems)
        return [await submit_sweep(self._session, one, collect=collect) for one in ready]
