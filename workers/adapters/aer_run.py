"""One Aer call for many rows: seeds, chunks, refusals. Runs simulations; no other I/O.

Randomness of a row follows from (job seed, measurement basis, increment of its shots, row) alone. Aer gives
row i of a call with seed S the seed S + 2113 i modulo 2**64 (pinned by a test), so a chunk that starts at row
r simply runs with S + 2113 r, and chunking, bundling and sharding never show in a result.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shotbus.broker.stages import Timings
from shotbus.schemas.errors import ShotbusError, fail
from shotbus.schemas.packed import Array
from shotbus.workers.adapters.increments import seed_offset
from shotbus.workers.entering import entering

#: Aer's own stride between the seeds of two rows.
SEED_STRIDE = 2113
MAX_ROWS = 4096
#: Upper bound of (row, outcome) pairs in one call: Qiskit holds each as a dictionary entry.
MAX_ENTRIES = 1_048_576
_PLACE = re.compile(r"\b(\d{1,7})[,:](\d{1,7})\b")
_NO_MEMORY = ("insufficient memory", "memalign", "bad_alloc")


def row_seed(seed: int, row: int, basis: int | None = None, increment: int = 0) -> int:
    """Return the signed 64-bit number that makes row ``row`` of a job the first row of an Aer call.

    Every measurement basis (None when sampling) and every increment but the first adds an offset of its own,
    the same for all jobs: whoever cuts a job by rows need not know whether it samples or estimates.
    """
    offset = 0
    if basis is not None:
        sequence = np.random.SeedSequence(0, spawn_key=(basis,))
        offset = int(sequence.generate_state(1, np.uint64)[0])
    value: int = (seed + offset + seed_offset(increment) + SEED_STRIDE * row) % 2**64
    return value - 2**64 if value >= 2**63 else value


def rows_a_call(shots: int, bits: int) -> int:
    """Return how many rows go into one call, so that its raw result stays bounded in memory."""
    outcomes = min(max(shots, 1), 1 << min(bits, 40))
    return max(1, min(MAX_ROWS, MAX_ENTRIES // outcomes))


@dataclass(frozen=True, slots=True)
class Rows:
    """What to run: a transpiled circuit and ``matrix`` (rows x parameters) under ``names``.

    ``increments`` are the shots of each call of a row; exact mode is one call of none.
    """

    circuit: Any
    names: tuple[str, ...]
    matrix: Array
    increments: tuple[int, ...]
    seed: int
    basis: int | None = None

    @property
    def shots(self) -> int:
        """Shots of a row, all its increments together."""
        return sum(self.increments)


def execute(backend: Any, rows: Rows, chunk: int, timings: Timings) -> Iterator[Iterator[Sequence[Any]]]:
    """Yield for every ``chunk`` rows, increment by increment, Aer's results (one a row).

    A call is made as its results are taken; its seconds are added to ``timings``. Raises ShotbusError:
    SB-1110 when memory does not suffice, SB-1220 for everything else Aer refuses.
    """
    for start in range(0, rows.matrix.shape[0], chunk):
        yield _increments(backend, rows, slice(start, start + chunk), timings)


def _increments(backend: Any, rows: Rows, chunk: slice, timings: Timings) -> Iterator[Sequence[Any]]:
    part = rows.matrix[chunk]
    for increment, shots in enumerate(rows.increments):
        entering("execute")
        begun = time.perf_counter()
        seed = row_seed(rows.seed, chunk.start, rows.basis, increment)
        result = _call(backend, rows, part, {"shots": max(shots, 1), "seed_simulator": seed})
        seconds = time.perf_counter() - begun
        inside = min(seconds, float(result.metadata.get("time_taken_execute", seconds)))
        timings.add("provider-submit", seconds - inside, bytes_in=part.nbytes)
        timings.add("execute", inside)
        yield result.results


def _call(backend: Any, rows: Rows, part: Array, options: Mapping[str, int]) -> Any:
    values = _bound(rows, part)
    count = part.shape[0]
    with refusals():
        if values:
            result = backend.run([rows.circuit], parameter_binds=[values], **options).result()
            # Parameters that cancelled out leave Aer nothing to bind: it then runs a single row.
            if len(result.results) != count and result.success:
                fixed = rows.circuit.assign_parameters({name: column[0] for name, column in values.items()})
                result = backend.run([fixed] * count, **options).result()
        else:
            result = backend.run([rows.circuit] * count, **options).result()
    _check(result, count)
    return result


def _bound(rows: Rows, part: Array) -> Mapping[Any, list[float]]:
    columns = {name: number for number, name in enumerate(rows.names)}
    return {
        parameter: part[:, columns[parameter.name]].tolist()
        for parameter in rows.circuit.parameters
        if parameter.name in columns
    }


def _check(result: Any, count: int) -> None:
    if result.success and len(result.results) == count:
        return
    status = str(result.status).lower()
    if any(sign in status for sign in _NO_MEMORY):
        raise out_of_memory()
    raise fail("SB-1220", "$.circuit", detail="the simulator could not run it", hint="try another method")


def out_of_memory() -> ShotbusError:
    """Return the refusal of a job that needs more memory than a worker process may take."""
    return fail(
        "SB-1110", "$.circuit", limit="memory of a worker process", hint="a bigger pool, fewer qubits"
    )


class refusals:  # noqa: N801 (a context manager, named as it reads in a with statement)
    """Turn whatever an SDK raises into a refusal that quotes nothing but a place.

    A parser's message may hold text of files it was made to open, so it never leaves this process.
    Rust panics arrive as BaseException, hence the breadth.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None or isinstance(error, ShotbusError | KeyboardInterrupt | SystemExit | GeneratorExit):
            return
        if isinstance(error, MemoryError):
            raise out_of_memory() from None
        place = _PLACE.search(str(error))
        path = f"{place[1]}:{place[2]}" if place else "$.circuit"
        raise fail("SB-1220", path, detail=type(error).__name__) from None
