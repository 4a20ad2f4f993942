"""Sampling on Aer: rows of raw counts, packed as they come. Runs simulations."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from shotbus.broker.stages import Timings
from shotbus.workers.adapters.aer_run import Rows, execute, rows_a_call
from shotbus.workers.adapters.base import MAX_PAYLOAD_BYTES
from shotbus.workers.adapters.entries import Entries, joined, read_entries


def sample(backend: Any, rows: Rows, bits: int, jobs: int, timings: Timings) -> Entries:
    """Run rows of ``bits`` classical bits and pack what came out.

    Raises ShotbusError: SB-1113 once it passes what ``jobs`` results may hold together; SB-1110, SB-1220.
    """

    def chunks() -> Iterator[Entries]:
        for results in execute(backend, rows, rows_a_call(rows.shots, bits), timings):
            begun = time.perf_counter()
            tables = tables_of(results)
            read = time.perf_counter()
            entries = read_entries(tables, bits)
            timings.add("retrieve", read - begun)
            timings.add("decode", time.perf_counter() - read, bytes_in=entries.nbytes)
            yield entries

    return joined(chunks(), MAX_PAYLOAD_BYTES * jobs)


def tables_of(results: Sequence[Any]) -> list[dict[str, int]]:
    """Return the raw counts of one Aer call, hex numbers to counts, a table a row."""
    return [result.data.counts for result in results]
