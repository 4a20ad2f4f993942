"""Bundles in flight: who holds which attempts, and until when. Pure.

A bundle occupies one credit of one worker from forwarding until its last attempt is reported or its
lease lapses. Leases are measured in time seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from shotbus.broker.dispatcher.job import Job, Seat
from shotbus.broker.dispatcher.states import Phase
from shotbus.broker.machine import Now

# A worker drops a bundle unread after start_by; the dispatcher waits this much longer before it
# sends the jobs again, so that a slow clock on either side cannot make both run.
START_MARGIN_MS = 2_000
# What a bundle is for: its jobs are run, their provider is asked what became of them, or their circuits are
# only compiled, ahead of their turn.
RUN, LOOK_UP, COMPILE = "run", "look_up", "compile"
# A look-up of what nobody wants any more, as workers are sent it: its provider is asked to cancel it first.
CANCEL = "cancel"


@dataclass(slots=True)
class Bundle:
    """Attempts that travel together; ``open`` maps job id to attempt number."""

    bundle_id: str
    pool: str
    worker: str
    partition: int
    start_by_ms: int
    lease_id: str = ""
    lease_until: float = 0.0
    open: dict[str, int] = field(default_factory=dict)
    purpose: str = RUN
    #: Of all its jobs, and their class of work: they run one circuit.
    points: int = 0
    work: int = 0
    #: When they were sent, in time seen; None where that is not known.
    sent_at: float | None = None

    @property
    def started(self) -> bool:
        """Tell whether a worker has claimed it."""
        return bool(self.lease_id)

    def seat(self) -> Seat:
        """Return what each of its jobs' rows repeats."""
        return Seat(self.worker, self.lease_id, self.partition, self.start_by_ms)

    def lapses_in(self, now: Now) -> float:
        """Return the seconds until its worker has lost it; not above 0 when it has.

        In time seen alone, also before it was claimed: time seen is never faster than the worker's clock, by
        which it drops the bundle unread, and nobody sets it.
        """
        return self.lease_until - now.seen


class Aloft(NamedTuple):
    """What workers have: bundles, seconds of work in them, and what is left of that if each has begun."""

    bundles: int
    seconds: float
    left: float

    def per_slot(self, slots: int) -> float:
        """Return the seconds until a slot is free, in the mean.

        With more bundles than slots nobody knows which have begun: what ran of them is not taken off.
        """
        if self.bundles < slots:
            return 0.0
        return (self.left if self.bundles == slots else self.seconds) / slots


NOTHING_ALOFT = Aloft(0, 0.0, 0.0)


