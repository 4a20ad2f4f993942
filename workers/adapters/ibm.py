"""The adapter of IBM Quantum through Qiskit Runtime: fake backends in this process, real ones by credentials.

What a job is handed in as, how it is found again and what it may come to is the same for both; only where it
runs is not. The service takes no idempotency key, and its client repeats a request that was answered with a
server's error, so a token is a tag: it is looked for before a second attempt and after every submission, and
of several jobs under one tag all but the first are cancelled and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from shotbus.broker.clock import Clock, SystemClock
from shotbus.broker.lru import Lru
from shotbus.schemas.errors import Problem
from shotbus.workers.adapters.base import AdapterCapabilities, BackendState, BatchItem
from shotbus.workers.adapters.ibm_answers import read_samples, seconds_of, times_of, view_of
from shotbus.workers.adapters.ibm_device import IbmDevice
from shotbus.workers.adapters.ibm_errors import refusal
from shotbus.workers.adapters.ibm_local import LocalQueue, Simulators, pieces_of
from shotbus.workers.adapters.ibm_settings import IbmSettings, read_settings
from shotbus.workers.adapters.samples import canonical
from shotbus.workers.providers.adapter import ProviderAdapter
from shotbus.workers.providers.base import (
    Closed,
    DownError,
    Fetched,
    ImplausibleError,
    JobView,
    NoAnswerError,
    NotSentError,
    RefusedError,
)
from shotbus.workers.providers.programs import Order
from shotbus.workers.providers.settling import Settling
from shotbus.workers.providers.target import TargetCalibration

_KEPT = 1_024
_DIGEST = "sha256:"
_OURS = "shotbus"


class IbmService:
    """One backend of IBM's.

    Args:
        settings: which, and as whom.
        clock: for what is remembered of it.

    """

    def __init__(self, settings: IbmSettings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._device = IbmDevice(settings, clock)
        self._queue: LocalQueue | None = None
        self._mode: Any = None
        self._jobs: Lru[str, Any] = Lru(_KEPT)
        self._by_token: Lru[str, str] = Lru(_KEPT)
        self._digests: Lru[str, str] = Lru(_KEPT)
        #: By token, the calibration that its job was compiled for.
        self._compiled_for: Lru[str, str] = Lru(_KEPT)
        self._settling = Settling(settings.settle_seconds, clock)
        self._cancelled: Lru[str, None] = Lru(_KEPT)
        self._surplus = 0

    @property
    def capabilities(self) -> AdapterCapabilities:
        local = self._settings.local
        return AdapterCapabilities(
            pool="ibm",
            kind="simulator" if local else "hardware",
            modes=("sample", "estimate"),
            max_qubits=self._settings.max_qubits,
            inline=False,
            paid=not local,
            executed_on=self._settings.backend,
            dated=True,
        )

    def current(self) -> TargetCalibration:
        """Return the calibration that holds now. Raises DownError."""
        return self._device.current()

    def state(self) -> BackendState:
        """Return how the backend is. Raises DownError."""
        return self._device.state()

    def find_calibration(self, calibration_id: str) -> bytes | None:
        """Return one of the last snapshots."""
        found = self._device.find(calibration_id)
        return found.snapshot if found is not None else None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Hand in what comes meanwhile in one batch or session, if that is the pool's mode."""
        if self._settings.mode == "job" or self._settings.local:
            yield
            return
        from qiskit_ibm_runtime import Batch, Session

        kind = Batch if self._settings.mode == "batch" else Session
        try:
            self._mode = kind(backend=self._device.backend())
        except Exception as error:  # noqa: BLE001 (whatever an SDK raises here, nothing was handed in)
            raise DownError(f"no {self._settings.mode} was opened: {type(error).__name__}") from None
        try:
            yield
        finally:
            mode, self._mode = self._mode, None
            _quietly(mode.close)

    def submit(self, order: Order, item: BatchItem) -> JobView:
        """Hand a job in. Raises NotSentError, NoAnswerError, ImplausibleError, RefusedError."""
        pubs = _pubs(order)
        try:
            backend = self._device.backend()
        except DownError as error:
            raise NotSentError(str(error)) from None
        self._compiled_for.put(item.token, order.calibration_id)
        if self._settings.local:
            return self._run_here(backend, pubs, order, item)
        if item.attempt > 1 and (known := self.find(item.token)) is not None:
            return known
        _check_runs(order.shots)
        job = self._hand_in(backend, pubs, order, item)
        self._jobs.put(str(job.job_id()), job)
        self._digests.put(item.token, order.digest)
        return self.find(item.token) or view_of(job, order.digest, by_us=False)

    def find(self, token: str) -> JobView | None:
        """Return the first job with this tag; those that came of the client's own repeats are cancelled."""
        return self._find(token)[0]

    def job(self, view: JobView, token: str) -> JobView | None:
        job = self._jobs.get(view.id)
        if job is None and not self._settings.local:
            job = self._ask_for(view.id)
        return self._view(job, token)

    def fetch(self, view: JobView, token: str, order: Order) -> Fetched | None:
        """Fetch a result and check it against the request."""
        del token
        if (job := self._jobs.get(view.id)) is None:
            return None
        try:
            result = job.result()
        except Exception:  # noqa: BLE001 (whatever an SDK raises here, the result was not fetched this time)
            return None
        try:
            outcomes = read_samples(result, order.expected)
        except ImplausibleError as error:
            return Fetched(b"", wrong=str(error))
        return Fetched(canonical(outcomes), outcomes)

    def close(self, token: str) -> Closed:
        """Ask for a tag. "Nobody's" is final once a submission on its way would long have been listed.

        What ran in a process that is gone is gone with it.
        """
        view, nobodys = self._find(token)
        if not nobodys:
            return Closed(view)
        return Closed(absent=self._settings.local or self._settling.is_over(token))

    def cancel(self, view: JobView, token: str) -> tuple[JobView, bool]:
        """Ask for a job's end."""
        job = self._jobs.get(view.id) or self._ask_for(view.id)
        if job is None:
            return view, False
        self._cancelled.put(view.id, None)
        try:
            job.cancel()
        except Exception as error:  # noqa: BLE001 (a refusal is an answer, anything else is none)
            refused = type(error).__name__ == "RuntimeInvalidStateError"
            return self.job(view, token) or view, refused
        return self.job(view, token) or view, True

    def places(self, view: JobView) -> Mapping[str, str]:
        """Return the job's id: the service hands out inputs and result by it."""
        del view
        return {}

    def version(self) -> str:
        return self._device.version

    def told(self) -> Mapping[str, Any]:
        known = {
            "backend": self._settings.backend,
            "mode": self._settings.mode,
            "local": self._settings.local,
        }
        return {**known, "surplus_cancelled": self._surplus} if self._surplus else known

    def packages(self) -> tuple[str, ...]:
        local = ("qiskit-aer",) if self._settings.local else ()
        return ("qiskit", "qiskit-ibm-runtime", *local, "numpy")

    def _find(self, token: str) -> tuple[JobView | None, bool]:
        """Return the job with this tag, and whether the tag is nobody's now: no answer does not say so."""
        if self._settings.local:
            name = self._by_token.get(token)
            return (None, True) if name is None else (self._view(self._jobs.get(name), token), False)
        try:
            found = self._device.service().jobs(job_tags=[token], limit=None, descending=False)
            ours = [job for job in found if token in (job.tags or [])]
            live = [job for job in ours if str(job.status()) not in ("CANCELLED", "ERROR")] or ours[:1]
        except Exception:  # noqa: BLE001 (whatever an SDK raises here, it is no answer)
            return None, False
        if not live:
            return None, True
        for job in live[1:]:
            self._surplus += 1
            _quietly(job.cancel)
        return self._view(self._jobs.put(str(live[0].job_id()), live[0]), token), False

    def _run_here(self, backend: Any, pubs: list[tuple[Any, ...]], order: Order, item: BatchItem) -> JobView:
        if self._queue is None:
            self._queue = LocalQueue(Simulators(backend))
        job = self._queue.submit(item.token, pieces_of(pubs, len(order.shots), item.seed))
        self._by_token.put(item.token, job.job_id())
        self._digests.put(item.token, order.digest)
        return view_of(self._jobs.put(job.job_id(), job), order.digest, by_us=False)

    def _hand_in(self, backend: Any, pubs: list[tuple[Any, ...]], order: Order, item: BatchItem) -> Any:
        from qiskit_ibm_runtime.executor_sampler import Sampler

        try:
            sampler = Sampler(mode=self._mode or backend)
            sampler.options.environment.job_tags = [_OURS, item.token, _DIGEST + order.digest]
            if self._settings.max_execution_seconds:
                sampler.options.max_execution_time = self._settings.max_execution_seconds
            return sampler.run(pubs)
        except Exception as error:  # noqa: BLE001 (what it means is a table)
            problem = refusal(error)
            if problem.code == "SB-5007":
                raise NoAnswerError(f"no answer: {type(error).__name__}") from None
            raise RefusedError(problem) from None

    def _ask_for(self, name: str) -> Any:
        try:
            return self._jobs.put(name, self._device.service().job(name))
        except Exception:  # noqa: BLE001 (whatever an SDK raises here, it is no answer)
            return None

    def _view(self, job: Any, token: str) -> JobView | None:
        if job is None:
            return None
        try:
            name = str(job.job_id())
            view = view_of(job, self._digest(job, token), by_us=name in self._cancelled)
            if view.status != "done":
                return view
            return self._finished(view, job, token)
        except Exception:  # noqa: BLE001 (whatever an SDK raises here, it is no answer)
            return None

    def _finished(self, view: JobView, job: Any, token: str) -> JobView:
        """Add what is known of a run once it is over: its seconds, its calibrations."""
        compiled_for = self._compiled_for.get(token) or ""
        if self._settings.local:
            return view._replace(backend_seconds=job.usage(), calibrations=(compiled_for, compiled_for))
        metrics = job.metrics()
        started_ms, finished_ms = times_of(metrics)
        calibrations = self._device.ran_under(compiled_for, started_ms, finished_ms)
        return view._replace(backend_seconds=seconds_of(metrics), calibrations=calibrations)

    def _digest(self, job: Any, token: str) -> str:
        """Return the digest of what was handed in: ours, or that of the process that did it."""
        tags = getattr(job, "tags", None) or []
        told = next((tag.removeprefix(_DIGEST) for tag in tags if tag.startswith(_DIGEST)), "")
        return told or self._digests.get(token) or ""


