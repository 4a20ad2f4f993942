"""What a pool loses when its neighbours are slow or dead: nothing, it should be. Does I/O.

The healthy pool alone and beside the two others take turns, each time with new processes on a bus of their
own; requests for the three pools come mixed, and all of them wait before the workers start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from shotbus.benchmarks.figures import Figure, Report, Target, paired
from shotbus.benchmarks.place import Place, another, begin, dispatching, with_pools
from shotbus.benchmarks.press import Kind, fill, until_waiting
from shotbus.benchmarks.watch import watching
from shotbus.broker.config import PoolConfig

HEALTHY, SLOW, DEAD = "healthy", "slow", "dead"
POINT_SECONDS = 0.01
SLOWER = 100
# Jobs of the healthy pool before and after those that are timed: starting up, running dry.
_MARGIN = 0.15
_KINDS = {
    HEALTHY: Kind(HEALTHY, seconds=POINT_SECONDS),
    SLOW: Kind(SLOW, seconds=POINT_SECONDS * SLOWER),
    DEAD: Kind(DEAD, seconds=POINT_SECONDS),
}


def _settings(bundle_jobs: int) -> PoolConfig:
    return PoolConfig(
        adapter="sleep",
        kind="none",
        slots=4,
        prefetch=1,
        bundle_seconds=0.1,
        bundle_jobs=bundle_jobs,
        # All three begin with the same estimate; that one is slow must be found out.
        seconds_per_point=POINT_SECONDS,
    )


# A stop waits for the chunk that runs: the slow pool's are of two jobs, which is two seconds.
_POOLS = {HEALTHY: _settings(64), SLOW: _settings(2), DEAD: _settings(64)}


async def measure(place: Place, *, jobs: int, neighbours: int, repeats: int) -> Report:
    """Time ``jobs`` jobs of the healthy pool, with and without ``neighbours`` jobs for each of the others."""
    own = int(jobs * (1 + 2 * _MARGIN))
    alone, beside = [], []
    for _ in range(repeats):
        alone.append(await _rate(place, {HEALTHY: own}, jobs))
        beside.append(await _rate(place, {HEALTHY: own, SLOW: neighbours, DEAD: neighbours}, jobs))
    name = f"pools {place.name}"
    figure: Figure = paired(
        name, "healthy pool, jobs", "1/s", beside, alone, against="alone", target=Target("at least", 0.95)
    )
    note = (
        f"{name}: {jobs:,} jobs of {POINT_SECONDS * 1e3:g} ms timed; {neighbours:,} jobs wait for a pool "
        f"{SLOWER} times slower and as many for one that nobody serves"
    )
    return Report([figure], [note])


async def _rate(place: Place, wanted: Mapping[str, int], jobs: int) -> float:
    """Return the healthy pool's jobs a second, by the times of the results on the bus."""
    first = int(jobs * _MARGIN)
    with another(place, with_pools(place.config, _POOLS)) as own:
        async with dispatching(own) as (roles, _, client), watching(client) as watch:
            await fill(client, {_KINDS[pool]: count for pool, count in wanted.items()})
            for pool, count in wanted.items():
                await until_waiting(client, pool, count)
            served = [pool for pool in wanted if pool != DEAD]
            for pool in served:
                begin(roles, own, pool, "worker", "--pool", pool)
            await asyncio.to_thread(roles.wait, *served)
            await watch.until(lambda: watch.by_pool[HEALTHY] > first + jobs)
            times = sorted(one.at for one in watch.served if one.pool == HEALTHY)
    return jobs / (times[first + jobs] - times[first])
