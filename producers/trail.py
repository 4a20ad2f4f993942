"""A job's trail: every change of its state with cause and terms, from ``events``. Reads the bus."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from shotbus.broker.bus.base import TopicPartition
from shotbus.broker.bus.scan import scan
from shotbus.producers.session import Session
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import ShotbusError
from shotbus.schemas.ids import partition_of

# The dispatcher's clock and the submitter's may differ by this much.
_CLOCKS_MS = 60_000


async def read_trail(session: Session, job_id: str, tenant: str, since_ms: int = 0) -> list[dict[str, Any]]:
    """Return a job's events, oldest first, as far as they are kept.

    Args:
        session: a started one.
        job_id: whose.
        tenant: another tenant's job has no events.
        since_ms: wall time of its submission, where that is known; 0 reads everything that is kept.

    Returns:
        For each event ``at_us`` (wall time, microseconds), ``state``, ``sub_status``, ``cause``, ``attempt``,
        ``pool``, ``stage`` (that ended with it), and ``terms`` of the decision by name.

    """
    place = TopicPartition(session.topics.name("events"), partition_of(job_id, session.topics.partitions))
    start = (await session.bus.begins([place]))[place]
    if since_ms:
        start = max(start, await session.bus.offset_at(place, since_ms - _CLOCKS_MS))
    wanted, found = job_id.encode(), list[dict[str, Any]]()
    async with aclosing(scan(session.bus, {place: start})) as batches:
        async for records in batches:
            # Avro writes a string as it is: most records need no decoding to see that they are of others.
            mine = (record.value for record in records if record.value and wanted in record.value)
            found += [event for value in mine for event in _events(value, job_id, tenant)]
    return found


def _events(value: bytes, job_id: str, tenant: str) -> list[dict[str, Any]]:
    try:
        batch = decode(value, "event_batch")[1]
    except ShotbusError:
        return []
    mine = (one for one in batch["events"] if one["job_id"] == job_id and one["tenant"] == tenant)
    return [_event(one, batch["at_us"]) for one in mine]


def _event(event: Mapping[str, Any], at_us: int) -> dict[str, Any]:
    told = {name: event[name] for name in ("state", "sub_status", "cause", "attempt", "pool", "stage")}
    return {"at_us": event["at_us"] or at_us, **told, "terms": _terms(event["detail"])}


def _terms(detail: str) -> dict[str, Any]:
    """Return the terms of a decision; what is no JSON object is one term."""
    if not detail:
        return {}
    try:
        terms = json.loads(detail)
    except ValueError:
        terms = detail
    return terms if isinstance(terms, dict) else {"detail": terms}
