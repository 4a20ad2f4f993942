"""The benchmarks by name, with the sizes of a full, a quick and a tiny run. Composes; I/O is theirs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shotbus.benchmarks import latency, load, memory, noop, sweep, traffic
from shotbus.benchmarks.figures import Report
from shotbus.benchmarks.place import a_place

Measure = Callable[..., Coroutine[Any, Any, Report]]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark: ``sizes`` are the arguments of ``measure`` by size of run."""

    measure: Measure
    sizes: Mapping[str, Mapping[str, int]]
    on_kafka: bool


BENCHMARKS: Mapping[str, Benchmark] = {
    "sweep": Benchmark(
        sweep.measure,
        {
            "full": {"points": 10_240, "shots": 1_024, "repeats": 3, "naive_points": 16},
            "quick": {"points": 2_560, "shots": 1_024, "repeats": 2, "naive_points": 8},
            "tiny": {"points": 32, "shots": 16, "repeats": 1, "naive_points": 1},
        },
        on_kafka=False,
    ),
    "noop": Benchmark(
        noop.measure,
        {
            "full": {"jobs": 20_000, "repeats": 3},
            "quick": {"jobs": 5_000, "repeats": 2},
            "tiny": {"jobs": 300, "repeats": 1},
        },
        on_kafka=True,
    ),
    "latency": Benchmark(
        latency.measure,
        {"full": {"jobs": 300}, "quick": {"jobs": 100}, "tiny": {"jobs": 5}},
        on_kafka=True,
    ),
    "memory": Benchmark(
        memory.measure,
        {"full": {"jobs": 200_000}, "quick": {"jobs": 20_000}, "tiny": {"jobs": 600}},
        on_kafka=False,
    ),
    "bytes": Benchmark(
        traffic.measure,
        {
            "full": {"points": 2_048, "shots": 1_024},
            "quick": {"points": 512, "shots": 1_024},
            "tiny": {"points": 16, "shots": 16},
        },
        on_kafka=False,
    ),
}


def plan(names: Sequence[str], kafka: str | None) -> list[tuple[str, str | None]]:
    """Return (benchmark, Kafka URL or None for embedded) in the order of the table."""
    chosen = [name for name in BENCHMARKS if not names or name in names]
    runs: list[tuple[str, str | None]] = [(name, None) for name in chosen]
    if kafka:
        runs += [(name, kafka) for name in chosen if BENCHMARKS[name].on_kafka]
    return runs


async def run(name: str, kafka: str | None, size: str) -> Report:
    """Run one benchmark at a place of its own."""
    benchmark, before = BENCHMARKS[name], load.spent()
    with a_place(kafka) as place:
        report = await benchmark.measure(place, **benchmark.sizes[size])
    around = load.told(before, load.spent(), kafka=kafka is not None)
    report.notes.append(f"{name} {place.name}: {around}")
    return report
