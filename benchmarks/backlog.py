"""What a huge backlog costs a dispatcher: memory, CPU a job, the time to be back after a death. Does I/O.

Costs are CPU seconds of the dispatcher's process: what else the machine does changes them less than times.
The same is measured with few jobs waiting, several times with new processes, and the median of those is the
reference.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from shotbus.benchmarks.figures import Figure, Reference, Report, Target
from shotbus.benchmarks.place import Place, another, begin, dispatching, with_pools
from shotbus.benchmarks.press import Kind, fill, until_waiting
from shotbus.benchmarks.usage import cpu_seconds, resident_bytes
from shotbus.benchmarks.watch import Watch, watching
from shotbus.broker.bus.base import Bus, TopicPartition
from shotbus.broker.config import PoolConfig
from shotbus.deploy.cluster import Cluster, Role
from shotbus.producers.client import AsyncClient

TARGET_MB = 400.0
TARGET_SECONDS = 5.0
DEARER = 1.2
_MB = 1e6
_LONGER = 4
_RUSH, _STEADY = "rush", "steady"
_POOLS = {
    # What is measured is the dispatcher. A thousand jobs are with the worker, no more: of those that are
    # there when measuring begins, the forwarding is over.
    _RUSH: PoolConfig(
        adapter="noop",
        kind="none",
        slots=2,
        prefetch=1,
        bundle_jobs=256,
        bundle_seconds=0.05,
        seconds_per_point=0.000_02,
    ),
    # Slow enough that hardly any of the jobs is gone by the time of the restart.
    _STEADY: PoolConfig(adapter="sleep", kind="none", slots=2, bundle_seconds=0.1, seconds_per_point=0.05),
}


# The name under which a dispatcher comes back: on Kafka it need not wait for its predecessor's session.
_NAMED = ("--instance", "bench")


class Depth(NamedTuple):
    """What one backlog cost: CPU seconds a job, bytes, seconds of wall time."""

    taken_in: float
    finished: float
    base: int
    full: int
    peak: int
    filling: float
    publishing: float


class Returns(NamedTuple):
    """Seconds until the next dispatcher forwards, by how the one before ended.

    ``stranger``: after a kill too, but under no name; only where names matter.
    """

    killed: float
    stopped: float
    stranger: float | None


async def measure(
    place: Place, *, jobs: int, few: int, finished: int, first: int, live: int, repeats: int
) -> Report:
    """Measure a backlog.

    Args:
        place: which kind of bus.
        jobs: how many wait.
        few: how many wait in the reference, which is measured ``repeats`` times.
        finished: jobs over which forwarding and finishing is measured, in the reference; with twice ``first``
            at most ``few``.
        first: jobs that end before that begins; 0 measures from before the worker is there.
        live: waiting jobs in the restart.
        repeats: see ``few``.

    """
    reference = [await _depth(place, few, finished, first) for _ in range(repeats)]
    # Over more of them than there are in the reference: what happens now and then (a compaction, a worker
    # that arrives) is spread over as many as it should be.
    deep = await _depth(place, jobs, min(_LONGER * finished, jobs // 2), first)
    back = await _restarts(place, live)
    name = f"backlog {place.name}"
    figures = [
        *_costs(name, jobs, few, deep, reference),
        _memory(name, jobs, deep),
        *_returns(name, live, back),
    ]
    note = (
        f"{name}: published in {deep.publishing:.0f} s ({jobs / deep.publishing:,.0f}/s), all waiting after "
        f"{deep.filling:.0f} s; costs are CPU seconds of the dispatcher's process"
    )
    return Report(figures, [note])


async def _depth(place: Place, jobs: int, finished: int, first: int) -> Depth:
    """Fill a new dispatcher with ``jobs`` waiting jobs, then let some of them through."""
    with another(place, with_pools(place.config, _POOLS)) as own:
        async with dispatching(own) as (roles, dispatcher, client), watching(client) as watch:
            pid = dispatcher.process.pid
            base, spent, began = resident_bytes(pid), cpu_seconds(pid), time.perf_counter()
            await fill(client, {Kind(_RUSH): jobs})
            published = time.perf_counter() - began
            await until_waiting(client, _RUSH, jobs)
            waiting = time.perf_counter() - began
            taken_in = (cpu_seconds(pid) - spent) / jobs
            full = resident_bytes(pid)

            def start() -> None:
                begin(roles, own, "worker", "worker", "--pool", _RUSH)
                roles.wait("worker")

            cost = await _finishing(watch, pid, finished, first, start)
            return Depth(taken_in, cost, base, full, resident_bytes(pid, "VmHWM"), waiting, published)


async def _finishing(watch: Watch, pid: int, jobs: int, first: int, start: Callable[[], object]) -> float:
    """Return the CPU seconds of a job that is forwarded and finished, over so many of them.

    Not of the ``first``, if there are any: while workers arrive there is more to do than that. They are read
    in small steps, so that they do not take those along that are to be measured.
    """
    spent, before, step = cpu_seconds(pid), 0, max(100, first)
    await asyncio.to_thread(start)
    if first:
        await watch.until(lambda: len(watch.served) >= first, step=step)
        spent, before = cpu_seconds(pid), len(watch.served)
    await watch.until(lambda: len(watch.served) >= before + jobs, step=step)
    return (cpu_seconds(pid) - spent) / (len(watch.served) - before)


async def _restarts(place: Place, live: int) -> Returns:
    """Return the seconds until a new dispatcher forwards, after each way in which the one before ended."""
    stranger = None
    with another(place, with_pools(place.config, _POOLS)) as own:
        async with dispatching(own, *_NAMED) as (roles, first, client), watching(client) as watch:
            await fill(client, {Kind(_STEADY, seconds=0.05): live})
            await until_waiting(client, _STEADY, live)
            begin(roles, own, "worker", "worker", "--pool", _STEADY)
            await asyncio.to_thread(roles.wait, "worker")
            await watch.until(lambda: bool(watch.served))
            await asyncio.to_thread(first.kill)
            killed, second = await _until_forwarding(own, roles, client, "second", *_NAMED)
            await asyncio.to_thread(second.stop)
            stopped, third = await _until_forwarding(own, roles, client, "third", *_NAMED)
            if not place.embedded:
                await asyncio.to_thread(third.kill)
                stranger, _ = await _until_forwarding(own, roles, client, "fourth")
    return Returns(killed, stopped, stranger)


async def _until_forwarding(
    place: Place, roles: Cluster, client: AsyncClient, name: str, *arguments: str
) -> tuple[float, Role]:
    """Start a dispatcher where there is none; return after how long it forwards, and its process."""
    topic = client.session.topics.work(_STEADY)
    count = (await client.session.bus.topics())[topic]
    places = [TopicPartition(topic, number) for number in range(count)]
    ends = await client.session.bus.ends(places)
    began = time.perf_counter()
    role = begin(roles, place, name, "dispatcher", *arguments)
    await _first_record(client.session.bus, ends)
    seconds = time.perf_counter() - began
    await asyncio.to_thread(roles.wait, name)
    return seconds, role


async def _first_record(bus: Bus, starts: dict[TopicPartition, int]) -> None:
    """Return when there is a record behind ``starts``. Raises TimeoutError."""
    reader = bus.reader(starts)
    try:
        async with asyncio.timeout(600.0):
            while not await reader.poll(max_records=1, timeout=1.0):
                pass
    finally:
        await reader.close()


def _costs(name: str, jobs: int, few: int, deep: Depth, reference: Sequence[Depth]) -> list[Figure]:
    told = f"with {few:,}"
    figures = []
    for figure, ours, theirs in (
        ("taking a job in", deep.taken_in, [one.taken_in for one in reference]),
        ("forwarding and finishing one", deep.finished, [one.finished for one in reference]),
    ):
        spread = ", ".join(f"{one * 1e6:.0f}" for one in theirs)
        base = Reference(told, statistics.median(theirs) * 1e6)
        text = f"{figure}, {jobs:,} waiting"
        target = Target("at most", DEARER)
        figures.append(Figure(name, text, ours * 1e6, "µs CPU", base, target, noise=f"{told}: {spread}"))
    return figures


def _memory(name: str, jobs: int, deep: Depth) -> Figure:
    each = (deep.full - deep.base) / jobs
    told = f"{deep.base / _MB:.0f} empty, {deep.full / _MB:.0f} full: {each:,.0f} bytes a job"
    figure = f"dispatcher at its largest, {jobs:,} jobs waiting"
    return Figure(name, figure, deep.peak / _MB, "MB", target=Target("below", TARGET_MB), noise=told)


def _returns(name: str, live: int, back: Returns) -> list[Figure]:
    target = Target("below", TARGET_SECONDS)
    text = f"until the next one forwards, {live:,} live jobs"
    figures = [
        Figure(name, f"killed: {text}", back.killed, "s", target=target),
        Figure(name, f"stopped: {text}", back.stopped, "s", target=target),
    ]
    if back.stranger is not None:
        figures.append(Figure(name, f"killed, without an instance name: {text}", back.stranger, "s"))
    return figures
