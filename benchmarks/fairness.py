"""Who is served while a pool is full: one who hurries, the lowest class, equal tenants. Does I/O.

One pool of sleepers with a backlog that one tenant has flooded. Three questions, one after the other, to the
same processes: are equal tenants served alike, how long does an interactive job wait that comes alone, and
does each class get the share of its weight while all of them have work waiting.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence

from shotbus.benchmarks.figures import Figure, Reference, Report, Table, Target, quantile
from shotbus.benchmarks.place import Place, another, begin, dispatching, with_pools
from shotbus.benchmarks.press import Kind, Press, fill, until_waiting
from shotbus.benchmarks.watch import Served, Watch, watching
from shotbus.broker.config import PoolConfig
from shotbus.producers.client import AsyncClient
from shotbus.schemas.ids import partition_of

POOL = "crowded"
FLOOD = 50
TENANTS = tuple(f"tenant-{number}" for number in range(10))
POINT_SECONDS = 0.01
CHUNK_SECONDS = 0.1
SLOTS = 4
ALLOWANCE_MS = 50.0
#: Points of a job by class: shares are of backend seconds, not of jobs.
_POINTS = {"interactive": 4, "production": 3, "experiment": 2, "bulk": 1}
_SETTINGS = PoolConfig(
    adapter="sleep",
    kind="none",
    slots=SLOTS,
    prefetch=1,
    bundle_seconds=CHUNK_SECONDS,
    bundle_jobs=64,
    seconds_per_point=POINT_SECONDS,
)


async def measure(place: Place, *, backlog: int, served: int, probes: int, share_seconds: int) -> Report:
    """Run the three questions.

    Args:
        place: which kind of bus.
        backlog: jobs that wait at the beginning.
        served: results over which tenants are compared; the backlog must hold out for so long.
        probes: interactive jobs that come one at a time.
        share_seconds: backend seconds over which classes are compared.

    """
    config = with_pools(place.config, {POOL: _SETTINGS})
    with another(place, config) as own:
        async with dispatching(own) as (roles, _, client), watching(client) as watch:
            await fill(client, _flooded(backlog))
            await until_waiting(client, POOL, backlog)
            begin(roles, own, "worker", "worker", "--pool", POOL)
            await asyncio.to_thread(roles.wait, "worker")
            await watch.until(lambda: len(watch.served) >= served)
            alike = list(watch.served)
            alone = await _probe(client, watch, probes)
            left = (await client.pool_state(POOL)).jobs
            shards = Counter(
                partition_of(one.job_id, client.session.topics.partitions) for one in watch.served
            )
            weights = {name: entry.weight for name, entry in config.classes.items()}
            shares = await _shares(client, watch, weights, share_seconds)
    name = f"fairness {place.name}"
    figures = [
        *_waits(name, alone),
        Figure(name, "jobs still waiting behind them", left, "jobs", target=Target("at least", 1)),
        _share(name, "bulk", weights, shares),
        _tenants(name, alike),
    ]
    note = (
        f"{name}: {backlog:,} bulk jobs of {POINT_SECONDS * 1e3:g} ms at the beginning, {SLOTS} slots, "
        f"chunks of {CHUNK_SECONDS * 1e3:g} ms; waits are those that results carry"
    )
    return Report(figures, [note], [_classes(name, weights, shares), _shards(name, shards)])


def _flooded(backlog: int) -> dict[Kind, int]:
    """Return equal tenants of whom the first wants so many times more than each of the others."""
    each = backlog // (FLOOD + len(TENANTS) - 1)
    wanted = {_kind("bulk", tenant): each for tenant in TENANTS}
    wanted[_kind("bulk", TENANTS[0])] = backlog - each * (len(TENANTS) - 1)
    return wanted


def _kind(priority: str, tenant: str) -> Kind:
    return Kind(POOL, priority, tenant, POINT_SECONDS, _POINTS[priority])


async def _probe(client: AsyncClient, watch: Watch, probes: int) -> list[Served]:
    """Send interactive jobs at random times, whether or not the one before has been served.

    Were the next one sent only then, one that is stuck would stand for all that should have come meanwhile.
    """
    press = Press(client, Kind(POOL, "interactive", "in-a-hurry", POINT_SECONDS))
    gaps = random.Random(5)
    names = set()
    for _ in range(probes):
        await asyncio.sleep(gaps.uniform(0.0, 2 * CHUNK_SECONDS))
        (record,) = press.records(1)
        await client.session.bus.publish([record])
        names.add((record.key or b"").decode())
    await watch.until(lambda: all(map(watch.has, names)))
    return [one for one in watch.served if one.job_id in names]


async def _shares(
    client: AsyncClient, watch: Watch, weights: Mapping[str, float], seconds: float
) -> dict[str, float]:
    """Return the backend seconds that each class got while all of them had work waiting."""
    wanted = {_kind(name, "equal"): _enough(name, weights, seconds) for name in weights}
    before = len(watch.served)
    await fill(client, wanted)
    # Whoever is served has been admitted; by then the bundles from before are on their way out.
    await watch.until(lambda: {one.priority for one in watch.served[before:]} >= set(weights))
    first, enough = len(watch.served), watch.seconds + seconds
    await watch.until(lambda: watch.seconds >= enough)
    got = dict.fromkeys(weights, 0.0)
    for one in watch.served[first:]:
        got[one.priority] += one.ran
    return got


def _enough(name: str, weights: Mapping[str, float], seconds: float) -> int:
    """Return half as many jobs again as a class's share of the window takes, so that it does not run dry."""
    each = POINT_SECONDS * _POINTS[name]
    return int((1.5 * seconds * _due(name, weights) + 4 * SLOTS * CHUNK_SECONDS) / each)