def _pubs(order: Order) -> list[tuple[Any, ...]]:
    """Return a PUB for each program and each run of shots, with the parameters by name.

    Rows of a circuit that has no parameters are so many times the shots: PUBs have no rows without.
    """
    pubs = []
    for circuit in order.compiled.circuits:
        names = tuple(parameter.name for parameter in circuit.parameters)
        columns = [order.wire_names.index(name) for name in names]
        bound = {names: order.angles[:, columns]} if names else None
        times = 1 if names else order.rows
        pubs += [(circuit, bound, shots * times) for shots in order.shots]
    return pubs


def _check_runs(shots: tuple[int, ...]) -> None:
    """Refuse runs of different lengths, which one job of Qiskit Runtime cannot have. Raises RefusedError."""
    if len(set(shots)) > 1:
        limit = "shots that shots_per_call divides"
        raise RefusedError(Problem("SB-1110", "$.shots", limit=limit, actual=str(sum(shots))))


def _quietly(ask: Any) -> None:
    """Ask for something that is not needed to go on."""
    try:
        ask()
    except Exception:  # noqa: BLE001 (the service ends by itself what it was not asked in time to end)
        return


def create(options: Mapping[str, str]) -> ProviderAdapter:
    """Return the adapter; nothing is imported or asked before its first use.

    Raises ShotbusError (SB-2001, SB-2002) for options it does not know or cannot use.
    """
    settings, clock = read_settings(options), SystemClock()
    return ProviderAdapter(IbmService(settings, clock), settings.patience, clock)
