"""Adaptive windows: how many bundles a dispatcher process keeps in flight at a pool. Pure.

The rule is Gradient2 of Netflix's concurrency-limits (2018), which descends from TCP Vegas: the ratio of a
long average of the service time to what it is now says whether more in flight still means more done. A long
average, not the best ever seen, since that never forgets: a pool that became slow for good would be held
at one bundle for ever. It grows by one bundle a round, as TCP does, since it is a matter of a few; errors of
the backend cut it as a lost packet does. It lies between 1 and the credits that workers granted, begins
there, and belongs to the process: nothing of it is durable.

Only like is compared with like: circuits differ by orders of magnitude, and a phase of heavy ones is no
slowness.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from shotbus.broker.config import FlowConfig
from shotbus.broker.dispatcher.messages import Credit

_SHORT, _LONG = 0.2, 0.005
# Kinds of work whose usual time is remembered.
_KNOWN = 256
_SMOOTHING, _STEEPEST = 0.5, 0.5
_CUT = 0.7
# One wild measurement must not stand for a hundred.
_SLOWEST = 20.0
# Bundles after which errors are judged, at least.
_FEWEST = 5


class Answer(NamedTuple):
    """A bundle that came back: seconds run and waited in the worker's hand.

    ``work`` names what was run so that equal names should take equal times (circuit and size), empty for
    what cannot be compared. ``blamed``: it failed by the backend's fault.
    """

    work: str
    service: float
    hand: float
    blamed: bool


class Window:
    """The window of one pool.

    Args:
        settings: what it adapts to.

    """

    __slots__ = ("_answers", "_errors", "_settings", "_slowness", "_usual", "limit")

    def __init__(self, settings: FlowConfig) -> None:
        self._settings = settings
        self.limit = math.inf
        #: Seconds by kind of work, the least recently seen first, and how much slower it goes of late.
        self._usual: dict[str, float] = {}
        self._slowness = 1.0
        self._answers = self._errors = 0

    def answered(self, answer: Answer, granted: int) -> None:
        """Learn from a bundle; a round is as many as the window holds, and moves it once."""
        self._answers += 1
        self._errors += answer.blamed
        if not answer.blamed:
            self._measure(answer)
        if self._answers >= max(_FEWEST, min(self.limit, granted)):
            self._move(granted)
            self._answers = self._errors = 0

    def size(self, granted: int) -> int:
        """Return how many bundles may be in flight."""
        if not self._settings.adaptive or granted <= 0:
            return max(0, granted)
        return max(1, min(granted, math.floor(self.limit) if math.isfinite(self.limit) else granted))

    def _measure(self, answer: Answer) -> None:
        """Compare with the usual time; waiting in hand beyond one bundle's run counts too."""
        seconds = answer.service + max(0.0, answer.hand - answer.service)
        if not answer.work or not 0 < seconds < math.inf:
            return
        usual = self._usual.pop(answer.work, 0.0)
        self._usual[answer.work] = usual + _LONG * (seconds - usual) if usual else seconds
        if len(self._usual) > _KNOWN:
            del self._usual[next(iter(self._usual))]
        if usual:
            self._slowness += _SHORT * (min(seconds / usual, _SLOWEST) - self._slowness)

    def _move(self, granted: int) -> None:
        limit = min(self.limit, float(granted))
        if self._errors > self._settings.error_rate * self._answers:
            self.limit = max(1.0, limit * _CUT)
            return
        gradient = self._settings.tolerance / self._slowness if self._slowness > 0 else 1.0
        if gradient < 1.0:
            limit += _SMOOTHING * limit * (max(_STEEPEST, gradient) - 1.0)
        moved = max(1.0, limit) if gradient < 1.0 else limit + 1.0
        # What is not held back by the window must not begin small when more is granted.
        self.limit = moved if moved < granted else math.inf


class Windows:
    """The windows of one dispatcher process, over all its shards.

    Args:
        settings: by pool; others do not adapt.

    """

    def __init__(self, settings: Mapping[str, FlowConfig]) -> None:
        self._windows = {pool: Window(one) for pool, one in settings.items()}
        self._granted: dict[str, int] = {}

    def answered(self, pool: str, answer: Answer) -> None:
        """Learn from a bundle that came back."""
        window = self._windows.get(pool)
        if window is not None:
            window.answered(answer, max(1, self._granted.get(pool, 1)))

    def size(self, pool: str) -> int:
        """Return how many bundles may be in flight at a pool, for displays."""
        window, granted = self._windows.get(pool), self._granted.get(pool, 0)
        return window.size(granted) if window else granted

    def trim(
        self, free: Mapping[str, Sequence[Credit]], used: Mapping[str, int]
    ) -> dict[str, Sequence[Credit]]:
        """Return the free credits that the windows leave; the workers with most room keep theirs longest.

        Args:
            free: free credits by pool, as the workers' grants leave them.
            used: bundles in flight by pool, of all shards of this process.

        """
        left: dict[str, Sequence[Credit]] = {}
        for pool, given in free.items():
            room = sum(credit.bundles for credit in given)
            granted = self._granted[pool] = room + used.get(pool, 0)
            window = self._windows.get(pool)
            most = (window.size(granted) if window else granted) - used.get(pool, 0)
            if most >= room:
                left[pool] = given
            elif most > 0:
                left[pool] = _cut(given, most)
        return left


def _cut(given: Sequence[Credit], most: int) -> list[Credit]:
    """Take credits away, one by one, from whoever has fewest: bundles go where room is."""
    kept: list[Credit] = []
    for credit in sorted(given, key=lambda one: (-one.bundles, one.worker)):
        count = min(credit.bundles, most)
        if count > 0:
            kept.append(credit._replace(bundles=count))
            most -= count
    return kept
