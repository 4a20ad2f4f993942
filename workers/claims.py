"""A claimed bundle's life: started, heartbeats, run, finished. Publishes, runs child processes.

On free pools the run begins while ``started`` is still on its way; on paid pools only once it is durable and
the dispatcher has granted it (:mod:`shotbus.workers.grants`).
What was revoked by then is not run. A run that nobody wants any more is stopped on free pools; on paid ones
it goes on, since ending a process here would not take back what its provider has: an adapter that can has the
provider asked to cancel, and the jobs are reported by what they did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from shotbus.broker.failpoints import failpoint
from shotbus.schemas.codec import encode
from shotbus.schemas.errors import Problem
from shotbus.workers.adapters.base import AdapterCapabilities
from shotbus.workers.attempt import Attempt
from shotbus.workers.calibrations import Calibrations
from shotbus.workers.grants import Grants
from shotbus.workers.lanes import Taken
from shotbus.workers.outcomes import Claim, failed_items
from shotbus.workers.process import Child, Fetch, RunReport
from shotbus.workers.reporting import Reporter
from shotbus.workers.revoked import Revoked
from shotbus.workers.running import ASKING
from shotbus.workers.settings import Means, WorkerSettings

_log = structlog.get_logger(__name__)


class Claims:
    """Takes bundles through their life, several at once, each with a child of its own.

    ``settle`` is called once a bundle's ``started`` is durable. ``cancels``: the adapter can cancel.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        capabilities: AdapterCapabilities,
        fetch: Fetch,
        reporter: Reporter,
        *,
        settle: Callable[[Taken], None],
        revoked: Revoked,
        grants: Grants,
        means: Means,
        calibrations: Calibrations,
        cancels: bool = False,
    ) -> None:
        self._settings = settings
        self._capabilities = capabilities
        self._fetch = fetch
        self._reporter = reporter
        self._settle, self._cancels = settle, cancels
        self._revoked, self._grants, self._calibrations = revoked, grants, calibrations
        self._clock, self._counters, self._entropy = means
        self._starting: set[asyncio.Task[None]] = set()

    async def announced(self) -> None:
        """Wait until ``started`` is durable for every bundle that runs now."""
        if self._starting:
            await asyncio.wait(set(self._starting))

    async def run(self, child: Child, taken: Taken) -> None:
        """Claim and run one bundle; returns when its outcome is durable."""
        bundle, claim = taken.bundle, self._claim(taken)
        if self._awaits_grant(bundle):
            self._grants.expect(claim)
        starting = asyncio.create_task(self._start(claim, taken))
        self._starting.add(starting)
        beating = asyncio.create_task(
            self._reporter.renew_for_ever(claim, bundle["shard"], bundle["lease_ms"])
        )
        try:
            if self._capabilities.paid:
                await starting
                if not await self._is_ours(claim, bundle):
                    self._counters.bundles_late += 1
                    return
            taken = await self._without_revoked(claim, taken, starting)
            if taken.bundle["items"]:
                await self._run_claimed(child, claim, taken, starting)
        finally:
            self._grants.forget(claim)
            beating.cancel()
            starting.cancel()
            await asyncio.gather(beating, starting, return_exceptions=True)
            self._starting.discard(starting)

    def _awaits_grant(self, bundle: Mapping[str, Any]) -> bool:
        return self._capabilities.paid and self._settings.awaits_grants and bundle["purpose"] not in ASKING

    async def _is_ours(self, claim: Claim, bundle: Mapping[str, Any]) -> bool:
        """Tell whether a bundle whose claim is durable may be submitted."""
        if self._awaits_grant(bundle):
            return await self._grants.granted(claim, bundle["lease_ms"] / 1000)
        # The claim may have come too late: the dispatcher may have sent the jobs elsewhere.
        start_by_ms: int = bundle["start_by_ms"]
        return self._clock.wall_ms() <= start_by_ms

    async def decline(self, taken: Taken) -> None:
        """Report a bundle that was revoked before it could begin; returns when that is durable."""
        bundle = taken.bundle
        await self._report_revoked(self._claim(taken), bundle["shard"], bundle["items"])
        self._settle(taken)

    def _claim(self, taken: Taken) -> Claim:
        name, lease_id = taken.bundle["bundle_id"], self._entropy(8).hex()
        return Claim(name, self._settings.pool, self._settings.worker, lease_id)

    async def _without_revoked(self, claim: Claim, taken: Taken, starting: Awaitable[None]) -> Taken:
        """Take out of a bundle what nobody wants any more, and report that.

        Looks again after each report: what is revoked meanwhile must not begin either.
        """
        while True:
            bundle = taken.bundle
            wanted, unwanted = self._revoked.part(bundle)
            if not unwanted:
                return taken
            await starting
            await self._report_revoked(claim, bundle["shard"], unwanted)
            bundle = {**bundle, "items": wanted}
            taken = taken._replace(bundle=bundle, raw=encode("work_bundle", bundle))

    async def _report_revoked(self, claim: Claim, shard: int, items: Sequence[Mapping[str, Any]]) -> None:
        records = claim.finished(
            self._clock.wall_ms() * 1000,
            failed_items(items, Problem("SB-4002", "$", detail="its worker was told in time")),
            executed_on=self._capabilities.executed_on,
            provenance=b"",
        )
        await self._reporter.send([self._reporter.outgoing(claim, shard, one) for one in records])
        self._counters.jobs_revoked += len(items)

    async def _start(self, claim: Claim, taken: Taken) -> None:
        failpoint("worker.before_started")
        await self._reporter.start(claim, taken.bundle["shard"])
        failpoint("worker.after_started")
        self._counters.bundles_started += 1
        self._settle(taken)

    async def _run_claimed(self, child: Child, claim: Claim, taken: Taken, starting: Awaitable[None]) -> None:
        begun, starts = self._clock.monotonic(), child.starts
        report = await self._run_unless_revoked(child, claim, taken)
        self._counters.children_started += child.starts - starts
        # The outcome of a lease that was never announced would mean nothing to the dispatcher.
        await starting
        shard = taken.bundle["shard"]
        if report is None:
            await self._report_revoked(claim, shard, taken.bundle["items"])
            return
        failpoint("worker.before_finished")
        # Whoever reads an outcome finds the calibration that it names.
        await self._calibrations.keep()
        await self._reporter.send([self._reporter.outgoing(claim, shard, one) for one in report.outcomes])
        failpoint("worker.after_finished")
        seconds = self._clock.monotonic() - begun
        jobs = len(taken.bundle["items"])
        self._counters.finished(
            jobs,
            report.failures,
            seconds,
            faults=report.faults,
            late=report.late,
            revoked=report.revoked,
        )

    async def _run_unless_revoked(self, child: Child, claim: Claim, taken: Taken) -> RunReport | None:
        """Return the report, or nothing when the run was stopped because nobody wants any of it."""
        if self._capabilities.paid:
            return await self._run_to_its_end(child, claim, taken)
        running = asyncio.create_task(self._report(child, claim, taken))
        try:
            with self._revoked.watching(taken.bundle, running.cancel):
                await asyncio.wait({running})
        finally:
            # On the way out the run ends too, and its process with it.
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return None if running.cancelled() else running.result()

    async def _run_to_its_end(self, child: Child, claim: Claim, taken: Taken) -> RunReport:
        """Return the report of what may be at a provider; what is revoked meanwhile it is asked to cancel."""
        if not self._cancels:
            return await self._report(child, claim, taken)
        with self._revoked.telling(taken.bundle, partial(child.call_off, claim.bundle_id)):
            return await self._report(child, claim, taken)

    async def _report(self, child: Child, claim: Claim, taken: Taken) -> RunReport:
        attempt = Attempt(
            child=child,
            claim=claim,
            bundle=taken.bundle,
            executed_on=self._capabilities.executed_on,
            settings=self._settings,
            clock=self._clock,
            counters=self._counters,
            fetch=self._fetch,
            paid=self._capabilities.paid,
        )
        try:
            return await attempt.run(taken.raw)
        except Exception as error:  # noqa: BLE001 (a defect of ours: the jobs are told, the slot lives on)
            _log.exception("bundle failed in the worker", bundle=claim.bundle_id)
            code = "SB-5007" if self._capabilities.paid else "SB-9001"
            return attempt.failed(taken.bundle["items"], Problem(code, "$", detail=type(error).__name__))
