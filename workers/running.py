"""Running an adapter safely and describing the run; in children and inline alike. No I/O of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from platform import python_version

from shotbus.workers.adapters.base import Adapter, Batch, ItemResult, internal


def run_safely(adapter: Adapter, batch: Batch) -> list[ItemResult]:
    """Run a batch; a defect in the adapter becomes an item's result instead of a dead process.

    Which item brought the defect out is found by running each alone, so that its neighbours succeed.
    """
    try:
        results = adapter.run(batch)
        assert len(results) == len(batch.items), "one result an item"
    except Exception as error:  # noqa: BLE001 (whatever the adapter raises is its own defect)
        if len(batch.items) == 1:
            return [internal(error)]
        return [run_safely(adapter, replace(batch, items=[item]))[0] for item in batch.items]
    return results


@cache
def _own_versions() -> dict[str, str]:
    return {"shotbus": version("shotbus"), "python": python_version()}


def provenance_of(adapter: Adapter, batch: Batch) -> bytes:
    """Return the JSON bytes that say how the batch was run."""
    facts = adapter.provenance(batch)
    versions = {**_own_versions(), **facts.pop("versions", {})}
    return json.dumps({**facts, "versions": versions}, separators=(",", ":")).encode()
