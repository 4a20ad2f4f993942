"""Running one bundle in a child, and finding out who was to blame when the child did not survive it.

A bundle that killed or blocked its child is run again job by job. Only a death in a process that had run
nothing before counts against a job; its neighbours' results are reported as if nothing had happened. Where
a run costs, nothing is run again here: what the provider has of it is not known, and is looked up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shotbus.broker.children.process import ChildDiedError, ChildStartError, ChildTimeoutError
from shotbus.broker.clock import Clock
from shotbus.broker.dispatcher.breaker import BLAMED
from shotbus.schemas.codec import encode
from shotbus.schemas.errors import Problem
from shotbus.workers.adapters.base import error_class_of
from shotbus.workers.outcomes import Claim, failed_items
from shotbus.workers.process import Child, Fetch, RunReport
from shotbus.workers.settings import WorkerCounters, WorkerSettings


@dataclass(frozen=True, slots=True)
class Attempt:
    """A claimed bundle and the child that runs it."""

    child: Child
    claim: Claim
    bundle: Mapping[str, Any]
    executed_on: str
    settings: WorkerSettings
    clock: Clock
    counters: WorkerCounters
    fetch: Fetch
    paid: bool = False

    async def run(self, raw: bytes) -> RunReport:
        """Run the bundle, whose record is ``raw``; every job is in the report exactly once."""
        items = self.bundle["items"]
        try:
            return await self._ask(raw)
        except (ChildDiedError, ChildTimeoutError) as error:
            self._count(error)
            if self.paid:
                return self.failed(items, Problem("SB-5007", "$", detail=str(error)))
            # One job in a process that was started for it: there is nobody else to blame.
            if len(items) == 1 and self.child.runs == 1:
                return self._blame(items[0], error)
        except ChildStartError as error:
            return self.failed(items, Problem("SB-5002", "$", detail=str(error)))
        return await self._run_alone()

    async def _ask(self, raw: bytes) -> RunReport:
        head = {"worker": self.claim.worker, "lease_id": self.claim.lease_id}
        return await self.child.run(head, raw, self.fetch, seconds=self.settings.attempt_seconds)

    async def _run_alone(self) -> RunReport:
        deadline = self.clock.monotonic() + self.settings.isolation_seconds
        outcomes: list[bytes] = []
        failures = faults = late = 0
        for item in self.bundle["items"]:
            if self.clock.monotonic() >= deadline:
                hint = "it shared a bundle with jobs that killed their process"
                report = self.failed([item], Problem("SB-5006", "$", hint=hint))
            else:
                report = await self._one(item)
            outcomes += report.outcomes
            failures += report.failures
            faults += report.faults
            late += report.late
        return RunReport(outcomes, failures, faults, late=late)

    async def _one(self, item: Mapping[str, Any]) -> RunReport:
        raw = encode("work_bundle", {**self.bundle, "items": [item]})
        while True:
            try:
                return await self._ask(raw)
            except (ChildDiedError, ChildTimeoutError) as error:
                self._count(error)
                # A process that had run others before may have been damaged by them: try a new one.
                if self.child.runs == 1:
                    return self._blame(item, error)
            except ChildStartError as error:
                return self.failed([item], Problem("SB-5002", "$", detail=str(error)))

    def _count(self, error: Exception) -> None:
        self.counters.children_crashed += isinstance(error, ChildDiedError)
        self.counters.children_timed_out += isinstance(error, ChildTimeoutError)

    def _blame(self, item: Mapping[str, Any], error: Exception) -> RunReport:
        if isinstance(error, ChildTimeoutError):
            limit = f"{self.settings.attempt_seconds:g} s"
            return self.failed([item], Problem("SB-5004", "$", limit=limit, detail=str(error)))
        return self.failed([item], Problem("SB-5003", "$", detail=str(error)))

    def failed(self, items: Sequence[Mapping[str, Any]], problem: Problem) -> RunReport:
        """Return the report that every one of ``items`` ended with ``problem``."""
        records = self.claim.finished(
            self.clock.wall_ms() * 1000,
            failed_items(items, problem),
            executed_on=self.executed_on,
            provenance=b"",
        )
        return RunReport(records, len(items), len(items) if error_class_of([problem]) in BLAMED else 0)
