"""A claimed bundle's life: started, heartbeats, run, finished. Publishes, runs child processes.

On free pools the run begins while ``started`` is still on its way; on paid pools only once it is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from shotbus.broker.failpoints import failpoint
from shotbus.schemas.errors import Problem
from shotbus.workers.adapters.base import AdapterCapabilities
from shotbus.workers.attempt import Attempt
from shotbus.workers.lanes import Taken
from shotbus.workers.outcomes import Claim
from shotbus.workers.process import Child, Fetch, RunReport
from shotbus.workers.reporting import Reporter
from shotbus.workers.settings import Means, WorkerSettings

_log = structlog.get_logger(__name__)


class Claims:
    """Takes bundles through their life, several at once, each with a child of its own.

    ``settle`` is called once a bundle's ``started`` is durable.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        capabilities: AdapterCapabilities,
        fetch: Fetch,
        reporter: Reporter,
        *,
        settle: Callable[[Taken], None],
        means: Means,
    ) -> None:
        self._settings = settings
        self._capabilities = capabilities
        self._fetch = fetch
        self._reporter = reporter
        self._settle = settle
        self._clock, self._counters, self._entropy = means
        self._starting: set[asyncio.Task[None]] = set()

    async def announced(self) -> None:
        """Wait until ``started`` is durable for every bundle that runs now."""
        if self._starting:
            await asyncio.wait(set(self._starting))

    async def run(self, child: Child, taken: Taken) -> None:
        """Claim and run one bundle; returns when its outcome is durable."""
        bundle = taken.bundle
        claim = Claim(bundle["bundle_id"], self._settings.pool, self._settings.worker, self._entropy(8).hex())
        starting = asyncio.create_task(self._start(claim, taken))
        self._starting.add(starting)
        beating = asyncio.create_task(
            self._reporter.renew_for_ever(claim, bundle["shard"], bundle["lease_ms"])
        )
        try:
            if self._capabilities.paid:
                await starting
            await self._run_claimed(child, claim, taken, starting)
        finally:
            beating.cancel()
            starting.cancel()
            await asyncio.gather(beating, starting, return_exceptions=True)
            self._starting.discard(starting)

    async def _start(self, claim: Claim, taken: Taken) -> None:
        failpoint("worker.before_started")
        await self._reporter.start(claim, taken.bundle["shard"])
        failpoint("worker.after_started")
        self._counters.bundles_started += 1
        self._settle(taken)

    async def _run_claimed(self, child: Child, claim: Claim, taken: Taken, starting: Awaitable[None]) -> None:
        begun, starts = self._clock.monotonic(), child.starts
        report = await self._report(child, claim, taken)
        self._counters.children_started += child.starts - starts
        # The outcome of a lease that was never announced would mean nothing to the dispatcher.
        await starting
        failpoint("worker.before_finished")
        shard = taken.bundle["shard"]
        await self._reporter.send([self._reporter.outgoing(claim, shard, one) for one in report.outcomes])
        failpoint("worker.after_finished")
        seconds = self._clock.monotonic() - begun
        self._counters.finished(len(taken.bundle["items"]), report.failures, seconds)

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
        )
        try:
            return await attempt.run(taken.raw)
        except Exception as error:  # noqa: BLE001 (a defect of ours: the jobs are told, the slot lives on)
            _log.exception("bundle failed in the worker", bundle=claim.bundle_id)
            return attempt.failed(taken.bundle["items"], Problem("SB-9001", "$", detail=type(error).__name__))
