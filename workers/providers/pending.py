"""A job at a provider: what it was handed, how it is, and what its end is worth. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

from shotbus.broker.stages import Timings
from shotbus.schemas.errors import ShotbusError, fail
from shotbus.workers.adapters.base import BatchItem, ItemResult, failed
from shotbus.workers.providers.base import Fetched, JobView
from shotbus.workers.providers.programs import Order

#: How often a result is fetched before it is given up as implausible.
FETCHES = 3
_NOTHING = JobView("", "queued")


@dataclass(slots=True)
class Pending:
    """A job that was handed in; ``index`` is its place in the batch."""

    index: int
    item: BatchItem
    order: Order
    view: JobView = _NOTHING
    timings: Timings = field(default_factory=Timings)
    fetches: int = 0
    #: The provider was asked to cancel it, and has decided.
    asked: bool = False

    @property
    def is_own(self) -> bool:
        """Whether the provider runs what this attempt compiled, not what an earlier one did."""
        return self.view.digest == self.order.digest

    def worth_another_look(self, fetched: Fetched | None, result: ItemResult) -> bool:
        """Count a fetched result; True when it was implausible and may have been spoiled on its way.

        Looking again is free; handing the job in again is not.
        """
        self.fetches += 1
        spoiled = fetched is not None and not fetched.gone and result.problems
        return bool(spoiled) and result.problems[0].code == "SB-5005" and self.fetches < FETCHES

    def told(self, fetched: Fetched | None) -> dict[str, Any]:
        """Return what provenance tells: the provider's id, and of which bytes program and raw answer are."""
        begin, end = self.view.calibrations
        return {
            "provider_job_id": self.view.id,
            "token": self.item.token,
            "status": self.view.status,
            "cost": self.view.cost,
            "calibration": {"begin": begin, "end": end},
            "submission_sha256": self.view.digest,
            "answer_sha256": hashlib.sha256(fetched.raw).hexdigest() if fetched is not None else "",
        }

    def unknown(self, why: str) -> ItemResult:
        """Return the result of an attempt that waits no longer."""
        said = f"{why}: {self.view.note}" if self.view.note else why
        result = failed(fail("SB-5007", "$", detail=said), self.timings)
        return replace(result, provider_job_id=self.view.id)


def judged(one: Pending, fetched: Fetched | None) -> ItemResult:
    """Return what a job that has ended came to, with its bill; asked again of the same job, it is as new.

    ``fetched`` is its result, None for a job that has none.
    """
    view = one.view
    seconds = max(view.backend_seconds, fetched.backend_seconds if fetched is not None else -1.0)
    if not one.fetches:
        one.timings.add("provider-queue", view.queue_seconds)
        one.timings.add("execute", max(0.0, seconds))
    result = _judged(one, fetched)
    return replace(
        result,
        cost=view.cost,
        backend_seconds=seconds,
        provider_job_id=view.id,
        timings=one.timings,
    )


def _judged(one: Pending, fetched: Fetched | None) -> ItemResult:
    view = one.view
    if fetched is None or fetched.failure is not None:
        why = view.failure if fetched is None else fetched.failure
        return failed(ShotbusError([why]) if why is not None else fail("SB-5001", "$"))
    if fetched.gone:
        return failed(fail("SB-5005", "$.result", detail="the provider has the job, but its result no more"))
    begin, end = view.calibrations
    if begin != end:
        detail = "the device was calibrated anew under the run"
        return failed(fail("SB-5010", "$", limit=begin, actual=end, detail=detail))
    if fetched.wrong:
        return failed(fail("SB-5005", "$.result", detail=fetched.wrong))
    try:
        payload = one.order.payload(fetched.outcomes)
    except ShotbusError as error:
        return failed(error)
    one.timings.add("decode", 0.0, bytes_in=len(fetched.raw), bytes_out=len(payload))
    return ItemResult(payload=payload, shots=one.order.all_shots)
