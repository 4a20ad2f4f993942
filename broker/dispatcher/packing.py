"""Which waiting jobs go to which worker in which bundle. Pure: it pops the queue and changes nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from shotbus.broker.config import PoolConfig
from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.messages import Credit
from shotbus.broker.dispatcher.waiting import WaitingQueue

MAX_BUNDLE_BYTES = 524_288
# Work shorter than what a bundle costs to send is not spread over more bundles.
LEAST_BUNDLE_SECONDS = 0.002


def pack(
    take: Callable[[], Job | None], queue: WaitingQueue, settings: PoolConfig, free: Sequence[Credit]
) -> Iterator[tuple[Credit, list[Job]]]:
    """Yield bundles while there is work and room; the emptiest worker first, never more than its credits.

    ``take`` gives the job of ``queue`` whose turn it is, None when none may go.
    """
    room = {credit: credit.bundles for credit in free if credit.bundles > 0}
    while queue.length and room:
        credit = max(room, key=lambda one: (room[one], one.worker))
        share = max(-(-queue.length // sum(room.values())), _least(queue))
        jobs = _take(take, settings, share)
        if not jobs:
            return
        yield credit, jobs
        room[credit] -= 1
        if not room[credit]:
            del room[credit]


def _least(queue: WaitingQueue) -> int:
    """Return how many jobs a bundle may hold before it is worth splitting: short ones travel together."""
    return int(LEAST_BUNDLE_SECONDS * queue.length / queue.seconds) if queue.seconds else 1


def _take(take: Callable[[], Job | None], settings: PoolConfig, share: int) -> list[Job]:
    """Pop one bundle: bounded by count, estimated time, bytes, and an even share of the backlog."""
    jobs: list[Job] = []
    seconds, size = 0.0, 0
    most = min(settings.bundle_jobs, max(1, share))
    while len(jobs) < most and seconds < settings.bundle_seconds and size < MAX_BUNDLE_BYTES:
        job = take()
        if job is None:
            break
        jobs.append(job)
        seconds += job.cost
        size += job.bytes_in
    return jobs
