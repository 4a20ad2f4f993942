"""Waiting jobs that do not wait for ever: when each has waited as long as its rule lets it. Pure.

The limit is ``max_queue_ms`` among a job's extras. ``impatient_ms`` stands there, and an entry here, exactly
while the job is in a queue and has not been sent: so a restored shard has the same entries.
"""

from __future__ import annotations

from collections.abc import Iterator

from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.sortedrun import Entry, SortedRun, rank_of


class Patience:
    """When the waiting jobs of one shard become impatient, wall time in milliseconds, by key."""

    def __init__(self) -> None:
        self._run = SortedRun()

    def __len__(self) -> int:
        return len(self._run)

    def begin(self, job: Job, key: int, at_us: int) -> None:
        """Have a job, which enters a queue at ``at_us``, wait for its limit at most; many have none."""
        extras = job.extras
        if not extras or "max_queue_ms" not in extras or job.attempt > extras.get("staged", 0):
            return
        self.end(job, key)
        until_ms = max(0, at_us // 1000 + extras["max_queue_ms"])
        job.keep(impatient_ms=until_ms)
        self._run.insert(Entry(until_ms, rank_of(job.order), key))

    def restore(self, job: Job, key: int) -> None:
        """Take back what stands in a waiting job's row."""
        until_ms = (job.extras or {}).get("impatient_ms")
        if until_ms is not None:
            self._run.insert(Entry(until_ms, rank_of(job.order), key))

    def end(self, job: Job, key: int) -> None:
        """Forget a job that leaves its queue; nothing happens to one that has no limit."""
        extras = job.extras
        if extras and "impatient_ms" in extras:
            self._run.discard(extras["impatient_ms"], rank_of(job.order), key)
            job.forget("impatient_ms")

    def over(self, now_ms: int) -> Iterator[int]:
        """Take the jobs whose time has come; whoever takes one lets it begin again or leave its queue."""
        while (entry := self._run.first()) is not None and entry.first <= now_ms:
            yield self._run.pop().key

    def next_ms(self) -> int | None:
        """Return the wall time of the next entry, None without one."""
        first = self._run.first()
        return None if first is None else first.first
