"""The adapter that only takes time: with it a load test fills a pool and leaves the cores free. Sleeps.

The option ``seconds`` of a request says how long each of its points takes; without it a point takes none.
The payload is empty. No default pool uses this adapter.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from shotbus.schemas.errors import ShotbusError, fail
from shotbus.workers.adapters.base import AdapterCapabilities, Batch, BatchItem, ItemResult, failed
from shotbus.workers.adapters.options import take_none
from shotbus.workers.entering import entering

#: The longest that a point may take.
MAX_SECONDS = 3_600.0
_CAPABILITIES = AdapterCapabilities(
    pool="sleep",
    kind="none",
    modes=("sample", "estimate"),
    max_qubits=1_000_000,
    inline=False,
    paid=False,
    executed_on="sleep",
)


class SleepAdapter:
    """Sleeps through the points of a batch, one after the other, as a device that runs them would."""

    @property
    def capabilities(self) -> AdapterCapabilities:
        return _CAPABILITIES

    def run(self, batch: Batch) -> list[ItemResult]:
        return [_sleep(item) for item in batch.items]

    def provenance(self, batch: Batch) -> dict[str, Any]:
        del batch
        return {"backend": "sleep"}


def create(options: Mapping[str, str]) -> SleepAdapter:
    """Return the adapter. Raises ShotbusError (SB-2001): it has no options."""
    take_none(options)
    return SleepAdapter()


def _sleep(item: BatchItem) -> ItemResult:
    try:
        seconds = _seconds(item.request["options"]) * item.request["points"]
    except ShotbusError as error:
        return failed(error)
    entering("execute")
    began = time.perf_counter()
    time.sleep(seconds)
    result = ItemResult()
    result.timings.add("execute", time.perf_counter() - began)
    return result


def _seconds(options: Mapping[str, str]) -> float:
    """Read the option. Raises ShotbusError (SB-1108)."""
    given = options.get("seconds", "0")
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MAX_SECONDS:
        raise fail("SB-1108", "$.options.seconds", limit=f"a number from 0 to {MAX_SECONDS:g}", actual=given)
    return seconds
