"""Idle submit to result of one no-op job at a time, and where the time goes. Does I/O.

Between two jobs the client waits 5 to 25 ms (seeded), so that the system is idle and no rhythm of the
benchmark can fall into step with a timer of the broker's.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time

from shotbus.benchmarks.figures import Figure, Report, Table, Target, quantile
from shotbus.benchmarks.place import TINY, Place, connected, serving
from shotbus.broker.stages import STAGES
from shotbus.producers.client import AsyncClient

TARGETS_MS = {"embedded": 15.0, "kafka": 30.0}
_WARMING = 20
_PATIENCE_SECONDS = 30.0


async def measure(place: Place, *, jobs: int) -> Report:
    """Send ``jobs`` jobs, each after the result of the one before."""
    with serving(place, "noop"):
        async with connected(place) as client:
            for _ in range(min(_WARMING, jobs)):
                await _one(client)
            return _report(place, *await _sample(client, jobs))


async def _sample(client: AsyncClient, jobs: int) -> tuple[list[float], list[dict[str, float]]]:
    """Return the milliseconds of each job, and its seconds by stage."""
    gaps = random.Random(7)
    times, stages = [], []
    for _ in range(jobs):
        await asyncio.sleep(gaps.uniform(0.005, 0.025))
        began = time.perf_counter()
        told = await _one(client)
        times.append((time.perf_counter() - began) * 1e3)
        stages.append(told)
    return times, stages


async def _one(client: AsyncClient) -> dict[str, float]:
    job = await client.submit(TINY, backend="noop", shots=1, intent="benchmark")
    result = await job.result(_PATIENCE_SECONDS)
    timings: dict[str, float] = result.metadata["timings"]
    return timings


def _report(place: Place, times: list[float], stages: list[dict[str, float]]) -> Report:
    name = f"latency {place.name}"
    target = Target("below", TARGETS_MS[place.name])
    figures = [
        Figure(name, "submit to result, p50", statistics.median(times), "ms", target=target),
        Figure(name, "submit to result, p95", quantile(times, 0.95), "ms"),
    ]
    note = (
        f"{name}: stages that cross processes (admit, lease) are differences of wall clocks in whole "
        "milliseconds; queue and execute of a no-op are below that and read as zero"
    )
    return Report(figures, [note], [_stage_table(name, stages)])


def _stage_table(name: str, stages: list[dict[str, float]]) -> Table:
    rows = []
    for stage in STAGES:
        spent = [one.get(stage.name, 0.0) * 1e3 for one in stages]
        if any(spent):
            middle, high = statistics.median(spent), quantile(spent, 0.95)
            rows.append((stage.name, stage.where, f"{middle:.2f}", f"{high:.2f}", stage.meaning))
    return Table(f"{name}: stages", ("stage", "where", "p50 ms", "p95 ms", "meaning"), tuple(rows))
