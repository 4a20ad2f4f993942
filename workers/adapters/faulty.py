"""The adapter that misbehaves on request, for fault runs. May kill its own process.

The option ``fault`` of a request says what happens when its item is reached; without it the item
succeeds with an empty payload. No default pool uses this adapter.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from shotbus.schemas.errors import fail
from shotbus.workers.adapters.base import AdapterCapabilities, Batch, BatchItem, ItemResult, failed

_CAPABILITIES = AdapterCapabilities(
    pool="faulty",
    kind="none",
    modes=("sample", "estimate"),
    max_qubits=1_000_000,
    inline=False,
    paid=False,
    executed_on="faulty",
)


class FaultyAdapter:
    """Does what the option ``fault`` says: crash, hang, memory, raise, print, transient."""

    @property
    def capabilities(self) -> AdapterCapabilities:
        return _CAPABILITIES

    def run(self, batch: Batch) -> list[ItemResult]:
        return [_act(item) for item in batch.items]

    def provenance(self, batch: Batch) -> dict[str, Any]:
        del batch
        return {"backend": "faulty", "environment": sorted(os.environ)}


def create() -> FaultyAdapter:
    """Return the adapter."""
    return FaultyAdapter()


def _act(item: BatchItem) -> ItemResult:
    fault = item.request["options"].get("fault", "")
    if fault == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "hang":
        threading.Event().wait()
    if fault == "memory":
        return _exhaust()
    if fault == "raise":
        raise RuntimeError("asked to raise")
    if fault == "print":
        # Lands on the standard output that the SDKs see; it must not damage the frames.
        os.write(1, b"noise on standard output\n")
    if fault == "transient":
        return failed(fail("SB-5001", "$", hint="asked to fail"))
    return ItemResult()


def _exhaust() -> ItemResult:
    """Ask for a tebibyte: under an address-space cap this fails at once and costs nothing."""
    try:
        bytearray(1 << 40)
    except MemoryError:
        return failed(fail("SB-1110", "$", limit="memory of a worker process"))
    return ItemResult()
