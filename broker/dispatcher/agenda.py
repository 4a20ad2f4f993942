"""What happens to jobs when wall time comes: those that are due, those that are late. Pure.

Two heaps with lazy removal: an entry whose job has ended or changed since is passed over when its time
comes. They are rebuilt when most entries are such, so that what comes and goes leaves nothing behind.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping

from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.states import WITH_A_TIMER, WITH_A_WORKER

# Entries of jobs that are gone may lie in a heap this often beside the live ones before it is rebuilt.
_SLACK = 1_024


class Agenda:
    """Timers and deadlines of one shard.

    Args:
        jobs: the live jobs by id; read only, and always the owner's own mapping.

    """

    def __init__(self, jobs: Mapping[str, Job]) -> None:
        self._jobs = jobs
        self._timers: list[tuple[int, int, str]] = []
        self._deadlines: list[tuple[int, str]] = []

    def later(self, job: Job) -> None:
        """Remember to wake a scheduled or retrying job at its ``not_before_ms``."""
        heapq.heappush(self._timers, (job.not_before_ms, job.order, job.job_id))
        if len(self._timers) > 2 * len(self._jobs) + _SLACK:
            self._timers = [entry for entry in self._timers if self._timed(entry)]
            heapq.heapify(self._timers)

    def watch(self, job: Job) -> None:
        """Remember a job's deadline, if it has one; twice does no harm."""
        if not job.deadline_ms:
            return
        heapq.heappush(self._deadlines, (job.deadline_ms, job.job_id))
        if len(self._deadlines) > 2 * len(self._jobs) + _SLACK:
            self._deadlines = sorted(
                (one.deadline_ms, one.job_id) for one in self._jobs.values() if one.deadline_ms
            )

    def due(self, now_ms: int) -> Iterator[Job]:
        """Take the jobs whose time has come; each must be moved before the next is asked for."""
        while self._timers and self._timers[0][0] <= now_ms:
            entry = heapq.heappop(self._timers)
            if self._timed(entry):
                yield self._jobs[entry[2]]

    def late(self, now_ms: int) -> Iterator[Job]:
        """Take the jobs past their deadline that no worker has; the others may finish."""
        while self._deadlines and self._deadlines[0][0] <= now_ms:
            deadline, job_id = heapq.heappop(self._deadlines)
            job = self._jobs.get(job_id)
            if job is not None and job.deadline_ms == deadline and job.phase not in WITH_A_WORKER:
                yield job

    def next_ms(self) -> int | None:
        """Return the wall time of the next entry, None without one."""
        firsts = [heap[0][0] for heap in (self._timers, self._deadlines) if heap]
        return min(firsts, default=None)

    def timed(self) -> list[str]:
        """Return the ids of the jobs that wait for their time."""
        return [entry[2] for entry in self._timers if self._timed(entry)]

    def __len__(self) -> int:
        return len(self._timers) + len(self._deadlines)

    def _timed(self, entry: tuple[int, int, str]) -> bool:
        due, _, job_id = entry
        job = self._jobs.get(job_id)
        return job is not None and job.not_before_ms == due and job.phase in WITH_A_TIMER
