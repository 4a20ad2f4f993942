"""The fast path of adapters that run in the worker's own loop: many bundles in, one publish out.

``finished`` counts as the start here, so a bundle costs one record. Microseconds a job are what this path
is for: nothing in it is done per job that can be done per bundle.
"""

from __future__ import annotations

from collections.abc import Sequence

from shotbus.broker.bus.base import Outgoing
from shotbus.broker.failpoints import failpoint
from shotbus.schemas.codec import Fields
from shotbus.workers.adapters.base import Adapter, BatchItem, ItemResult
from shotbus.workers.backend import faults_among
from shotbus.workers.lanes import Taken
from shotbus.workers.late import late_among
from shotbus.workers.outcomes import Claim, item_fields
from shotbus.workers.quality import gated
from shotbus.workers.reporting import Reporter
from shotbus.workers.running import run_bundle
from shotbus.workers.settings import Means, WorkerSettings


class Inline:
    """Answers bundles at once."""

    def __init__(
        self,
        adapter: Adapter,
        settings: WorkerSettings,
        reporter: Reporter,
        means: Means,
    ) -> None:
        self._adapter = adapter
        self._settings = settings
        self._reporter = reporter
        self._clock, self._counters, self._entropy = means

    async def answer(self, taken: Sequence[Taken]) -> None:
        """Run the bundles, publish all outcomes together, then let the positions pass them."""
        begun = self._clock.monotonic()
        records: list[Outgoing] = []
        jobs = failures = faults = late = 0
        for one in taken:
            if one.bundle["start_by_ms"] < self._clock.wall_ms():
                self._counters.bundles_late += 1
                continue
            made, failed, blamed, unbegun = self._run(one)
            records += made
            jobs += len(one.bundle["items"])
            failures += failed
            faults += blamed
            late += unbegun
        if records:
            await self._reporter.send(records)
            failpoint("worker.after_finished")
        for one in taken:
            one.done()
        seconds = self._clock.monotonic() - begun
        self._counters.finished(jobs, failures, seconds, faults=faults, late=late)

    def _run(self, taken: Taken) -> tuple[list[Outgoing], int, int, int]:
        """Return the records, and how many jobs failed, failed by the backend's fault, did not begin."""
        bundle = taken.bundle
        now_ms = self._clock.wall_ms()
        claim = Claim(bundle["bundle_id"], self._settings.pool, self._settings.worker, self._entropy(8).hex())
        items = [BatchItem.of(item) for item in bundle["items"]]
        lease_seconds = max(0.0, now_ms / 1e3 - bundle["sent_us"] / 1e6)
        made: list[bytes] = []
        failures = faults = late = 0
        for one in run_bundle(self._adapter, bundle["purpose"], items, {}, self._clock.wall_ms):
            ran = gated(one)
            made += claim.finished(
                now_ms * 1000,
                _fields(ran.items, ran.results, lease_seconds),
                executed_on=self._adapter.capabilities.executed_on,
                provenance=ran.provenance,
                calibration_id=ran.calibration_id,
            )
            failed = [result for result in ran.results if result.error_class]
            late += (too_late := late_among(failed))
            failures += len(failed) - too_late
            faults += faults_among(failed)
        self._counters.bundles_started += 1
        outgoing = [self._reporter.outgoing(claim, bundle["shard"], record) for record in made]
        return outgoing, failures, faults, late


def _fields(items: Sequence[BatchItem], results: Sequence[ItemResult], lease_seconds: float) -> list[Fields]:
    """Return the items' reports; results that are one and the same object are described once."""
    described: dict[int, Fields] = {}
    fields = []
    for item, result in zip(items, results, strict=True):
        common = described.get(id(result))
        if common is None:
            result.timings.add("lease", lease_seconds)
            common = described[id(result)] = item_fields(item, result)
        fields.append({**common, "job_id": item.job_id, "attempt": item.attempt})
    return fields
