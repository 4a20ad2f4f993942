"""The trail of a job, or of a pool: every decision with cause and terms, from the topics. Reads the bus."""

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
from shotbus.schemas.outcomes import ABOUT_A_POOL, ABOUT_A_SUBMISSION

# The dispatcher's clock and the submitter's may differ by this much.
_CLOCKS_MS = 60_000
_SHORT = 64


async def read_trail(session: Session, job_id: str, tenant: str, since_ms: int = 0) -> list[dict[str, Any]]:
    """Return a job's events, oldest first, as far as they are kept.

    Among them are those of submissions under its id that were refused at the door (state SUBMISSION).

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


async def read_pool_trail(session: Session, pool: str, since_ms: int) -> list[dict[str, Any]]:
    """Return what was decided about a pool, oldest first, as far as it is kept.

    Each shard decides for itself, so the same may be told as often as there are shards.

    Args:
        session: a started one.
        pool: its name.
        since_ms: wall time from which on to read.

    Returns:
        For each decision ``at_us`` (wall time, microseconds), ``shard``, ``cause`` (``breaker: open``,
        ``busy: on``, ``pool: paused`` …), ``by`` (who; empty when nobody asked) and ``terms`` by name.

    """
    bus, topics = session.bus, session.topics
    places = [
        TopicPartition(topics.name(name), n) for name in ("events", "audit") for n in range(topics.partitions)
    ]
    begins = await bus.begins(places)
    starts = {place: max(begins[place], await bus.offset_at(place, since_ms)) for place in places}
    wanted, events, found = encoded(ABOUT_A_POOL), topics.name("events"), list[dict[str, Any]]()
    async with aclosing(scan(bus, starts)) as batches:
        async for records in batches:
            for record in records:
                if record.topic != events:
                    found += _audited(record.value or b"", record.partition, pool)
                elif record.value and wanted in record.value:
                    found += _decided(record.value, pool)
    return sorted((one for one in found if one["at_us"] >= 1000 * since_ms), key=lambda one: one["at_us"])


def encoded(words: str) -> bytes:
    """Return a short text as it stands in an Avro record."""
    raw = words.encode()
    assert len(raw) < _SHORT, "its length takes one byte"
    return bytes([len(raw) << 1]) + raw


def _decided(value: bytes, pool: str) -> list[dict[str, Any]]:
    try:
        batch = decode(value, "event_batch")[1]
    except ShotbusError:
        return []
    mine = (one for one in batch["events"] if one["state"] == ABOUT_A_POOL and one["pool"] == pool)
    head = {"shard": batch["shard"], "by": ""}
    return [
        {
            "at_us": one["at_us"] or batch["at_us"],
            "cause": one["cause"],
            **head,
            "terms": _terms(one["detail"]),
        }
        for one in mine
    ]


def _audited(value: bytes, shard: int, pool: str) -> list[dict[str, Any]]:
    try:
        entry = decode(value, "audit_entry")[1]
    except ShotbusError:
        return []
    if entry["target"] != pool:
        return []
    terms = {name: entry[name] for name in ("reason", "before", "after") if entry[name]}
    return [
        {
            "at_us": entry["at_us"],
            "shard": shard,
            "cause": entry["action"],
            "by": entry["principal"],
            "terms": terms,
        }
    ]


def _events(value: bytes, job_id: str, tenant: str) -> list[dict[str, Any]]:
    try:
        batch = decode(value, "event_batch")[1]
    except ShotbusError:
        return []
    return [_event(one, batch["at_us"]) for one in batch["events"] if _is_about(one, job_id, tenant)]


def _is_about(event: Mapping[str, Any], job_id: str, tenant: str) -> bool:
    """Tell whether an event is a job's, or about a submission under its id."""
    about = event["job_id"]
    if event["state"] == ABOUT_A_SUBMISSION:
        about = _terms(event["detail"]).get("job_id")
    return bool(about == job_id and event["tenant"] == tenant)


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
