"""How much waits in a queue, in points by class of work. Pure.

Costs of waiting jobs were estimated when each of them came; from points what they take now can be told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Worked(Protocol):
    """What is counted of a job."""

    @property
    def points(self) -> int:
        """How often it runs its circuit."""

    @property
    def work(self) -> int:
        """Its class of work."""


class Load:
    """Points that wait."""

    def __init__(self) -> None:
        self._by_work: dict[int, int] = {}

    def add(self, job: Worked) -> None:
        """Count a job in."""
        self._by_work[job.work] = self._by_work.get(job.work, 0) + job.points

    def take(self, job: Worked) -> None:
        """Count a job out."""
        left = self._by_work[job.work] - job.points
        if left:
            self._by_work[job.work] = left
        else:
            del self._by_work[job.work]

    def seconds(self, pace: Callable[[int], float]) -> float:
        """Return what all of it takes; ``pace`` gives the seconds of a point of a class."""
        return sum(points * pace(work) for work, points in self._by_work.items())
