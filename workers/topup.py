"""Adds the shots of an earlier run to those that a job was short of. Pure.

The provenance of a run names, under ``top_up`` and the job's id, whose shots were added (``job_id``), how
many of each point, the ``seeds`` that they were drawn with, and when the oldest of them were taken.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from shotbus.schemas.codec import Fields, decode
from shotbus.schemas.errors import ShotbusError, fail
from shotbus.schemas.pub import Counts, merge_counts, pack_counts, unpack_result
from shotbus.workers.adapters.base import ItemResult, check_payload, failed
from shotbus.workers.running import Ran


def with_priors(ran: Ran, priors: Mapping[str, bytes]) -> Ran:
    """Return a run whose jobs have earlier shots added; ``priors`` are framed results by job id."""
    results, named = list(ran.results), dict[str, Any]()
    for place, item in enumerate(ran.items):
        prior, result = priors.get(item.job_id), results[place]
        if prior is None or result.error_class or not result.payload:
            continue
        try:
            known = decode(prior, "circuit_result")[1]
            results[place], shots = _added(known, result)
        except ShotbusError as error:
            # Too few shots would pass for all of them.
            results[place] = failed(error, result.timings)
        else:
            named[item.job_id] = _named(known, shots)
    if not named:
        return ran._replace(results=results)
    told = json.dumps({**json.loads(ran.provenance), "top_up": named}, separators=(",", ":"))
    return ran._replace(results=results, provenance=told.encode())


def _added(known: Fields, result: ItemResult) -> tuple[ItemResult, int]:
    earlier, new = unpack_result(known["payload"]), unpack_result(result.payload)
    if not isinstance(earlier, Counts) or not isinstance(new, Counts):
        raise fail("SB-1004", "$.prior", detail="only counts add up")
    payload = check_payload(pack_counts(merge_counts(earlier, new)))
    return replace(result, payload=payload), earlier.least_shots


def _named(known: Fields, shots: int) -> dict[str, Any]:
    before: Mapping[str, Any] = json.loads(known["provenance"] or b"{}").get("top_up", {})
    before = before.get(known["job_id"], {})
    return {
        "job_id": known["job_id"],
        "shots": shots,
        "seeds": [*before.get("seeds", ()), known["seed"]],
        "oldest_us": min(known["finished_us"], before.get("oldest_us", known["finished_us"])),
    }
