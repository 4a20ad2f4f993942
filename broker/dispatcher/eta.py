"""When a waiting job will have its result: a middle, and an interval that holds four times in five. Pure.

The middle is the work ahead over the measured drain rate, plus the service time. The interval is adaptive
conformal: it is made of the errors of past predictions (signed log-ratios of what happened to what was
said), newer ones counting more, and the levels at which they are cut follow whether recent intervals held
(Gibbs and Candes, "Adaptive conformal inference under distribution shift", NeurIPS 2021), each end by
itself. A prediction that is still open but past its end counts as missed at once: by the time it ends, as
many others would have been made too early.
"""

from __future__ import annotations

import heapq
import json
import math
from bisect import bisect_left
from collections import deque
from itertools import accumulate
from typing import NamedTuple

from shotbus.broker.dispatcher.drain import LONGEST, DrainRate

#: Each end of the interval is to be passed by this share of the jobs: a little less than a tenth, since
#: feedback comes as late as the jobs do.
TAIL = 0.085
_STEP = 0.02
_LEVELS = (0.005, 0.35)
# Errors kept, how fast they are forgotten, and how many must be there before they are believed.
_KEPT, _FORGET, _ENOUGH = 120, 0.985, 15
_EVERY = 8
# Kinds of waits: up to so many times the job's own service time.
_KINDS = (0.5, 4.0, 32.0)
# Nothing is predicted more finely than this, seconds; ratios of nothings mean nothing.
_FINEST = 0.005
_CLOSEST, _A_WAIT = 0.2, 16
# With no history a wait is told to within this factor, more where the drain rate is unsteady.
_PRIOR_SPREAD = 0.7
_NORMAL_TAIL = 1.2816


class Eta(NamedTuple):
    """Seconds until the result: in four cases of five between ``low`` and ``high``.

    ``kind`` says whose errors made the interval: a short wait and a long one err in different ways.
    """

    low: float
    mid: float
    high: float
    kind: int = 0


class Calibration:
    """The errors of past predictions, and where to cut them."""

    __slots__ = ("_cuts", "_news", "errors", "high_level", "low_level")

    def __init__(self) -> None:
        self.errors: deque[float] = deque(maxlen=_KEPT)
        self.low_level = self.high_level = TAIL
        self._cuts: tuple[float, float] | None = None
        self._news = 0

    def missed(self, *, low: bool, high: bool) -> None:
        """Move the levels: one interval was missed below, above, or held."""
        self.low_level = _clip(self.low_level + _STEP * (TAIL - low))
        self.high_level = _clip(self.high_level + _STEP * (TAIL - high))

    def add(self, error: float) -> None:
        """Take the signed log-ratio of an actual to its prediction."""
        self.errors.append(error)
        self._news += 1

    def cuts(self, unsteadiness: float) -> tuple[float, float]:
        """Return the log-ratios below and above which a tail lies."""
        if len(self.errors) < _ENOUGH:
            spread = _NORMAL_TAIL * max(_PRIOR_SPREAD, min(unsteadiness, 2.0))
            return -spread, spread
        if self._cuts is None or self._news >= _EVERY:
            self._cuts, self._news = self._cut(), 0
        return self._cuts

    def _cut(self) -> tuple[float, float]:
        newest = len(self.errors) - 1
        weighed = sorted((error, _FORGET ** (newest - place)) for place, error in enumerate(self.errors))
        sums = list(accumulate(weight for _, weight in weighed))
        low = bisect_left(sums, self.low_level * sums[-1])
        high = bisect_left(sums, (1 - self.high_level) * sums[-1])
        return weighed[low][0], weighed[min(high, newest)][0]


def _clip(level: float) -> float:
    return min(max(level, _LEVELS[0]), _LEVELS[1])


class _Pool:
    __slots__ = ("calibrations", "rate")

    def __init__(self) -> None:
        self.rate, self.calibrations = DrainRate(), [Calibration() for _ in range(len(_KINDS) + 1)]


