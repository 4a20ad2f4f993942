"""``Client``: the same verbs without ``await``. Runs an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, Self, TypeVar, Unpack

from shotbus.broker.config import Config
from shotbus.producers.changing import Changed, ChangeOptions
from shotbus.producers.client import AsyncClient
from shotbus.producers.job import AsyncJob
from shotbus.producers.options import SubmitOptions
from shotbus.producers.plan import Reduction, SweepPlan
from shotbus.producers.queueing import QueueInfo
from shotbus.producers.replay import TOLERANCE, Replay
from shotbus.producers.result import JobResult
from shotbus.producers.sweep import AsyncSweep, ShardFailure

T = TypeVar("T")


class _Loop:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="shotbus-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end; a KeyboardInterrupt of the caller leaves the work's effects as they are."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Job:
    """One job; see :class:`shotbus.producers.job.AsyncJob`."""

    def __init__(self, loop: _Loop, job: AsyncJob) -> None:
        self._loop, self._job = loop, job

    @property
    def job_id(self) -> str:
        """The broker's id."""
        return self._job.job_id

    def result(self, timeout: float | None = None) -> JobResult:
        """Wait for the answer; ``timeout`` in seconds."""
        return self._loop.run(self._job.result(timeout))

    def done(self) -> bool:
        """Tell whether the answer is here."""
        return self._job.done()

    def status(self) -> str:
        """Return Qiskit's word for where it is."""
        return self._loop.run(self._job.status())

    def details(self) -> dict[str, Any]:
        """Return status, sub_status, outcome and more."""
        return self._loop.run(self._job.details())

    def where(self, timeout: float = 10.0) -> dict[str, Any]:
        """Return where it is and what it waits for, as its shard says."""
        return self._loop.run(self._job.where(timeout))

    def queue_info(self) -> QueueInfo | None:
        """Return its place in the queue, when it ends and why it waits."""
        return self._loop.run(self._job.queue_info())

    def queue_position(self) -> int | None:
        """Return its place in the queue, 1 goes next."""
        return self._loop.run(self._job.queue_position())

    def events(self) -> list[dict[str, Any]]:
        """Return every change of its state that is kept, oldest first."""
        return self._loop.run(self._job.events())

    def why(self) -> dict[str, Any]:
        """Return where it is and how it came there."""
        return self._loop.run(self._job.why())

    def late(self) -> JobResult | None:
        """Return what came after the job had been answered; None for nothing."""
        return self._loop.run(self._job.late())

    def calibration(self) -> dict[str, Any]:
        """Return the calibration that it ran under."""
        return self._loop.run(self._job.calibration())

    def cancel(self) -> None:
        """Ask for it to be cancelled."""
        self._loop.run(self._job.cancel())


class Sweep:
    """A sweep; see :class:`shotbus.producers.sweep.AsyncSweep`."""

    def __init__(self, loop: _Loop, sweep: AsyncSweep) -> None:
        self._loop, self._sweep = loop, sweep

    @property
    def sweep_id(self) -> str:
        """The sweep's id."""
        return self._sweep.sweep_id

    def result(self, timeout: float | None = None) -> Reduction:
        """Wait for the final reduction; ``timeout`` in seconds."""
        return self._loop.run(self._sweep.result(timeout))

    def partial(self) -> Reduction | None:
        """Return the newest reduction."""
        return self._sweep.partial()

    def __iter__(self) -> Iterator[JobResult | ShardFailure]:
        results = aiter(self._sweep)
        while True:
            try:
                yield self._loop.run(_next(results))
            except StopAsyncIteration:
                return


async def _next(results: Any) -> Any:
    return await anext(results)


