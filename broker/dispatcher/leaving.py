"""Jobs that wait at a pool which takes no work, though nobody wishes it so, go where else they may. Pure.

A breaker that is open may close again in a moment: so there is a patience, ``routing.down_seconds``. And a
pool with a great backlog must not flood another at once: few are looked at in each micro-batch.
"""

from __future__ import annotations

from typing import Any

from shotbus.broker.dispatcher.fallback import Fallback
from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.prospects import stands_still
from shotbus.broker.dispatcher.shard import Shard
from shotbus.broker.dispatcher.tries import history_of
from shotbus.broker.machine import Now

#: Jobs looked at in a micro-batch, of all pools together.
MOST = 64
#: Those that could not go are looked at again after the patience, but not before this, seconds of time seen.
_LEAST_PAUSE = 1.0


class Leaving:
    """Moves the waiting jobs of a shard away from pools that have gone down."""

    def __init__(self, shard: Shard) -> None:
        self._shard, self._fallback = shard, Fallback(shard)

    def leave(self, now: Now) -> list[Any]:
        """Move as many jobs as a micro-batch may."""
        shard, commands, left = self._shard, list[Any](), MOST
        for pool in shard.stranded.pools:
            down = shard.guard.stalled(pool, now)
            if down is None or shard.standing.is_paused(pool):
                continue
            patience, moved = shard.config.routing.down_seconds, 0
            jobs = shard.stranded.look(
                pool, self._until_ms(down, now), now.seen, pause=max(_LEAST_PAUSE, patience)
            )
            why = f"{stands_still(shard, pool)}; it has taken no work for {down:.1f} s"
            for key in jobs:
                told = self._move(key, now, why)
                commands += told or ()
                moved += told is not None
                left -= 1
                if left <= 0:
                    break
            if moved:
                shard.guard.tell(pool, "waiting jobs go elsewhere", jobs=moved, why=why)
            if left <= 0:
                break
        return commands

    def _until_ms(self, down: float, now: Now) -> int | None:
        """Return which jobs go now, by when they are due; None is all of them.

        Whoever would have less time left than the patience when that is over does not wait for it.
        """
        patience = self._shard.config.routing.down_seconds
        rest = patience - down
        return None if rest <= 0 else now.wall_ms + int(1000 * (rest + patience))

    def _move(self, key: int, now: Now, why: str) -> list[Any] | None:
        """Have a job take the first step that helps; None when it stays."""
        shard = self._shard
        # Most that stay stay packed.
        seen = shard.jobs.peek(key)
        if self._doubtful(seen) or not self._fallback.may_leave(seen, now):
            return None
        job = shard.jobs.at(key)
        chain = job.chain
        # Should an earlier result be looked for in vain, nothing is wrong with it but that it waits.
        job.keep(waited=1)
        told = self._fallback.elsewhere(job, now, why)
        if told is None:
            told = self._fallback.step(job, now, why)
        if told is None:
            job.chain = chain
            shard.touch(job.job_id.encode())
        return told

    def _doubtful(self, job: Job) -> bool:
        """Tell whether a provider may have a job already: elsewhere it could be paid for twice."""
        return job.attempt > 0 and self._shard.is_paid(job.pool) and history_of(job).unsure