class Etas:
    """Predictions of one shard, by pool."""

    def __init__(self) -> None:
        self._pools: dict[str, _Pool] = {}

    def predict(
        self,
        pool: str,
        work_ahead: float,
        service_seconds: float,
        now: float,
        *,
        capacity: float = 1.0,
        begun: float = 0.0,
    ) -> Eta:
        """Return when a job that is queued now will have its result.

        Args:
            pool: name.
            work_ahead: what leaves the queue before it, in the unit of :meth:`drained`.
            service_seconds: of the job itself.
            now: monotonic or seen seconds.
            capacity: work a second, believed until the drain rate has been measured.
            begun: seconds until the first of what has left the queue makes room.

        """
        known = self._pools.get(pool) or _Pool()
        wait = (
            known.rate.wait(max(0.0, work_ahead), now)
            if known.rate.known
            else max(0.0, work_ahead) / capacity
        )
        wait += begun
        mid = _tame(wait + service_seconds)
        kind = bisect_left(_KINDS, wait / max(service_seconds, _FINEST))
        low, high = known.calibrations[kind].cuts(known.rate.unsteadiness)
        return Eta(min(mid, _tame(mid * math.exp(low))), mid, max(mid, _tame(mid * math.exp(high))), kind)

    def drained(self, pool: str, work: float, now: float, *, more: bool = True) -> None:
        """Note work that left the queue of a pool; ``more`` says whether more waits."""
        self._of(pool).rate.add(work, now, more=more)

    def halted(self, pool: str) -> None:
        """Note that nothing leaves a pool's queue from now on, for reasons that are not its pace."""
        if pool in self._pools:
            self._pools[pool].rate.halt()

    def observe(self, pool: str, predicted: Eta, actual: float, *, counted: bool = False) -> None:
        """Take what became of a prediction: ``actual`` seconds until the result.

        ``counted``: :meth:`overdue` has been told of it before.
        """
        calibration = self._of(pool).calibrations[predicted.kind]
        if not counted:
            calibration.missed(low=actual < predicted.low, high=actual > predicted.high)
        calibration.add(math.log(_tame(actual) / _tame(predicted.mid)))

    def overdue(self, pool: str, predicted: Eta) -> None:
        """Note that a job still waits past the end of its interval."""
        self._of(pool).calibrations[predicted.kind].missed(low=False, high=True)

    def snapshot(self, pool: str) -> bytes | None:
        """Return a pool's row, 4 KB at most; None for one that was never heard of."""
        known = self._pools.get(pool)
        if known is None:
            return None
        rate = known.rate
        told = {
            "rate": [rate.mean, rate.variance, rate.long, rate.known],
            "levels": [[one.low_level, one.high_level] for one in known.calibrations],
            "errors": [[round(error, 3) for error in one.errors] for one in known.calibrations],
        }
        return json.dumps(told, separators=(",", ":")).encode()

    def restore(self, pool: str, row: bytes) -> None:
        """Take a pool's row back."""
        told, known = json.loads(row), self._of(pool)
        rate = known.rate
        rate.mean, rate.variance, rate.long, rate.known = told["rate"]
        for one, levels, errors in zip(known.calibrations, told["levels"], told["errors"], strict=True):
            one.low_level, one.high_level = levels
            one.errors.extend(errors)

    def _of(self, pool: str) -> _Pool:
        known = self._pools.get(pool)
        if known is None:
            known = self._pools[pool] = _Pool()
        return known


def _tame(seconds: float) -> float:
    return min(max(seconds, _FINEST), LONGEST) if not math.isnan(seconds) else LONGEST


class _Open(NamedTuple):
    pool: str
    at: float
    eta: Eta


class Forecasts:
    """Follows a sample of the predictions until their jobs end; bounded, and nothing is lost with it.

    About sixteen a wait: errors of neighbours are one error, and those that are kept must reach back over
    several waits to tell what may come.

    Args:
        etas: told of what became of them.
        most: predictions followed at once.

    """

    def __init__(self, etas: Etas, most: int = 4_096) -> None:
        self._etas, self._most = etas, most
        self._open: dict[str, _Open] = {}
        self._ends: list[tuple[float, str]] = []
        self._late: dict[str, None] = {}
        self._next: dict[tuple[str, int], float] = {}
        self._told: dict[tuple[str, str], int] = {}

    def take_told(self) -> dict[tuple[str, str], int]:
        """Return by pool how many intervals have ``held``, and how many jobs came ``early`` or ``late``."""
        told, self._told = self._told, {}
        return told

    def follow(self, job_id: str, pool: str, eta: Eta, now: float) -> bool:
        """Follow a prediction if there is room."""
        key = (pool, eta.kind)
        if now < self._next.get(key, -math.inf) or len(self._open) >= self._most or job_id in self._open:
            return False
        self._next[key] = now + max(_CLOSEST, eta.mid / _A_WAIT)
        self._open[job_id] = _Open(pool, now, eta)
        heapq.heappush(self._ends, (now + eta.high, job_id))
        return True

    def advance(self, now: float) -> None:
        """Let time pass: what is past its interval counts as missed."""
        while self._ends and self._ends[0][0] <= now:
            end, job_id = heapq.heappop(self._ends)
            entry = self._open.get(job_id)
            if entry is not None and entry.at + entry.eta.high == end:
                self._late[job_id] = None
                self._etas.overdue(entry.pool, entry.eta)

    def ended(self, job_id: str, now: float) -> None:
        """Note that a job has its result."""
        entry = self._open.pop(job_id, None)
        if entry is not None:
            counted = job_id in self._late
            self._late.pop(job_id, None)
            actual, eta = now - entry.at, entry.eta
            self._etas.observe(entry.pool, eta, actual, counted=counted)
            key = (entry.pool, "early" if actual < eta.low else "late" if actual > eta.high else "held")
            self._told[key] = self._told.get(key, 0) + 1

    def halted(self, pool: str) -> None:
        """Forget the jobs of a pool that stops: how long it stands still was nobody's prediction."""
        for job_id in [job_id for job_id, entry in self._open.items() if entry.pool == pool]:
            self.dropped(job_id)
        self._etas.halted(pool)

    def dropped(self, job_id: str) -> None:
        """Forget a job that was cancelled, moved or otherwise says nothing about its pool any more."""
        self._open.pop(job_id, None)
        self._late.pop(job_id, None)
