"""The adapter of a remote QPU service over HTTP: submit with a token, poll, fetch, check. Asks the provider.

Everything a job asks for is one submission under the job's token, which the provider accepts once; whatever
is answered, or not, the token finds the job again. A submission is never repeated here: unless the provider
proves that it did not accept it, the outcome is unknown and somebody asks later. What a result is worth is
checked like a stranger's word (:mod:`shotbus.workers.adapters.remote_answers`), what an error means is a
table (:mod:`shotbus.workers.adapters.remote_errors`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from importlib.metadata import version
from typing import Any

from shotbus.broker.clock import Clock, SystemClock
from shotbus.schemas.errors import ShotbusError, fail
from shotbus.workers.adapters.base import (
    AdapterCapabilities,
    BackendState,
    Batch,
    BatchItem,
    Compiled,
    ItemResult,
    failed,
)
from shotbus.workers.adapters.remote_answers import ImplausibleError, JobView, read_job
from shotbus.workers.adapters.remote_cancel import Unwanted, decided, not_handed_in
from shotbus.workers.adapters.remote_device import DownError, RemoteCalibration, RemoteDevice
from shotbus.workers.adapters.remote_errors import refusal
from shotbus.workers.adapters.remote_http import Answer, Api, NoAnswerError, NotSentError
from shotbus.workers.adapters.remote_jobs import FETCHES, Pending, judged
from shotbus.workers.adapters.remote_programs import Order, Programs
from shotbus.workers.adapters.remote_settings import RemoteSettings, read_settings
from shotbus.workers.compiled.cache import CompileCache
from shotbus.workers.entering import entering
from shotbus.workers.late import not_begun, part

_PAUSE_GROWTH, _PAUSE_CAP = 1.5, 20.0
#: What a provider's state of a job is called among our stages.
_STAGES = {"queued": "provider-queue", "running": "execute"}


class RemoteAdapter:
    """Runs batches on one device of a provider.

    Args:
        settings: where, and how long to wait.
        clock: for that.

    """

    def __init__(self, settings: RemoteSettings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._unwanted = Unwanted()
        self._api = Api(settings)
        self._device = RemoteDevice(self._api, settings, clock)
        self._programs = Programs()
        self._jobs: dict[str, Any] = {}
        self._circuits: dict[str, Any] = {}
        self._calibrations: dict[str, None] = {}

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

    def run(self, batch: Batch) -> list[ItemResult]:
        """Hand every job in, then wait for them all."""
        self._forget()
        try:
            calibration = self._device.current()
        except DownError as error:
            return [failed(fail("SB-5008", "$", detail=error)) for _ in batch.items]
        results: dict[int, ItemResult] = {}
        pending: list[Pending] = []
        for index, item in enumerate(batch.items):
            begun = self._begin(batch, index, item, calibration)
            if isinstance(begun, Pending):
                pending.append(begun)
            else:
                results[index] = begun
        self._wait(pending, results)
        return [results[index] for index in range(len(batch.items))]

    def look_up(self, batch: Batch) -> list[ItemResult]:
        """Ask what became of tokens. One that has no job is closed: none is accepted under it any more."""
        self._forget()
        return [self._look_up(batch, item) for item in batch.items]

    def cancel(self, tokens: AbstractSet[str]) -> None:
        """Have the provider asked to cancel the jobs with these tokens by whoever runs or looks them up."""
        self._unwanted.set(tokens)

    def provenance(self, batch: Batch) -> dict[str, Any]:
        del batch
        ran = list(self._calibrations)
        return {
            "backend": self.capabilities.executed_on,
            "versions": {name: version(name) for name in ("qiskit", "urllib3", "numpy")},
            "provider": {"url": self._settings.url, "jobs": self._jobs},
            "circuits": self._circuits,
            "calibration_id": ran[0] if len(ran) == 1 else "",
        }

    def sense(self) -> BackendState:
        try:
            return self._device.state()
        except DownError as error:
            return BackendState(unhealthy=str(error))

    def calibration(self, calibration_id: str) -> bytes | None:
        """Return one of the last snapshots."""
        found = self._device.find(calibration_id)
        return found.snapshot if found is not None else None

    def compile(self, batch: Batch) -> list[Compiled]:
        return [self._compile(batch, item) for item in batch.items]

    def keep_in(self, cache: CompileCache) -> None:
        self._programs.compiler.kept = cache

    def _forget(self) -> None:
        self._jobs, self._circuits, self._calibrations = {}, {}, {}

    def _compile(self, batch: Batch, item: BatchItem) -> Compiled:
        begun = self._clock.monotonic()
        try:
            calibration = self._device.current()
            _, origin = self._programs.compile(batch, self._programs.key(item), calibration)
        except DownError as error:
            return Compiled(problems=fail("SB-5008", "$", detail=error).problems)
        except ShotbusError as error:
            return Compiled(problems=error.problems)
        return Compiled(origin, self._clock.monotonic() - begun)

    # --- handing in ---

    def _begin(
        self, batch: Batch, index: int, item: BatchItem, calibration: RemoteCalibration
    ) -> Pending | ItemResult:
        begun = self._clock.monotonic()
        try:
            order = self._programs.order(batch, item, calibration)
            if not order.compiled.texts:
                # Identities alone: nothing has to be measured.
                return ItemResult(payload=order.payload([]), cost=0.0, backend_seconds=0.0)
        except ShotbusError as error:
            return failed(error)
        pending = Pending(index, item, order)
        handed = self._clock.monotonic()
        pending.timings.add("compile", handed - begun)
        # What came before it in the batch, and compiling it, took a while.
        if part([item], now_ms := self._clock.wall_ms())[1]:
            return not_begun(item, now_ms)
        if item.token in self._unwanted:
            return not_handed_in()
        entering("provider-submit")
        told = self._submit(item, order)
        pending.timings.add("provider-submit", self._clock.monotonic() - handed, bytes_in=len(order.body))
        if isinstance(told, ItemResult):
            return told
        pending.view = told
        return pending

    def _submit(self, item: BatchItem, order: Order) -> JobView | ItemResult:
        """Hand a job in once; return it as its provider has it, or why there is nothing to wait for."""
        token = item.token
        try:
            answer = self._api.submit(order.body, item.attempt)
        except NotSentError as error:
            return failed(fail("SB-5008", "$", detail=error))
        except NoAnswerError as error:
            return self._find(token) or failed(fail("SB-5007", "$", detail=error))
        try:
            if answer.status in (200, 201, 409):
                return read_job(answer.document, token)
        except ImplausibleError as error:
            return self._find(token) or failed(fail("SB-5007", "$", detail=error))
        problem = refusal(answer.status, answer.document)
        if problem.code == "SB-5007" and (found := self._find(token)) is not None:
            return found
        return failed(ShotbusError([problem]), retry_after_ms=answer.retry_after_ms)

    def _find(self, token: str) -> JobView | None:
        """Return the job that came with a token, if the provider knows one by now."""
        answer = self._question(lambda: self._api.find(token))
        return self._view(answer, token)

    def _view(self, answer: Answer | None, token: str) -> JobView | None:
        if answer is None or answer.status != 200:
            return None
        try:
            return read_job(answer.document, token)
        except ImplausibleError:
            return None

    def _question(self, ask: Callable[[], Answer]) -> Answer | None:
        """Ask what changes nothing; None when there was no answer this time."""
        try:
            return ask()
        except (NotSentError, NoAnswerError):
            return None

    # --- waiting ---

    def _wait(self, pending: list[Pending], results: dict[int, ItemResult]) -> None:
        until = self._clock.monotonic() + self._settings.wait_seconds
        pause, stage = self._settings.poll_seconds, ""
        while pending:
            pending = [one for one in pending if not self._advance(one, results)]
            if not pending:
                return
            if self._clock.monotonic() >= until:
                break
            if (now := _stage(pending)) != stage:
                entering(stage := now)
            self._unwanted.wait(pause)
            pause = min(pause * _PAUSE_GROWTH, self._settings.poll_seconds * _PAUSE_CAP)
        for one in pending:
            results[one.index] = one.unknown(f"not done within {self._settings.wait_seconds:g} s")

    def _advance(self, one: Pending, results: dict[int, ItemResult]) -> bool:
        """Ask about a job; True when it has come to its result."""
        view = self._view(self._question(lambda: self._api.job(one.view.id)), one.item.token) or one.view
        # Under a token that was given back the provider may have taken another job since.
        one.view = view if view.id == one.view.id else one.view
        if one.view.open and one.item.token in self._unwanted and not one.asked:
            one.view, one.asked = self._cancelled(one.view, one.item.token)
        result = None if one.view.open else self._finish(one)
        if result is None:
            return False
        results[one.index] = result
        return True

    def _finish(self, one: Pending) -> ItemResult | None:
        """Return what a job that has ended came to; None when its result could not be fetched this time."""
        answer = None
        if one.view.status == "done":
            entering("retrieve")
            begun = self._clock.monotonic()
            answer = self._question(lambda: self._api.result(one.view.id))
            one.timings.add("retrieve", self._clock.monotonic() - begun)
            if answer is None or answer.status not in (200, 410):
                return None
        result = judged(one, answer)
        if one.worth_another_look(answer, result):
            return None
        self._note(one, answer)
        return result

    def _note(self, one: Pending, answer: Answer | None) -> None:
        """Take down what provenance tells about a job."""
        self._jobs[one.item.job_id] = one.told(answer)
        if one.view.calibrations[0]:
            self._calibrations[one.view.calibrations[0]] = None
        if one.is_own:
            self._circuits[one.item.request["circuit_id"]] = dict(one.order.facts)

    # --- asking later ---

    def _look_up(self, batch: Batch, item: BatchItem) -> ItemResult:
        answer = self._question(lambda: self._api.close(item.token))
        if answer is None or answer.status != 200 or answer.document is None:
            return ItemResult(found="unknown")
        if answer.document.get("closed") is True and answer.document.get("job") is None:
            return ItemResult(found="absent")
        view = self._view(answer, item.token)
        if view is None:
            return ItemResult(found="unknown")
        if view.open and item.token in self._unwanted:
            view = self._cancelled(view, item.token)[0]
        if view.open:
            return ItemResult(found="running", provider_job_id=view.id)
        return self._fetch(batch, item, view)

    def _fetch(self, batch: Batch, item: BatchItem, view: JobView) -> ItemResult:
        """Return the result of a job that was handed in before."""
        try:
            order = self._programs.order(batch, item, self._device.current())
        except (DownError, ShotbusError):
            return ItemResult(found="unknown", provider_job_id=view.id)
        one = Pending(0, item, order, view)
        found = (self._finish(one) for _ in range(FETCHES))
        result = next((result for result in found if result is not None), None)
        if result is None:
            return ItemResult(found="unknown", provider_job_id=view.id)
        result.found = "done"
        return result

    def _cancelled(self, view: JobView, token: str) -> tuple[JobView, bool]:
        """Ask for a job's end; return it as it is then, and whether its provider has decided about that.

        Asking again changes nothing: who gets no answer asks until there is one.
        """
        answer = self._question(lambda: self._api.cancel(view.id))
        after = self._view(answer, token)
        return after if after is not None and after.id == view.id else view, decided(answer)


def _stage(pending: Sequence[Pending]) -> str:
    """Return the stage of the job that is furthest."""
    told = {one.view.status for one in pending}
    return _STAGES["running" if "running" in told else "queued"]


def create(options: Mapping[str, str]) -> RemoteAdapter:
    """Return the adapter; nothing is asked before its first use.

    Raises ShotbusError (SB-2001, SB-2002) for options it does not know or cannot use.
    """
    return RemoteAdapter(read_settings(options), SystemClock())
