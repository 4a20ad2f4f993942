"""A sweep through two of shotbus's pools against bare Aer processes and the naive loop, in turns. Does I/O.

They take turns (aer, bare, vector, naive, aer, …) and are compared pair by pair: the speed of a machine
drifts more within a minute than the difference that is looked for.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from shotbus.benchmarks import ansatz
from shotbus.benchmarks.figures import Figure, Reference, Report, Target, paired
from shotbus.benchmarks.place import Place, connected, serving
from shotbus.producers.client import AsyncClient
from shotbus.producers.result import JobResult

PROCESSES = 2
_NAME = "sweep embedded"
_WARMING = 1_024
_PATIENCE_SECONDS = 900.0


class BareProcess:
    """A child of :mod:`shotbus.benchmarks.bare`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "shotbus.benchmarks.bare"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, command: dict[str, Any]) -> None:
        """Give it something to do."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for its answer. Raises RuntimeError when it has died."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the bare process ended with {self._process.wait()}")
        told: dict[str, Any] = json.loads(line)
        return told

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def _bare_processes(count: int) -> Iterator[list[BareProcess]]:
    children = [BareProcess() for _ in range(count)]
    try:
        for child in children:
            child.answer()
        yield children
    finally:
        for child in children:
            child.close()


@dataclass(slots=True)
class _Speeds:
    """Points a second, turn by turn: two pools, bare Aer without and with counts, the naive loop."""

    ours: list[float] = field(default_factory=list)
    vector: list[float] = field(default_factory=list)
    runs: list[float] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)
    naives: list[float] = field(default_factory=list)


async def measure(place: Place, *, points: int, shots: int, repeats: int, naive_points: int) -> Report:
    """Sweep ``points`` points ``repeats`` times each way."""
    speeds = _Speeds()
    with serving(place, "aer", "vector"), _bare_processes(PROCESSES) as children:
        async with connected(place) as client:
            warming = min(_WARMING, points)
            for pool in ("aer", "vector"):
                await _ours(client, warming, shots, pool)
            await asyncio.to_thread(_theirs, children, warming, shots)
            for _ in range(repeats):
                speeds.ours.append(await _ours(client, points, shots, "aer"))
                run, read = await asyncio.to_thread(_theirs, children, points, shots)
                speeds.runs.append(run)
                speeds.reads.append(read)
                speeds.vector.append(await _ours(client, points, shots, "vector"))
                speeds.naives.append(await asyncio.to_thread(_naive, children[0], naive_points, shots))
    return _report(points, naive_points, speeds)


async def _ours(client: AsyncClient, points: int, shots: int, pool: str) -> float:
    """Return points a second, from the call to the last shard's counts and the final reduction."""
    circuit, bindings = ansatz.text(), ansatz.points(points)
    # A fresh seed each time: an equal sweep would be served from the cache.
    seed = time.time_ns() % 2**31
    began = time.perf_counter()
    sweep = await client.sweep(circuit, bindings, shots=shots, seed=seed, backend=pool, intent="benchmark")
    async with asyncio.timeout(_PATIENCE_SECONDS):
        results = [shard async for shard in sweep]
        final = await sweep.result()
    seconds = time.perf_counter() - began
    done = sum(shard.points for shard in results if isinstance(shard, JobResult))
    if done != points or final.succeeded != final.shards or final.shots != points * shots:
        raise RuntimeError(f"the sweep answered {done} of {points} points with {final.shots} shots")
    return points / seconds


def _theirs(children: Sequence[BareProcess], points: int, shots: int) -> tuple[float, float]:
    """Return points a second of all children together: calling Aer alone, and with reading the counts."""
    cuts = [points * number // len(children) for number in range(len(children) + 1)]
    for child, start, stop in zip(children, cuts, cuts[1:], strict=False):
        child.tell({"do": "batch", "start": start, "stop": stop, "total": points, "shots": shots})
    answers = [child.answer() for child in children]
    run = max(answer["run_seconds"] for answer in answers)
    both = max(answer["run_seconds"] + answer["read_seconds"] for answer in answers)
    return points / run, points / both


def _naive(child: BareProcess, points: int, shots: int) -> float:
    child.tell({"do": "naive", "points": points, "shots": shots})
    return float(points / child.answer()["run_seconds"])


def _report(points: int, sample: int, speeds: _Speeds) -> Report:
    bare, naive = f"{PROCESSES} bare processes, Aer calls alone", "naive loop, one process"
    figures = [
        _compared("points", speeds.ours, speeds.runs, bare, at_least=0.8),
        _compared("points", speeds.ours, speeds.naives, naive, at_least=30.0),
        _compared("points, pool vector", speeds.vector, speeds.runs, bare, at_least=3.0),
    ]
    with_counts = Reference("the bare processes with get_counts()", statistics.median(speeds.reads))
    figures.append(Figure(_NAME, "points", statistics.median(speeds.ours), "1/s", with_counts))
    sides = f"{PROCESSES} workers' children against {PROCESSES} bare processes, all warmed"
    size = f"{points:,} points of an {ansatz.QUBITS}-qubit, {ansatz.PARAMETERS}-parameter circuit"
    loop = f"the naive loop (bind, transpile, run): {sample} points a turn, extrapolated by the point"
    return Report(figures, [f"{_NAME}: {size}; {sides}", f"{_NAME}: {loop}"])


def _compared(
    what: str, ours: Sequence[float], theirs: Sequence[float], against: str, *, at_least: float
) -> Figure:
    return paired(_NAME, what, "1/s", ours, theirs, against=against, target=Target("at least", at_least))
