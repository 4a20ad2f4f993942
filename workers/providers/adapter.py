"""The adapter of any provider: submit with a token, poll, fetch, check. Asks the provider's service.

Everything a job asks for is one submission under the job's token; whatever is answered, or not, the token
finds the job again. A submission is never repeated here: unless the provider proves that it did not accept
it, the outcome is unknown and somebody asks later.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from shotbus.broker.clock import Clock
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
from shotbus.workers.compiled.cache import CompileCache
from shotbus.workers.entering import entering
from shotbus.workers.late import not_begun, part
from shotbus.workers.providers.base import (
    Calibrated,
    DownError,
    Fetched,
    ImplausibleError,
    JobView,
    NoAnswerError,
    NotSentError,
    RefusedError,
    Service,
)
from shotbus.workers.providers.pending import FETCHES, Pending, judged
from shotbus.workers.providers.programs import Order, Programs
from shotbus.workers.providers.unwanted import Unwanted, not_handed_in

_PAUSE_GROWTH, _PAUSE_CAP = 1.5, 20.0
#: What a provider's state of a job is called among our stages.
_STAGES = {"queued": "provider-queue", "running": "execute"}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for jobs.

    Attributes:
        poll_seconds: the first pause between two questions about a job; later ones grow up to 20 times.
        wait_seconds: how long a run waits for its jobs; later their outcome is asked for by look-ups.

    """

    poll_seconds: float
    wait_seconds: float


