"""When a job may run besides its pool's hours: its own windows, and what others have reserved. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from shotbus.broker.config import Config
from shotbus.broker.dispatcher.job import Job
from shotbus.broker.policy.candidates import Calendar
from shotbus.broker.policy.windows import Window

# Where no time is to be found, the windows are looked at again after a day.
_LOOK_AGAIN_MS = 86_400_000


class Hours:
    """The windows of one shard's jobs; most have none, and cost a comparison.

    Args:
        config: pools with their reservations.
        windows: compiled, by name.

    """

    def __init__(self, config: Config, windows: Mapping[str, Window]) -> None:
        self._windows = windows
        self._opens = {name: pool.access.hours for name, pool in config.pools.items() if pool.access.hours}
        texts = {name: pool.access.reservations for name, pool in config.pools.items()}
        self._reserved = {
            pool: [(tenant, windows[name]) for tenant, _, name in (one.rpartition("@") for one in reserved)]
            for pool, reserved in texts.items()
            if reserved
        }

    def never(self, job: Job, pool: str) -> bool:
        """Tell whether a job's windows leave it no time at which a pool is open and not somebody else's."""
        names = (job.extras or {}).get("windows", ())
        if not names:
            return False
        both = [*names, self._opens[pool]] if pool in self._opens else names
        needs = tuple(self._windows[name] for name in both if name in self._windows)
        return Calendar(needs, self._others(job, pool)).earliest(job.accepted_us // 1000) is None

    def _others(self, job: Job, pool: str) -> tuple[Window, ...]:
        return tuple(window for tenant, window in self._reserved.get(pool, ()) if tenant != job.tenant)

    def closed_until(self, job: Job, now_ms: int) -> int:
        """Return the time, wall milliseconds, before which a job may not go to its pool; 0 when it may."""
        extras = job.extras
        if not extras and not self._reserved:
            return 0
        # Its own pool's time is not that of the cheap ones before it.
        names = extras.get("windows", ()) if extras and "stages" not in extras else ()
        reserved = self._reserved.get(job.pool, ())
        if not names and not reserved:
            return 0
        needs = tuple(self._windows[name] for name in names if name in self._windows)
        opens = Calendar(needs, self._others(job, job.pool)).earliest(now_ms)
        if opens is None:
            return now_ms + _LOOK_AGAIN_MS
        return opens if opens > now_ms else 0
