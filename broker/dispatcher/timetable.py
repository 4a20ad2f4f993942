"""What happens to jobs when wall time comes: those that are due, those that are late, by key. Pure.

An entry is there exactly as long as its job may need it: keys come again, so nothing may be left behind.
Whoever ends a job, or changes its times, calls :meth:`Timetable.forget` first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from shotbus.broker.dispatcher.sortedrun import Entry, SortedRun, rank_of


class Timed(Protocol):
    """What the timetable needs to know of a job."""

    @property
    def not_before_ms(self) -> int: ...
    @property
    def deadline_ms(self) -> int: ...
    @property
    def order(self) -> int: ...


class Timetable:
    """Timers and deadlines of one shard, 20 bytes each."""

    def __init__(self) -> None:
        self._timers = SortedRun()
        self._deadlines = SortedRun()

    def __len__(self) -> int:
        return len(self._timers) + len(self._deadlines)

    def later(self, job: Timed, key: int) -> None:
        """Remember to wake a job at its ``not_before_ms``; it has no timer yet."""
        self._timers.insert(Entry(max(0, job.not_before_ms), rank_of(job.order), key))

    def watch(self, job: Timed, key: int) -> None:
        """Remember a job's deadline, if it has one; twice does no harm."""
        if job.deadline_ms:
            self._deadlines.discard(max(0, job.deadline_ms), rank_of(job.order), key)
            self._deadlines.insert(Entry(max(0, job.deadline_ms), rank_of(job.order), key))

    def forget(self, job: Timed, key: int) -> None:
        """Take a job's entries out, those that there are, before it ends or its times change."""
        if job.not_before_ms:
            self._timers.discard(max(0, job.not_before_ms), rank_of(job.order), key)
        if job.deadline_ms:
            self._deadlines.discard(max(0, job.deadline_ms), rank_of(job.order), key)

    def due(self, now_ms: int) -> Iterator[int]:
        """Take the jobs whose time has come, in order; what they cause may change the timetable."""
        return _taken(self._timers, now_ms)

    def late(self, now_ms: int) -> Iterator[int]:
        """Take the jobs past their deadline, whether they wait or a worker has them, as :meth:`due` does.

        Who lets one go on that a worker has watches it again when it comes back.
        """
        return _taken(self._deadlines, now_ms)

    def next_ms(self) -> int | None:
        """Return the wall time of the next entry, None without one."""
        firsts = (self._timers.first(), self._deadlines.first())
        return min((entry.first for entry in firsts if entry is not None), default=None)

    def timed(self) -> list[int]:
        """Return the keys of the jobs that wait for their time, the next first."""
        return list(self._timers)


def _taken(run: SortedRun, now_ms: int) -> Iterator[int]:
    while (entry := run.first()) is not None and entry.first <= now_ms:
        yield run.pop().key