class BundleBook:
    """The bundles of one shard."""

    def __init__(self) -> None:
        self._bundles: dict[str, Bundle] = {}
        self._load: dict[tuple[str, str], int] = {}

    def __len__(self) -> int:
        return len(self._bundles)

    def get(self, bundle_id: str) -> Bundle | None:
        """Return a bundle that is in flight."""
        return self._bundles.get(bundle_id)

    def load(self) -> dict[tuple[str, str], int]:
        """Return the number of bundles by (pool, worker)."""
        return self._load

    def attempts(self, pool: str) -> int:
        """Return the number of a pool's attempts whose outcome is open."""
        return sum(len(bundle.open) for bundle in self._bundles.values() if bundle.pool == pool)

    def aboard(self) -> list[tuple[str, str]]:
        """Return pool and job of each attempt whose outcome is open."""
        return [(bundle.pool, job_id) for bundle in self._bundles.values() for job_id in bundle.open]

    def aloft(self, pace: Callable[[str, int], float], seen: float) -> dict[str, Aloft]:
        """Return by pool what workers have to do yet.

        ``pace`` gives the seconds of a point by pool and class of work.
        """
        found: dict[str, Aloft] = {}
        for bundle in self._bundles.values():
            if bundle.purpose != RUN:
                continue
            elapsed = 0.0 if bundle.sent_at is None else seen - bundle.sent_at
            seconds = bundle.points * pace(bundle.pool, bundle.work)
            bundles, total, left = found.get(bundle.pool, NOTHING_ALOFT)
            left += max(0.0, seconds - elapsed)
            found[bundle.pool] = Aloft(bundles + 1, total + seconds, left)
        return found

    def add(self, bundle: Bundle) -> None:
        """Enter a bundle."""
        self._bundles[bundle.bundle_id] = bundle
        self._count(bundle, 1)

    def claim(self, bundle: Bundle, worker: str, lease_id: str, until: float) -> None:
        """Note which worker holds it; it may be the successor on the partition it was sent to."""
        self._count(bundle, -1)
        bundle.worker, bundle.lease_id, bundle.lease_until = worker, lease_id, until
        self._count(bundle, 1)

    def close(self, bundle: Bundle, job_id: str) -> None:
        """Take an attempt out; the bundle goes with its last one."""
        bundle.open.pop(job_id, None)
        if not bundle.open:
            self.drop(bundle)

    def carries(self, job: Job) -> bool:
        """Tell whether a worker still owes the answer to a job's latest attempt."""
        bundle = self._bundles.get(job.bundle_id)
        return bundle is not None and bundle.open.get(job.job_id) == job.attempt

    def holder(self, job: Job) -> str:
        """Return the worker that has a job, empty when none has."""
        bundle = self._bundles.get(job.bundle_id)
        return bundle.worker if bundle else ""

    def drop(self, bundle: Bundle) -> None:
        """Forget a bundle and return its credit."""
        if self._bundles.pop(bundle.bundle_id, None):
            self._count(bundle, -1)

    def lapsed(self, now: Now) -> list[Bundle]:
        """Return the bundles whose lease has ended."""
        return [bundle for bundle in self._bundles.values() if bundle.lapses_in(now) <= 0]

    def next_lapse(self, now: Now) -> float | None:
        """Return the seconds until the next lease could end."""
        waits = [bundle.lapses_in(now) for bundle in self._bundles.values()]
        return max(0.0, min(waits)) if waits else None

    def restore(self, job: Job, seat: Seat) -> None:
        """Rebuild a bundle from a row of one of its jobs."""
        bundle = self._bundles.get(job.bundle_id)
        if bundle is None:
            bundle = Bundle(
                job.bundle_id, job.pool, seat.worker, seat.partition, seat.start_by_ms, seat.lease_id
            )
            bundle.purpose = LOOK_UP if job.phase is Phase.LOOKING_UP else RUN
            self.add(bundle)
        bundle.open[job.job_id] = job.attempt
        bundle.points += job.points
        bundle.work = job.work

    def renew_all(self, until: float) -> None:
        """Give every lease a full period: the shard has just been taken."""
        for bundle in self._bundles.values():
            bundle.lease_until = until

    def await_unread(self, now: Now, longest_s: Mapping[str, float]) -> None:
        """Give those that nobody has claimed the time that is left to claim them, after a taking.

        ``longest_s``: by pool the time there was; a clock that was set meanwhile does not make it longer.
        """
        for bundle in self._bundles.values():
            if not bundle.started:
                left = (bundle.start_by_ms - now.wall_ms) / 1000
                left = min(max(0.0, left), longest_s.get(bundle.pool, 0.0)) + START_MARGIN_MS / 1000
                bundle.lease_until = max(bundle.lease_until, now.seen + left)

    def _count(self, bundle: Bundle, change: int) -> None:
        key = (bundle.pool, bundle.worker)
        count = self._load.get(key, 0) + change
        if count:
            self._load[key] = count
        else:
            self._load.pop(key, None)


def bundle_id_of(jobs: Sequence[Job]) -> str:
    """Return an id that follows from the first attempt inside, hence is new each time."""
    return f"{jobs[0].job_id}.{jobs[0].attempt}"
