"""A job at a provider: what it was handed, how it is, and what its end is worth. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

from shotbus.broker.stages import Timings
from shotbus.schemas.errors import ShotbusError, fail
from shotbus.workers.adapters.base import BatchItem, ItemResult, failed
from shotbus.workers.adapters.remote_answers import ImplausibleError, JobView, read_result
from shotbus.workers.adapters.remote_errors import ended
from shotbus.workers.adapters.remote_http import Answer
from shotbus.workers.adapters.remote_programs import Order

#: How often a result is fetched before it is given up as implausible.
FETCHES = 3
_NOTHING = JobView("", "queued", "", None, 0.0, 0.0, 0.0, ("", ""), "")


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

    def worth_another_look(self, answer: Answer | None, result: ItemResult) -> bool:
        """Count a fetched result; True when it was implausible and may have been spoiled on its way.

        Looking again is free; handing the job in again is not.
        """
        self.fetches += 1
        spoiled = answer is not None and answer.status == 200 and result.problems
        return bool(spoiled) and result.problems[0].code == "SB-5005" and self.fetches < FETCHES

    def told(self, answer: Answer | None) -> dict[str, Any]:
        """Return what provenance tells: the provider's id, and where program and raw answer are to be had."""
        begin, end = self.view.calibrations
        return {
            "provider_job_id": self.view.id,
            "token": self.item.token,
            "status": self.view.status,
            "cost": self.view.cost,
            "calibration": {"begin": begin, "end": end},
            "submission_sha256": self.view.digest,
            "answer_sha256": hashlib.sha256(answer.raw).hexdigest() if answer is not None else "",
            "submission": f"/v1/jobs/{self.view.id}/submission",
            "answer": f"/v1/jobs/{self.view.id}/result",
        }

    def unknown(self, why: str) -> ItemResult:
        """Return the result of an attempt that waits no longer."""
        result = failed(fail("SB-5007", "$", detail=why), self.timings)
        return replace(result, provider_job_id=self.view.id)


def judged(one: Pending, answer: Answer | None) -> ItemResult:
    """Return what a job that has ended came to, with its bill; asked again of the same job, it is as new.

    ``answer`` is that to the question for its result, None for a job that has none.
    """
    view = one.view
    if not one.fetches:
        one.timings.add("provider-queue", view.queue_seconds)
        one.timings.add("execute", view.backend_seconds)
    result = _judged(one, answer)
    return replace(
        result,
        cost=view.cost,
        backend_seconds=view.backend_seconds,
        provider_job_id=view.id,
        timings=one.timings,
    )


def _judged(one: Pending, answer: Answer | None) -> ItemResult:
    view = one.view
    if answer is None:
        return failed(ShotbusError([ended(view.status, view.by, view.error)]))
    if answer.status != 200:
        return failed(fail("SB-5005", "$.result", detail="the provider has the job, but its result no more"))
    begin, end = view.calibrations
    if begin != end:
        detail = "the device was calibrated anew under the run"
        return failed(fail("SB-5010", "$", limit=begin, actual=end, detail=detail))
    try:
        outcomes = read_result(answer.document, one.item.token, view.id, one.order.expected)
        payload = one.order.payload(outcomes)
    except ImplausibleError as error:
        return failed(fail("SB-5005", "$.result", detail=error))
    except ShotbusError as error:
        return failed(error)
    one.timings.add("decode", 0.0, bytes_in=len(answer.raw), bytes_out=len(payload))
    return ItemResult(payload=payload, shots=one.order.all_shots)
