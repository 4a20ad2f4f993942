"""A wall clock that is set back: who waits for so long, and not until then, must not wait for that too. Pure.

Repeats and questions to providers wait for a length of time, kept as the wall time at which it is over, since
that outlives a restart. Time seen would not do: it stands still while a shard is behind.
"""

from __future__ import annotations

from shotbus.broker.dispatcher.shard import Shard
from shotbus.broker.dispatcher.states import Phase
from shotbus.broker.machine import Now

_FOR_SO_LONG = frozenset({Phase.RETRYING, Phase.RECONCILING})
# A clock that is corrected by less is slewed, not set.
_LEAST_MS = 1_000
# Of what was put off it is not known whether for so long or until then: what was near goes on.
_SOON_MS = 60_000


class SetBack:
    """Follows the wall clock of one shard."""

    def __init__(self, shard: Shard) -> None:
        self._shard, self._wall_ms = shard, 0

    def heed(self, now: Now) -> None:
        """Look at the clock; called before anything is decided at ``now``."""
        before, self._wall_ms = self._wall_ms, now.wall_ms
        if now.wall_ms < before - _LEAST_MS:
            self._shift(before, before - now.wall_ms)

    def _shift(self, before: int, by_ms: int) -> None:
        shard = self._shard
        for key in shard.agenda.timed():
            job = shard.jobs.glance(key)
            soon = job.phase is Phase.DEFERRED and job.not_before_ms <= before + _SOON_MS
            if soon or job.phase in _FOR_SO_LONG:
                shard.set_timer(shard.jobs.at(key), job.not_before_ms - by_ms)
                shard.touch(job.job_id.encode())
