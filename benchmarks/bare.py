"""A bare process that calls Aer with no broker around it: what the sweep benchmark compares with. Runs Aer.

``python -m shotbus.benchmarks.bare`` reads one JSON command a line from standard input and answers each
with one line. The circuit is parsed and transpiled once, with the options that shotbus's Aer pool uses.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from qiskit import QuantumCircuit, qasm3, transpile
from qiskit_aer import AerSimulator

from shotbus.benchmarks.ansatz import SEED_STRIDE, text
from shotbus.benchmarks.ansatz import points as angles
from shotbus.schemas.packed import Array

CHUNK = 256


class Bare:
    """One simulator, one circuit, one thread."""

    def __init__(self) -> None:
        self._backend = AerSimulator(max_parallel_threads=1)
        self._parsed: QuantumCircuit = qasm3.loads(text())
        self._circuit = self._compile(self._parsed)

    def batch(self, *, start: int, stop: int, total: int, shots: int) -> dict[str, Any]:
        """Run rows ``start`` to ``stop`` in chunks; returns seconds without and of reading counts."""
        matrix = angles(total)
        run = read = 0.0
        for first in range(start, stop, CHUNK):
            rows = matrix[first : min(first + CHUNK, stop)]
            began = time.perf_counter()
            result = self._run(rows, shots, seed=1 + SEED_STRIDE * first)
            ran = time.perf_counter()
            counts = [result.get_counts(number) for number in range(len(rows))]
            read += time.perf_counter() - ran
            run += ran - began
            if len(counts) != len(rows) or any(sum(one.values()) != shots for one in counts):
                raise RuntimeError("Aer answered with another number of points or shots")
        return {"points": stop - start, "run_seconds": run, "read_seconds": read}

    def naive(self, *, points: int, shots: int) -> dict[str, Any]:
        """Bind, transpile and run each point, as a first program does; returns the seconds."""
        matrix = angles(points)
        began = time.perf_counter()
        for row in matrix:
            bound = self._parsed.assign_parameters(
                {parameter: row[int(parameter.name[1:])] for parameter in self._parsed.parameters}
            )
            self._backend.run(self._compile(bound), shots=shots, seed_simulator=1).result().get_counts()
        return {"points": points, "run_seconds": time.perf_counter() - began}

    def _compile(self, circuit: QuantumCircuit) -> QuantumCircuit:
        return transpile(circuit, self._backend, optimization_level=1, seed_transpiler=0)

    def _run(self, rows: Array, shots: int, *, seed: int) -> Any:
        values = {
            parameter: rows[:, int(parameter.name[1:])].tolist() for parameter in self._circuit.parameters
        }
        job = self._backend.run([self._circuit], parameter_binds=[values], shots=shots, seed_simulator=seed)
        return job.result()


def main() -> None:
    """Answer commands until standard input ends."""
    bare = Bare()
    work: dict[str, Callable[..., dict[str, Any]]] = {"batch": bare.batch, "naive": bare.naive}
    _say({"ready": True})
    for line in sys.stdin:
        command = json.loads(line)
        _say(work[command.pop("do")](**command))


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
