"""The adapter of a remote QPU service over HTTP, as ``shotbus provider`` speaks it. Asks the provider.

What a result is worth is checked like a stranger's word (:mod:`shotbus.workers.adapters.remote_answers`),
what an error means is a table (:mod:`shotbus.workers.adapters.remote_errors`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from shotbus.broker.clock import Clock, SystemClock
from shotbus.workers.adapters.base import AdapterCapabilities, BackendState, BatchItem
from shotbus.workers.adapters.remote_answers import read_job, read_result
from shotbus.workers.adapters.remote_device import RemoteCalibration, RemoteDevice
from shotbus.workers.adapters.remote_errors import refusal
from shotbus.workers.adapters.remote_http import Answer, Api
from shotbus.workers.adapters.remote_settings import RemoteSettings, read_settings
from shotbus.workers.providers.adapter import Patience, ProviderAdapter
from shotbus.workers.providers.base import (
    Closed,
    Fetched,
    ImplausibleError,
    JobView,
    NoAnswerError,
    NotSentError,
    RefusedError,
)
from shotbus.workers.providers.programs import Order


class RemoteService:
    """One device of a provider that is asked over HTTP.

    Args:
        settings: where, and how long an answer may take.
        clock: for what is remembered of the device.

    """

    def __init__(self, settings: RemoteSettings, clock: Clock) -> None:
        self._settings = settings
        self._api = Api(settings)
        self._device = RemoteDevice(self._api, settings, clock)

    @property
    def capabilities(self) -> AdapterCapabilities:
        return AdapterCapabilities(
            pool="remote",
            kind="hardware",
            modes=("sample", "estimate"),
            max_qubits=self._settings.max_qubits,
            inline=False,
            paid=True,
            executed_on=self._settings.device,
            dated=True,
        )

    def current(self) -> RemoteCalibration:
        """Return the calibration that holds now. Raises DownError."""
        return self._device.current()

    def state(self) -> BackendState:
        """Return how the device is. Raises DownError."""
        return self._device.state()

    def find_calibration(self, calibration_id: str) -> bytes | None:
        """Return a snapshot; the provider is asked for one that is none of the last."""
        found = self._device.find(calibration_id)
        return found.snapshot if found is not None else None

    def together(self) -> AbstractContextManager[None]:
        """Change nothing: each job stands for itself."""
        return nullcontext()

    def submit(self, order: Order, item: BatchItem) -> JobView:
        """Hand a job in. Raises NotSentError, NoAnswerError, ImplausibleError, RefusedError."""
        answer = self._api.submit(order.body, item.attempt)
        if answer.status in (200, 201, 409):
            return read_job(answer.document, item.token)
        raise RefusedError(refusal(answer.status, answer.document), answer.retry_after_ms)

    def find(self, token: str) -> JobView | None:
        return _view(_question(lambda: self._api.find(token)), token)

    def job(self, view: JobView, token: str) -> JobView | None:
        return _view(_question(lambda: self._api.job(view.id)), token)

    def fetch(self, view: JobView, token: str, order: Order) -> Fetched | None:
        """Fetch a result and check it against the request."""
        answer = _question(lambda: self._api.result(view.id))
        if answer is None or answer.status not in (200, 410):
            return None
        if answer.status == 410:
            return Fetched(answer.raw, gone=True)
        try:
            return Fetched(answer.raw, tuple(read_result(answer.document, token, view.id, order.expected)))
        except ImplausibleError as error:
            return Fetched(answer.raw, wrong=str(error))

    def close(self, token: str) -> Closed:
        """Have a token named, or closed: the provider promises to accept none under it any more."""
        answer = _question(lambda: self._api.close(token))
        if answer is None or answer.status != 200 or answer.document is None:
            return Closed()
        if answer.document.get("closed") is True and answer.document.get("job") is None:
            return Closed(absent=True)
        return Closed(_view(answer, token))

    def cancel(self, view: JobView, token: str) -> tuple[JobView, bool]:
        """Ask for a job's end. Asking again changes nothing: who gets no answer asks until there is one."""
        answer = _question(lambda: self._api.cancel(view.id))
        after = _view(answer, token)
        decided = answer is not None and answer.status != 429 and answer.status < 500
        return after if after is not None and after.id == view.id else view, decided

    def places(self, view: JobView) -> Mapping[str, str]:
        """Return the paths below the service's address."""
        return {"submission": f"/v1/jobs/{view.id}/submission", "answer": f"/v1/jobs/{view.id}/result"}

    def version(self) -> str:
        return self._device.version

    def told(self) -> Mapping[str, Any]:
        return {"url": self._settings.url}

    def packages(self) -> tuple[str, ...]:
        return ("qiskit", "urllib3", "numpy")


def _question(ask: Callable[[], Answer]) -> Answer | None:
    """Ask what changes nothing; None when there was no answer this time."""
    try:
        return ask()
    except (NotSentError, NoAnswerError):
        return None


def _view(answer: Answer | None, token: str) -> JobView | None:
    if answer is None or answer.status != 200:
        return None
    try:
        return read_job(answer.document, token)
    except ImplausibleError:
        return None


def create(options: Mapping[str, str]) -> ProviderAdapter:
    """Return the adapter; nothing is asked before its first use.

    Raises ShotbusError (SB-2001, SB-2002) for options it does not know or cannot use.
    """
    settings = read_settings(options)
    clock = SystemClock()
    patience = Patience(settings.poll_seconds, settings.wait_seconds)
    return ProviderAdapter(RemoteService(settings, clock), patience, clock)
