"""Outcome records: what a worker reports, encoded and cut to size. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shotbus.schemas.codec import Fields, encode
from shotbus.schemas.errors import Problem
from shotbus.workers.adapters.base import BatchItem, ItemResult, error_class_of

#: Several items share a record up to this size; a single item may reach it with its payload alone.
MAX_RECORD_BYTES = 900_000
_ITEM_OVERHEAD = 128
_PROBLEM_OVERHEAD = 64


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's claim on a bundle; the part that all its outcome records have in common."""

    bundle_id: str
    pool: str
    worker: str
    lease_id: str

    def record(
        self,
        kind: str,
        at_us: int,
        *,
        executed_on: str = "",
        provenance: bytes = b"",
        calibration_id: str = "",
        items: Sequence[Fields] = (),
    ) -> bytes:
        """Return an encoded Outcome of ``kind`` (started, heartbeat, finished)."""
        fields = {
            "bundle_id": self.bundle_id,
            "pool": self.pool,
            "worker": self.worker,
            "lease_id": self.lease_id,
            "kind": kind,
            "at_us": at_us,
            "executed_on": executed_on,
            "provenance": provenance,
            "items": items,
            "calibration_id": calibration_id,
        }
        return encode("outcome", fields)

    def finished(
        self,
        at_us: int,
        items: Iterable[Fields],
        *,
        executed_on: str,
        provenance: bytes,
        calibration_id: str = "",
    ) -> list[bytes]:
        """Return the Outcomes of kind ``finished``, one unless the items are too large for that."""
        return [
            self.record(
                "finished",
                at_us,
                executed_on=executed_on,
                provenance=provenance,
                calibration_id=calibration_id,
                items=part,
            )
            for part in split(items, MAX_RECORD_BYTES - len(provenance))
        ]


def item_fields(item: BatchItem, result: ItemResult) -> Fields:
    """Return what is reported about one attempt."""
    return {
        "job_id": item.job_id,
        "attempt": item.attempt,
        "error_class": result.error_class,
        "problems": [problem.as_record() for problem in result.problems],
        "retry_after_ms": result.retry_after_ms,
        "payload": result.payload,
        "shots": result.shots,
        "timings": result.timings.pack(),
        "provider_job_id": result.provider_job_id,
        "found": result.found,
        "cost": result.cost,
        "backend_seconds": _backend_seconds(result),
    }


def _backend_seconds(result: ItemResult) -> float:
    """Return what an attempt took of its backend, negative where nobody measured it."""
    if result.backend_seconds >= 0:
        return result.backend_seconds
    return result.timings.seconds("execute") or -1.0


def failed_items(items: Iterable[Mapping[str, Any]], problem: Problem) -> list[Fields]:
    """Return the report that every one of a bundle's items ended with ``problem``."""
    return [
        {
            "job_id": item["job_id"],
            "attempt": item["attempt"],
            "error_class": error_class_of([problem]),
            "problems": [problem.as_record()],
            "payload": b"",
            "timings": b"",
        }
        for item in items
    ]


def split(items: Iterable[Fields], limit: int) -> Iterator[list[Fields]]:
    """Yield the items in order in runs whose records stay within ``limit`` bytes, never an empty run."""
    run: list[Fields] = []
    held = 0
    for item in items:
        size = size_of(item)
        if run and held + size > limit:
            yield run
            run, held = [], 0
        run.append(item)
        held += size
    if run:
        yield run


def size_of(item: Fields) -> int:
    """Return an upper bound of an item's encoded size."""
    size = _ITEM_OVERHEAD + len(item["payload"]) + len(item["timings"])
    size += 4 * len(item.get("provider_job_id", ""))
    for problem in item["problems"]:
        # Texts are bounded by Problem; a character may take four bytes.
        size += _PROBLEM_OVERHEAD + sum(4 * len(text) for text in problem.values())
    return size