class Client:
    """A connection to a broker; see :class:`shotbus.producers.client.AsyncClient` for every argument.

    Use it as a context manager, or call :meth:`close`.
    """

    def __init__(self, url: str | None = None, *, config: Config | None = None) -> None:
        """Connect; see :class:`AsyncClient` for the forms of ``url``."""
        self._loop = _Loop()
        try:
            self._client = self._loop.run(_connect(url, config))
        except BaseException:
            self._loop.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect; a broker that this client started stops."""
        self._loop.run(self._client.close())
        self._loop.close()

    def submit(
        self,
        circuit: Any,
        bindings: Any = None,
        *,
        shots: int | None = None,
        observables: Any = None,
        precision: float | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Job:
        """Submit one PUB; returns when it is durable."""
        work = self._client.submit(
            circuit, bindings, shots=shots, observables=observables, precision=precision, **options
        )
        return Job(self._loop, self._loop.run(work))

    def sweep(
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
    ) -> Sweep:
        """Submit many points of one circuit as jobs with one reduction."""
        work = self._client.sweep(
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
        return Sweep(self._loop, self._loop.run(work))

    def submit_plan(
        self, plan: SweepPlan, *, sweep_id: str | None = None, **options: Unpack[SubmitOptions]
    ) -> Sweep:
        """Submit a planned sweep."""
        work = self._client.submit_plan(plan, sweep_id=sweep_id, **options)
        return Sweep(self._loop, self._loop.run(work))

    def submit_plans(
        self,
        plans: Sequence[SweepPlan],
        *,
        sweep_ids: Sequence[str | None],
        **options: Unpack[SubmitOptions],
    ) -> list[Sweep]:
        """Submit planned sweeps; when anything is wrong with any of them, none is."""
        work = self._client.submit_plans(plans, sweep_ids=sweep_ids, **options)
        return [Sweep(self._loop, sweep) for sweep in self._loop.run(work)]

    def job(self, job_id: str, *, tenant: str = "default") -> Job:
        """Return a handle on a job that any process submitted."""
        return Job(self._loop, self._loop.run(_job(self._client, job_id, tenant)))

    def replay(
        self,
        job_id: str,
        *,
        tenant: str = "default",
        pool: str = "",
        pay: bool = False,
        tolerance: float = TOLERANCE,
        timeout: float | None = None,
    ) -> Replay:
        """Run a job again, as it ran, and compare the two answers."""
        work = self._client.replay(
            job_id, tenant=tenant, pool=pool, pay=pay, tolerance=tolerance, timeout=timeout
        )
        return self._loop.run(work)

    def calibration(self, calibration_id: str) -> dict[str, Any]:
        """Return a calibration that a job ran under."""
        return self._loop.run(self._client.calibration(calibration_id))

    def cancel(self, job_id: str, *, tenant: str = "default") -> None:
        """Ask for a job to be cancelled."""
        self._loop.run(self._client.cancel(job_id, tenant=tenant))

    def cancel_sweep(self, sweep_id: str, *, tenant: str = "default") -> None:
        """Ask for every job of a sweep to be cancelled."""
        self._loop.run(self._client.cancel_sweep(sweep_id, tenant=tenant))

    def reprioritise(self, **wanted: Unpack[ChangeOptions]) -> Changed:
        """Change class, deadline, pool, window or begin of what waits already."""
        return self._loop.run(self._client.reprioritise(**wanted))

    def approve(self, job_id: str, *, reason: str, tenant: str = "default") -> None:
        """Let a job go that waits for a review."""
        self._loop.run(self._client.approve(job_id, reason=reason, tenant=tenant))

    def reject(self, job_id: str, *, reason: str, tenant: str = "default") -> None:
        """Turn down a job that waits for a review."""
        self._loop.run(self._client.reject(job_id, reason=reason, tenant=tenant))

    def set_flag(self, name: str, value: str, *, reason: str) -> int:
        """Switch a feature flag: on, off, a percentage, or default."""
        return self._loop.run(self._client.set_flag(name, value, reason=reason))

    def pool_events(self, pool: str, *, seconds: float = 86_400.0) -> list[dict[str, Any]]:
        """Return what was decided about a pool, oldest first."""
        return self._loop.run(self._client.pool_events(pool, seconds=seconds))

    def control_pool(self, command: str, pool: str, *, reason: str = "") -> None:
        """``pause``, ``drain`` or ``resume`` a pool on every shard."""
        self._loop.run(self._client.control_pool(command, pool, reason=reason))


async def _connect(url: str | None, config: Config | None) -> AsyncClient:
    client = AsyncClient(url, config=config)
    try:
        return await client.start()
    except BaseException:
        await client.close()
        raise


async def _job(client: AsyncClient, job_id: str, tenant: str) -> AsyncJob:
    return client.job(job_id, tenant=tenant)
