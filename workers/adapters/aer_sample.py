"""Sampling on Aer: rows of raw counts, packed as they come. Runs simulations."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from shotbus.broker.stages import Timings
from shotbus.workers.adapters.aer_run import Rows, execute, rows_a_call
from shotbus.workers.adapters.base import MAX_PAYLOAD_BYTES
from shotbus.workers.adapters.entries import Entries, joined, read_entries
from shotbus.workers.adapters.increments import added


def sample(backend: Any, rows: Rows, bits: int, jobs: int, timings: Timings) -> Entries:
    """Run rows of ``bits`` classical bits and pack what came out.

    Raises ShotbusError: SB-1113 once it passes what ``jobs`` results may hold together; SB-1110, SB-1220.
    """
    return joined(tallies(backend, rows, bits, timings), MAX_PAYLOAD_BYTES * jobs)


def tallies(backend: Any, rows: Rows, bits: int, timings: Timings, *, shift: int = 0) -> Iterator[Entries]:
    """Run rows and yield the outcomes of all their shots, as many rows at a time as one call may hold.

    Args:
        backend: simulator.
        rows: what to run.
        bits: classical bits to keep.
        timings: gets the seconds of each stage.
        shift: lower bits that are dropped.

    Raises:
        ShotbusError: SB-1110, SB-1220.

    """
    for calls in execute(backend, rows, rows_a_call(rows.shots, bits + shift), timings):
        yield added(_read(results, bits, shift, timings) for results in calls)


def _read(results: Sequence[Any], bits: int, shift: int, timings: Timings) -> Entries:
    begun = time.perf_counter()
    tables = [result.data.counts for result in results]
    read = time.perf_counter()
    entries = read_entries(tables, bits, shift=shift)
    timings.add("retrieve", read - begun)
    timings.add("decode", time.perf_counter() - read, bytes_in=entries.nbytes)
    return entries
