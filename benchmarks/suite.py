"""The benchmarks by name, with the sizes of a full, a quick and a tiny run. Composes; I/O is theirs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shotbus.benchmarks import (
    backlog,
    calibrations,
    eta,
    fairness,
    latency,
    load,
    memory,
    noop,
    pools,
    sweep,
    traffic,
)
from shotbus.benchmarks.figures import Report
from shotbus.benchmarks.place import a_place

Measure = Callable[..., Coroutine[Any, Any, Report]]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark: ``sizes`` are the arguments of ``measure`` by size of run.

    ``scaled`` names those that count what ``--scale`` may make fewer of. What is only ``on_request`` takes
    so long that it is left out of a run that names nothing.
    """

    measure: Measure
    sizes: Mapping[str, Mapping[str, int]]
    on_kafka: bool
    scaled: tuple[str, ...] = ("jobs",)
    on_request: bool = False


BENCHMARKS: Mapping[str, Benchmark] = {
    "sweep": Benchmark(
        sweep.measure,
        {
            "full": {"points": 10_240, "shots": 1_024, "repeats": 3, "naive_points": 16},
            "quick": {"points": 2_560, "shots": 1_024, "repeats": 2, "naive_points": 8},
            "tiny": {"points": 32, "shots": 16, "repeats": 1, "naive_points": 1},
        },
        on_kafka=False,
        scaled=("points",),
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
        scaled=("points",),
    ),
    "fairness": Benchmark(
        fairness.measure,
        {
            "full": {"backlog": 100_000, "served": 8_000, "probes": 200, "share_seconds": 120},
            "quick": {"backlog": 20_000, "served": 2_000, "probes": 50, "share_seconds": 40},
            "tiny": {"backlog": 1_200, "served": 100, "probes": 2, "share_seconds": 2},
        },
        on_kafka=True,
        scaled=("backlog", "served", "probes", "share_seconds"),
        on_request=True,
    ),
    "pools": Benchmark(
        pools.measure,
        {
            "full": {"jobs": 4_000, "neighbours": 20_000, "repeats": 3},
            "quick": {"jobs": 2_000, "neighbours": 5_000, "repeats": 1},
            "tiny": {"jobs": 100, "neighbours": 100, "repeats": 1},
        },
        on_kafka=True,
        scaled=("jobs", "neighbours"),
        on_request=True,
    ),
    "backlog": Benchmark(
        backlog.measure,
        {
            "full": {
                "jobs": 1_000_000,
                "few": 10_000,
                "finished": 7_500,
                "first": 900,
                "live": 100_000,
                "repeats": 7,
            },
            "quick": {
                "jobs": 50_000,
                "few": 10_000,
                "finished": 5_000,
                "first": 600,
                "live": 20_000,
                "repeats": 1,
            },
            "tiny": {"jobs": 2_000, "few": 500, "finished": 200, "first": 0, "live": 300, "repeats": 1},
        },
        on_kafka=True,
        # The reference stays what it is: fewer than its jobs cost too little to be measured.
        scaled=("jobs", "live"),
        on_request=True,
    ),
    "eta": Benchmark(
        eta.measure,
        {"full": {"jobs": 3_000}, "quick": {"jobs": 800}, "tiny": {"jobs": 120}},
        on_kafka=True,
        on_request=True,
    ),
    "calibrations": Benchmark(
        calibrations.measure,
        {
            "full": {"circuits": 10, "walks": 4},
            "quick": {"circuits": 3, "walks": 4},
            "tiny": {"circuits": 1, "walks": 1},
        },
        on_kafka=False,
        scaled=("circuits",),
        on_request=True,
    ),
}


def plan(names: Sequence[str], kafka: str | None) -> list[tuple[str, str | None]]:
    """Return (benchmark, Kafka URL or None for embedded) in the order of the table."""
    chosen = [name for name, one in BENCHMARKS.items() if name in names or not (names or one.on_request)]
    runs: list[tuple[str, str | None]] = [(name, None) for name in chosen]
    if kafka:
        runs += [(name, kafka) for name in chosen if BENCHMARKS[name].on_kafka]
    return runs


def sizes(name: str, size: str, scale: float = 1.0) -> dict[str, int]:
    """Return the arguments of a benchmark, those that count its load multiplied by ``scale``, at least 1."""
    benchmark = BENCHMARKS[name]
    return {
        key: max(1, round(value * scale)) if key in benchmark.scaled else value
        for key, value in benchmark.sizes[size].items()
    }


async def run(name: str, kafka: str | None, size: str, scale: float = 1.0) -> Report:
    """Run one benchmark at a place of its own."""
    before = load.spent()
    with a_place(kafka) as place:
        report = await BENCHMARKS[name].measure(place, **sizes(name, size, scale))
    around = load.told(before, load.spent(), kafka=kafka is not None)
    report.notes.append(f"{name} {place.name}: {around}")
    return report
