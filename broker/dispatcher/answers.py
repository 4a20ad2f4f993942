"""Small derivations of the dispatcher: seeds, fingerprints, what a result takes from a report. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from shotbus.broker.dispatcher.bundles import Bundle
from shotbus.broker.dispatcher.done import OWNER_BYTES
from shotbus.schemas.errors import Problem
from shotbus.schemas.ids import digest


def drawn_seed(job_id: str) -> int:
    """Draw an unseeded job's seed, 31 bits, from its id: a restored shard draws the same."""
    return int.from_bytes(digest("seed", job_id, size=4), "little") >> 1


def fingerprint(tenant: str, payload_hash: bytes) -> bytes:
    """Return the 8 bytes a finished job is recognised by; another tenant's repetition is not one."""
    return digest(tenant, payload_hash, size=8)


@lru_cache(maxsize=4_096)
def owner_mark(tenant: str) -> bytes:
    """Return what a finished job's tenant is recognised by: another passes for it once in 16 million."""
    return digest("owner", tenant, size=OWNER_BYTES)


def unique_mark(request: Mapping[str, Any]) -> str:
    """Return what a tenant's unique key is recognised by, empty without one.

    In a session it is one of that session only: jobs of different sessions stand on different shards.
    """
    if not request["unique_key"]:
        return ""
    return digest("unique", request["tenant"], request["session_id"], request["unique_key"]).hex()


def problems_of(code: str) -> list[dict[str, Any]]:
    """Return one problem as a result carries it."""
    return [Problem(code).as_record()]


def answered(bundle: Bundle, outcome: Mapping[str, Any]) -> frozenset[str]:
    """Return the jobs whose attempts in flight end with this record."""
    if outcome["kind"] != "finished":
        return frozenset()
    items = outcome["items"]
    return frozenset(one["job_id"] for one in items if bundle.open.get(one["job_id"]) == one["attempt"])


def answer(outcome: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a result takes from a worker's report."""
    return {
        "executed_on": outcome["executed_on"],
        "provenance": outcome["provenance"],
        "payload": item["payload"],
        "shots": item["shots"],
        "timings": item["timings"],
    }
