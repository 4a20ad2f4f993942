"""Whether estimates hold: when will this job end, asked of each that waits, and when did it. Does I/O.

What a shard answers about a waiting job has an interval in which the job will end with a probability of 80 %.
An answer without one is counted as such, and the target is missed.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from shotbus.benchmarks.arrivals import Arrival, arrivals
from shotbus.benchmarks.figures import Figure, Report, Target
from shotbus.benchmarks.place import Place, another, begin, dispatching, with_pools
from shotbus.benchmarks.press import Kind, Press
from shotbus.benchmarks.watch import Served, Watch, watching
from shotbus.broker.config import PoolConfig
from shotbus.producers.asking import Wish, ask
from shotbus.producers.client import AsyncClient
from shotbus.schemas.ids import partition_of

POOL = "queueing"
SLOTS = 4
MEAN_SECONDS = 0.04
LOAD = 0.9
SEED = 12
#: Seconds between a job's arrival and the question where it is.
_ASKED_AFTER = (0.02, 0.3)
_PATIENCE_SECONDS = 30.0
_SETTINGS = PoolConfig(
    adapter="sleep",
    kind="none",
    slots=SLOTS,
    prefetch=1,
    bundle_jobs=2,
    bundle_seconds=0.05,
    seconds_per_point=MEAN_SECONDS,
)


class Interval(NamedTuple):
    """When a shard said that a waiting job will end: wall times, milliseconds."""

    low: float
    mid: float
    high: float


async def measure(place: Place, *, jobs: int) -> Report:
    """Play a load of ``jobs`` jobs and compare what was said with what happened."""
    load = arrivals(jobs, slots=SLOTS, mean_seconds=MEAN_SECONDS, load=LOAD, seed=SEED)
    with another(place, with_pools(place.config, {POOL: _SETTINGS})) as own:
        async with dispatching(own) as (roles, _, client), watching(client) as watch:
            begin(roles, own, "worker", "worker", "--pool", POOL)
            await asyncio.to_thread(roles.wait, "worker")
            await _warm(client, watch)
            answers = await _play(client, watch, load)
    return _report(place, answers, {one.job_id: one for one in watch.served})


async def _warm(client: AsyncClient, watch: Watch) -> None:
    """Let every slot start its process: the load begins with a pool that is as it will stay."""
    press = Press(client, Kind(POOL, seconds=MEAN_SECONDS))
    await press.send_circuit()
    await client.session.bus.publish(press.records(8 * SLOTS))
    await watch.until(lambda: len(watch.served) >= 8 * SLOTS)


async def _play(
    client: AsyncClient, watch: Watch, load: Sequence[Arrival]
) -> dict[str, Mapping[str, Any] | None]:
    """Publish the load in time; return by job what its shard said of it, None where it did not wait."""
    answers: dict[str, Mapping[str, Any] | None] = {}
    delays = random.Random(SEED)
    wanted = len(watch.served) + len(load)
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        group.create_task(watch.until(lambda: len(watch.served) >= wanted))
        for arrival in load:
            await asyncio.sleep(max(0.0, began + arrival.at - time.monotonic()))
            kind = Kind(POOL, arrival.priority, arrival.tenant, arrival.seconds)
            (record,) = Press(client, kind).records(1)
            await client.session.bus.publish([record])
            delay, name = delays.uniform(*_ASKED_AFTER), (record.key or b"").decode()
            group.create_task(_ask(client, name, arrival.tenant, delay, answers))
    return answers


async def _ask(
    client: AsyncClient, name: str, tenant: str, delay: float, answers: dict[str, Mapping[str, Any] | None]
) -> None:
    await asyncio.sleep(delay)
    session = client.session
    places = [partition_of(name, session.topics.partitions)]
    ((answer,),) = await ask(
        session, [Wish("locate", "job", name, tenant)], places, timeout=_PATIENCE_SECONDS
    )
    waits = answer["sub_status"] == "WAITING_FOR_SLOT"
    answers[name] = answer if waits else None


def interval_of(answer: Mapping[str, Any]) -> Interval | None:
    """Read the interval from a shard's answer; None where it has none."""
    told = [float(answer.get(f"eta_{name}_ms", 0)) for name in Interval._fields]
    return Interval(*told) if all(value > 0 for value in told) else None


def _report(
    place: Place, answers: Mapping[str, Mapping[str, Any] | None], served: Mapping[str, Served]
) -> Report:
    name = f"eta {place.name}"
    waiting = {job: answer for job, answer in answers.items() if answer is not None}
    told = {job: found for job, answer in waiting.items() if (found := interval_of(answer)) is not None}
    silent = len(waiting) - len(told)
    pairs = [(interval, served[job]) for job, interval in told.items()]
    waited = [one.waited * 1e3 for one in served.values()]
    figures = [
        Figure(name, "jobs that waited when they were asked for", len(waiting), "jobs"),
        Figure(name, "answers without an interval", silent, "jobs", target=Target("exactly", 0)),
        _coverage(name, pairs),
        Figure(name, "middle of the interval, median error", _error(pairs), "ms"),
    ]
    note = (
        f"{name}: {len(answers):,} jobs of {MEAN_SECONDS * 1e3:g} ms on {SLOTS} slots at {LOAD:.0%} of their "
        f"capacity, seed {SEED}; a job waited {statistics.median(waited):.0f} ms in the middle, "
        f"{max(waited):.0f} at most"
    )
    return Report(figures, [note])


def _coverage(name: str, pairs: Sequence[tuple[Interval, Served]]) -> Figure:
    below = sum(job.at * 1e3 < interval.low for interval, job in pairs)
    above = sum(job.at * 1e3 > interval.high for interval, job in pairs)
    inside = 100 * (len(pairs) - below - above) / len(pairs) if pairs else 0.0
    spread = f"{below} earlier, {above} later than said" if pairs else "nothing was said"
    target = Target("within", 70, 90)
    return Figure(name, "ends inside the 80 % interval", inside, "%", target=target, noise=spread)


def _error(pairs: Iterable[tuple[Interval, Served]]) -> float:
    errors = [abs(job.at * 1e3 - interval.mid) for interval, job in pairs]
    return statistics.median(errors) if errors else 0.0
