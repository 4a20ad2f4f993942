"""Who asked for what ran: principal and code, part of the provenance of a run's jobs. Pure.

A run may hold jobs of several callers; each is reported with its own, once for all of its jobs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from shotbus.schemas.errors import ShotbusError
from shotbus.schemas.jsonbytes import with_member
from shotbus.workers.adapters.base import BatchItem
from shotbus.workers.running import Ran

_TOLD = ("principal", "code_commit", "sdk_versions")


def by_caller(ran: Ran) -> list[Ran]:
    """Return a run as one of each caller's, who is named in its provenance; what has none stays as it is."""
    if not ran.provenance:
        return [ran]
    callers: dict[str, list[int]] = {}
    for place, item in enumerate(ran.items):
        callers.setdefault(_caller(item), []).append(place)
    return [_part(ran, caller, places) for caller, places in callers.items()]


def _part(ran: Ran, caller: str, places: Sequence[int]) -> Ran:
    told = with_member(ran.provenance, "caller", caller) if caller else ran.provenance
    if len(places) == len(ran.items):
        return ran._replace(provenance=told)
    items = [ran.items[place] for place in places]
    return ran._replace(items=items, results=[ran.results[place] for place in places], provenance=told)


def _caller(item: BatchItem) -> str:
    """Return who asked, as JSON; of a request that cannot be read that is not known."""
    try:
        request = item.request
    except ShotbusError:
        return ""
    return json.dumps({name: request[name] for name in _TOLD}, separators=(",", ":"), sort_keys=True)