class ProviderAdapter:
    """Runs batches on one device of a provider.

    Args:
        service: the device.
        patience: how long to wait for it.
        clock: for that.
        programs: makes what is handed in.

    """

    def __init__(
        self, service: Service, patience: Patience, clock: Clock, programs: Programs | None = None
    ) -> None:
        self._service, self._patience, self._clock = service, patience, clock
        self._unwanted = Unwanted()
        self._programs = programs or Programs()
        self._jobs: dict[str, Any] = {}
        self._circuits: dict[str, Any] = {}
        self._calibrations: dict[str, None] = {}
        self._seen: dict[str, None] = {}

    @property
    def capabilities(self) -> AdapterCapabilities:
        return self._service.capabilities

    def run(self, batch: Batch) -> list[ItemResult]:
        """Hand every job in, then wait for them all."""
        self._forget()
        results: dict[int, ItemResult] = {}
        pending: list[Pending] = []
        with ExitStack() as stack:
            # Nothing was handed in yet, so this may say so; what is below may not.
            try:
                calibration = self._service.current()
                stack.enter_context(self._service.together())
            except DownError as error:
                return [failed(fail("SB-5008", "$", detail=error)) for _ in batch.items]
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
            "backend_version": self._service.version(),
            "versions": {name: version(name) for name in self._service.packages()},
            "provider": {**self._service.told(), "jobs": self._jobs},
            "circuits": self._circuits,
            "calibration_id": ran[0] if len(ran) == 1 else "",
            **({"calibrations": seen} if (seen := list(self._seen)) != ran[:1] else {}),
        }

    def sense(self) -> BackendState:
        try:
            return self._service.state()
        except DownError as error:
            return BackendState(unhealthy=str(error))

    def calibration(self, calibration_id: str) -> bytes | None:
        """Return one of the last snapshots."""
        return self._service.find_calibration(calibration_id)

    def compile(self, batch: Batch) -> list[Compiled]:
        return [self._compile(batch, item) for item in batch.items]

    def keep_in(self, cache: CompileCache) -> None:
        self._programs.compiler.kept = cache

    def _forget(self) -> None:
        self._jobs, self._circuits, self._calibrations, self._seen = {}, {}, {}, {}

    def _compile(self, batch: Batch, item: BatchItem) -> Compiled:
        begun = self._clock.monotonic()
        try:
            calibration = self._service.current()
            _, origin = self._programs.compile(batch, self._programs.key(item), calibration)
        except DownError as error:
            return Compiled(problems=fail("SB-5008", "$", detail=error).problems)
        except ShotbusError as error:
            return Compiled(problems=error.problems)
        return Compiled(origin, self._clock.monotonic() - begun)

    # --- handing in ---

    def _begin(
        self, batch: Batch, index: int, item: BatchItem, calibration: Calibrated
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
        try:
            return self._service.submit(order, item)
        except NotSentError as error:
            return failed(fail("SB-5008", "$", detail=error))
        except (NoAnswerError, ImplausibleError) as error:
            return self._service.find(item.token) or failed(fail("SB-5007", "$", detail=error))
        except RefusedError as refused:
            unsure = refused.problem.code == "SB-5007"
            if unsure and (found := self._service.find(item.token)) is not None:
                return found
            return failed(ShotbusError([refused.problem]), retry_after_ms=refused.retry_after_ms)

    # --- waiting ---

    def _wait(self, pending: list[Pending], results: dict[int, ItemResult]) -> None:
        until = self._clock.monotonic() + self._patience.wait_seconds
        pause, stage = self._patience.poll_seconds, ""
        while pending:
            pending = [one for one in pending if not self._advance(one, results)]
            if not pending:
                return
            if self._clock.monotonic() >= until:
                break
            if (now := _stage(pending)) != stage:
                entering(stage := now)
            self._unwanted.wait(pause)
            pause = min(pause * _PAUSE_GROWTH, self._patience.poll_seconds * _PAUSE_CAP)
        for one in pending:
            results[one.index] = one.unknown(f"not done within {self._patience.wait_seconds:g} s")

    def _advance(self, one: Pending, results: dict[int, ItemResult]) -> bool:
        """Ask about a job; True when it has come to its result."""
        view = self._service.job(one.view, one.item.token) or one.view
        # Under a token that was given back the provider may have taken another job since.
        one.view = view if view.id == one.view.id else one.view
        if one.view.open and one.item.token in self._unwanted and not one.asked:
            one.view, one.asked = self._service.cancel(one.view, one.item.token)
        result = None if one.view.open else self._finish(one)
        if result is None:
            return False
        results[one.index] = result
        return True

    def _finish(self, one: Pending) -> ItemResult | None:
        """Return what a job that has ended came to; None when its result could not be fetched this time."""
        fetched = None
        if one.view.status == "done":
            entering("retrieve")
            begun = self._clock.monotonic()
            fetched = self._service.fetch(one.view, one.item.token, one.order)
            one.timings.add("retrieve", self._clock.monotonic() - begun)
            if fetched is None:
                return None
        result = judged(one, fetched)
        if one.worth_another_look(fetched, result):
            return None
        self._note(one, fetched)
        return result

    def _note(self, one: Pending, fetched: Fetched | None) -> None:
        """Take down what provenance tells about a job."""
        self._jobs[one.item.job_id] = {**one.told(fetched), **self._service.places(one.view)}
        if one.view.calibrations[0]:
            self._calibrations[one.view.calibrations[0]] = None
        self._seen.update(dict.fromkeys(filter(None, one.view.calibrations)))
        if one.is_own:
            self._circuits[one.item.request["circuit_id"]] = dict(one.order.facts)

    # --- asking later ---

    def _look_up(self, batch: Batch, item: BatchItem) -> ItemResult:
        view, absent = self._service.close(item.token)
        if view is None:
            return ItemResult(found="absent" if absent else "unknown")
        if view.open and item.token in self._unwanted:
            view = self._service.cancel(view, item.token)[0]
        if view.open:
            return ItemResult(found="running", provider_job_id=view.id)
        return self._fetch(batch, item, view)

    def _fetch(self, batch: Batch, item: BatchItem, view: JobView) -> ItemResult:
        """Return the result of a job that was handed in before."""
        try:
            order = self._programs.order(batch, item, self._service.current())
        except (DownError, ShotbusError):
            return ItemResult(found="unknown", provider_job_id=view.id)
        one = Pending(0, item, order, view)
        found = (self._finish(one) for _ in range(FETCHES))
        result = next((result for result in found if result is not None), None)
        if result is None:
            return ItemResult(found="unknown", provider_job_id=view.id)
        result.found = "done"
        return result


def _stage(pending: Sequence[Pending]) -> str:
    """Return the stage of the job that is furthest."""
    told = {one.view.status for one in pending}
    return _STAGES["running" if "running" in told else "queued"]
