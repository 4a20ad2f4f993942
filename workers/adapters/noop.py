"""The adapter that does nothing: it answers at once, so the broker itself can be measured. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shotbus.workers.adapters.base import AdapterCapabilities, Batch, ItemResult
from shotbus.workers.adapters.options import take_none

_CAPABILITIES = AdapterCapabilities(
    pool="noop",
    kind="none",
    modes=("sample", "estimate"),
    max_qubits=1_000_000,
    inline=True,
    paid=False,
    executed_on="noop",
)


class NoopAdapter:
    """Answers with the empty payload and never looks at a request."""

    @property
    def capabilities(self) -> AdapterCapabilities:
        return _CAPABILITIES

    def run(self, batch: Batch) -> list[ItemResult]:
        # One object for all: results are read, never changed, and this path is counted in microseconds.
        return [ItemResult()] * len(batch.items)

    def provenance(self, batch: Batch) -> dict[str, Any]:
        del batch
        return {"backend": "noop"}


def create(options: Mapping[str, str]) -> NoopAdapter:
    """Return the adapter. Raises ShotbusError (SB-2001): it has no options."""
    take_none(options)
    return NoopAdapter()
