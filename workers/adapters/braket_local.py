"""Jobs on the simulators that Braket's SDK brings along: queued and run in this process, one after the other.

Runs a thread. What ran in a process that is gone is gone with it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any, NamedTuple

from shotbus.broker.lru import Lru
from shotbus.schemas.errors import Problem, ShotbusError
from shotbus.workers.adapters.aer_run import out_of_memory
from shotbus.workers.adapters.base import AdapterCapabilities, BackendState, BatchItem
from shotbus.workers.adapters.braket_compile import GATES
from shotbus.workers.adapters.braket_errors import cancelled
from shotbus.workers.adapters.braket_settings import BraketSettings
from shotbus.workers.adapters.braket_simulation import Simulation
from shotbus.workers.adapters.entries import Entries
from shotbus.workers.adapters.samples import canonical
from shotbus.workers.providers.base import Closed, DownError, Fetched, JobView
from shotbus.workers.providers.programs import Order
from shotbus.workers.providers.target import TargetCalibration

_KEPT = 1_024
MISSING = "amazon-braket-sdk is not installed: pip install 'shotbus[braket]'"


class _Run(NamedTuple):
    """A job: ``seconds`` is what it took, once it has run."""

    future: Future[tuple[Entries, ...]]
    seconds: list[float]
    digest: str


class BraketLocal:
    """A simulator of the SDK.

    Args:
        settings: which.

    """

    def __init__(self, settings: BraketSettings) -> None:
        self._settings = settings
        self._simulation = Simulation(settings.device)
        self._runs: Lru[str, _Run] = Lru(_KEPT)

    @property
    def capabilities(self) -> AdapterCapabilities:
        return AdapterCapabilities(
            pool="braket",
            kind="simulator",
            modes=("sample", "estimate"),
            max_qubits=self._settings.max_qubits,
            inline=False,
            paid=False,
            executed_on=self._settings.device,
        )

    @cached_property
    def _thread(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, "braket")

    @cached_property
    def _target(self) -> TargetCalibration:
        from importlib.util import find_spec

        if find_spec("braket") is None:
            raise DownError(MISSING)
        return everything(self._settings.device, self._settings.max_qubits)

    def current(self) -> TargetCalibration:
        """Return what circuits are compiled for. Raises DownError where the SDK is not there."""
        return self._target

    def state(self) -> BackendState:
        """Return that it is well: a simulator has no calibration. Raises DownError."""
        self.current()
        return BackendState()

    def find_calibration(self, calibration_id: str) -> bytes | None:
        """Return nothing: there is none."""
        del calibration_id
        return None

    def together(self) -> AbstractContextManager[None]:
        """Change nothing: each job stands for itself."""
        return nullcontext()

    def submit(self, order: Order, item: BatchItem) -> JobView:
        """Queue a job."""
        seconds: list[float] = []
        future = self._thread.submit(self._run, order, item.seed, seconds)
        self._runs.put(item.token, _Run(future, seconds, order.digest))
        return JobView(item.token, "queued", digest=order.digest)

    def find(self, token: str) -> JobView | None:
        run = self._runs.get(token)
        return None if run is None else _view(token, run)

    def job(self, view: JobView, token: str) -> JobView | None:
        del view
        return self.find(token)

    def fetch(self, view: JobView, token: str, order: Order) -> Fetched | None:
        """Return what was drawn."""
        del view, order
        run = self._runs.get(token)
        if run is None:
            return None
        outcomes = run.future.result()
        return Fetched(canonical(outcomes), outcomes)

    def close(self, token: str) -> Closed:
        """Say whose a token is: what this process does not know is nowhere."""
        view = self.find(token)
        return Closed(view, absent=view is None)

    def cancel(self, view: JobView, token: str) -> tuple[JobView, bool]:
        """Take a job from the queue; what runs goes on."""
        if (run := self._runs.get(token)) is not None:
            run.future.cancel()
        return self.find(token) or view, True

    def places(self, view: JobView) -> Mapping[str, str]:
        """Return nothing: no trace is left of a job."""
        del view
        return {}

    def told(self) -> Mapping[str, Any]:
        return {"device": self._settings.device, "local": True}

    def version(self) -> str:
        """Return none: the simulator's is that of its package."""
        return ""

    def packages(self) -> tuple[str, ...]:
        return ("qiskit", "amazon-braket-default-simulator", "numpy")

    def _run(self, order: Order, seed: int, seconds: list[float]) -> tuple[Entries, ...]:
        begun = time.perf_counter()
        try:
            return self._simulation.run(order, seed)
        finally:
            seconds.append(time.perf_counter() - begun)


def _view(token: str, run: _Run) -> JobView:
    took = sum(run.seconds) if run.seconds else -1.0
    status, why = "queued", None
    if run.future.cancelled():
        status, why = "cancelled", cancelled(by_us=True)
    elif run.future.done():
        why = _failure(run.future.exception())
        status = "done" if why is None else "failed"
    elif run.future.running():
        status = "running"
    return JobView(token, status, why, backend_seconds=took, digest=run.digest)


def _failure(error: BaseException | None) -> Problem | None:
    if isinstance(error, ShotbusError):
        return error.problems[0]
    if isinstance(error, MemoryError):
        return out_of_memory().problems[0]
    return None if error is None else Problem("SB-9001", "$", detail=type(error).__name__)


def everything(name: str, qubits: int) -> TargetCalibration:
    """Return a device that has every gate on all of its qubits."""
    from qiskit.circuit import Measure
    from qiskit.circuit.library import get_standard_gate_name_mapping
    from qiskit.transpiler import Target

    known, target = get_standard_gate_name_mapping(), Target(num_qubits=qubits)
    for gate in GATES:
        target.add_instruction(known[gate], None, name=gate)
    target.add_instruction(Measure(), None, name="measure")
    return TargetCalibration(name, target, 0, {})