def jain(amounts: Sequence[float]) -> float:
    """Return Jain's index: 1 for equal amounts, 1/n when one of n has everything (Jain et al., 1984)."""
    squares = len(amounts) * sum(amount * amount for amount in amounts)
    return sum(amounts) ** 2 / squares if squares else 0.0


def _classes(name: str, weights: Mapping[str, float], shares: Mapping[str, float]) -> Table:
    rows = [
        (one, f"{_due(one, weights):.2%}", f"{_got(one, shares):.2%}", f"{shares[one]:,.1f}")
        for one in weights
    ]
    return Table(f"{name}: shares of the classes", ("class", "weight", "served", "seconds"), tuple(rows))


def _shards(name: str, served: Mapping[int, int]) -> Table:
    rows = [(str(shard), f"{jobs:,}") for shard, jobs in sorted(served.items())]
    return Table(f"{name}: jobs served until the last interactive one", ("shard", "jobs"), tuple(rows))


def _waits(name: str, alone: Sequence[Served]) -> list[Figure]:
    waits = [one.waited * 1e3 for one in alone]
    whole = [(one.admitted + one.waited) * 1e3 for one in alone]
    chunk = Reference("one chunk + 50 ms", CHUNK_SECONDS * 1e3 + ALLOWANCE_MS)
    spread = f"p50 {quantile(waits, 0.5):.0f}, most {max(waits):.0f} of {len(waits)} jobs"
    return [
        Figure(
            name,
            "interactive, accepted to started, p95",
            quantile(waits, 0.95),
            "ms",
            chunk,
            Target("at most", 1),
            noise=spread,
        ),
        Figure(name, "interactive, published to started, p95", quantile(whole, 0.95), "ms"),
    ]


def _share(name: str, one: str, weights: Mapping[str, float], shares: Mapping[str, float]) -> Figure:
    due = Reference("its weight", 100 * _due(one, weights))
    target = Target("within", 0.9, 1.1)
    return Figure(name, f"{one}, share of backend seconds", 100 * _got(one, shares), "%", due, target)


def _due(one: str, weights: Mapping[str, float]) -> float:
    return weights[one] / sum(weights.values())


def _got(one: str, shares: Mapping[str, float]) -> float:
    return shares[one] / (sum(shares.values()) or 1.0)


def _tenants(name: str, alike: Sequence[Served]) -> Figure:
    seconds = dict.fromkeys(TENANTS, 0.0)
    for one in alike:
        seconds[one.tenant] += one.ran
    told = f"{min(seconds.values()):.1f} to {max(seconds.values()):.1f} s each, {len(alike):,} jobs"
    figure = f"Jain's index of {len(TENANTS)} equal tenants, one floods {FLOOD} times"
    return Figure(name, figure, jain(list(seconds.values())), "", target=Target("at least", 0.99), noise=told)
