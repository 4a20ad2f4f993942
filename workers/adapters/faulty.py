"""The adapter that misbehaves on request, for fault runs. May kill its own process.

The option ``fault`` of a request says what happens when its item is reached; without it the item
succeeds with an empty payload. It also stands in for a provider: what it has taken under a token it
answers for, as long as its process lives, unless the option ``found`` says what to answer. No default pool
uses this adapter. The fault ``wait`` ends when nobody wants the job any more: it is cancelled. The pool's
option ``state_file`` is a JSON file with the fields of its backend's state; as long as the file is not there
it is healthy.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, cast

from shotbus.broker.lru import Lru
from shotbus.schemas.errors import fail
from shotbus.workers.adapters.base import (
    AdapterCapabilities,
    BackendState,
    Batch,
    BatchItem,
    Found,
    ItemResult,
    failed,
)
from shotbus.workers.adapters.options import OptionReader

_CAPABILITIES = AdapterCapabilities(
    pool="faulty",
    kind="none",
    modes=("sample", "estimate"),
    max_qubits=1_000_000,
    inline=False,
    paid=False,
    executed_on="faulty",
)
#: Faults that are an answer, by the code that they are told with.
_ANSWERS: Mapping[str, str] = {
    "transient": "SB-5001",
    "unknown": "SB-5007",
    "down": "SB-5008",
    "throttled": "SB-5009",
    "unstable": "SB-5010",
}
#: Faults of jobs that can be cancelled; the others happen whoever wants them.
_CANCELLED = ("", "wait")
_RETRY_AFTER_MS = 1_000
_TOKENS = 10_000


class FaultyAdapter:
    """Does what the option ``fault`` says: crash, hang, wait, memory, raise, print, or one of the answers.

    After ``unknown`` its books have the job although its answer says that nobody knows.
    """

    def __init__(self) -> None:
        self._taken: Lru[str, bool] = Lru(_TOKENS)
        self._unwanted: AbstractSet[str] = frozenset()
        self._news = threading.Condition()

    @property
    def capabilities(self) -> AdapterCapabilities:
        return _CAPABILITIES

    def run(self, batch: Batch) -> list[ItemResult]:
        return [self._run(item) for item in batch.items]

    def look_up(self, batch: Batch) -> list[ItemResult]:
        """Answer from the option ``found``, else from the books."""
        return [ItemResult(found=self._found(item)) for item in batch.items]

    def cancel(self, tokens: AbstractSet[str]) -> None:
        """End the jobs with these tokens that wait."""
        with self._news:
            self._unwanted = frozenset(tokens)
            self._news.notify_all()

    def provenance(self, batch: Batch) -> dict[str, Any]:
        del batch
        return {"backend": "faulty", "environment": sorted(os.environ)}

    def _run(self, item: BatchItem) -> ItemResult:
        fault = item.request["options"].get("fault", "")
        if fault == "wait":
            with self._news:
                self._news.wait_for(lambda: item.token in self._unwanted)
        if fault in _CANCELLED and item.token in self._unwanted:
            return failed(fail("SB-4002", "$", detail="it has cancelled it as it was asked to"))
        result = _act(fault)
        if fault in ("", "unknown"):
            self._taken.put(item.token, True)
        return result

    def _found(self, item: BatchItem) -> Found:
        told = item.request["options"].get("found", "")
        return cast("Found", told) or ("done" if self._taken.get(item.token) else "absent")


class SensingFaultyAdapter(FaultyAdapter):
    """The same, whose backend's state is told in a file."""

    def __init__(self, state_file: Path) -> None:
        super().__init__()
        self._state_file = state_file

    def sense(self) -> BackendState:
        """Return what the file says; one that is not JSON, or says something else, is a defect."""
        if not self._state_file.exists():
            return BackendState()
        return BackendState(**json.loads(self._state_file.read_text(encoding="utf-8")))

    def calibration(self, calibration_id: str) -> bytes | None:
        """Hold none."""
        del calibration_id
        return None


def create(options: Mapping[str, str]) -> FaultyAdapter:
    """Return the adapter. Raises ShotbusError (SB-2001)."""
    reader = OptionReader(options)
    state_file = reader.text("state_file")
    reader.close()
    return SensingFaultyAdapter(Path(state_file)) if state_file else FaultyAdapter()


def _act(fault: str) -> ItemResult:
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
    if fault in _ANSWERS:
        wait_ms = _RETRY_AFTER_MS if fault == "throttled" else 0
        return failed(fail(_ANSWERS[fault], "$", hint="asked to fail"), retry_after_ms=wait_ms)
    return ItemResult()


def _exhaust() -> ItemResult:
    """Ask for a tebibyte: under an address-space cap this fails at once and costs nothing."""
    try:
        bytearray(1 << 40)
    except MemoryError:
        return failed(fail("SB-1110", "$", limit="memory of a worker process"))
    return ItemResult()
