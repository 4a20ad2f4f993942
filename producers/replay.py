"""A job run again as it ran, and its two answers compared. I/O through the client's session.

The request is the original record: it is kept on the bus as long as its result. What decided about the
numbers comes from the result: the seed that was used, the pool that answered, the options of that attempt.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from shotbus.broker.bus.base import OffsetGapError, TopicPartition
from shotbus.broker.bus.scan import scan
from shotbus.producers.job import AsyncJob
from shotbus.producers.origin import principal
from shotbus.producers.result import JobResult
from shotbus.producers.session import Session
from shotbus.schemas.agreement import agreement
from shotbus.schemas.codec import decode, encode
from shotbus.schemas.errors import ShotbusError, fail
from shotbus.schemas.ids import job_id as make_job_id
from shotbus.schemas.payload import payload_hash

#: How often chance may bring two samples of one distribution so far apart that they still agree.
TOLERANCE = 1e-3
_FREE_KINDS = ("simulator", "classical", "none")
#: What is wished for once, and not again: times, keys, and every way to an answer without a run.
_ONCE: dict[str, Any] = {
    **dict.fromkeys(("idempotency_key", "unique_key", "unique_policy", "sweep_id", "session_id"), ""),
    **dict.fromkeys(("window", "speculate"), ""),
    **dict.fromkeys(("deadline_ms", "not_before_ms", "tolerance", "confidence"), None),
    **dict.fromkeys(("client_prepare_us", "think_us"), 0),
    "shard_index": -1,
    "top_up": False,
    "fallback": ["none"],
    # An earlier answer would have to be from the future.
    "max_result_age_ms": 0,
}
#: What no two runs have in common, or what says how another run went: no reason for other numbers.
_OF_ONE_RUN = frozenset(
    {
        *("ran_ms", "attempts", "attempt", "overrides", "reused", "top_up"),
        *("request_topic", "request_partition", "request_offset"),
        *("provider.jobs", "compiled"),
    }
)

Verdict = Literal["identical", "agrees", "differs"]


class Difference(NamedTuple):
    """A fact in which two provenances differ, by its path; None where one does not tell it."""

    name: str
    was: Any
    now: Any


@dataclass(frozen=True, slots=True)
class Replay:
    """A job that ran again, and its answer beside the first one.

    ``deviation`` is in the measure of :attr:`JobResult.deviation`, 0 for identical bits and negative when the
    two cannot be compared; ``allowed`` is how far chance may bring them. ``differences`` are of provenance.
    """

    first: JobResult
    again: JobResult
    verdict: Verdict
    deviation: float
    allowed: float
    differences: tuple[Difference, ...]

    def as_json(self) -> dict[str, Any]:
        """Return what JSON has words for."""
        return {
            "job_id": self.again.job_id,
            "rerun_of": self.first.job_id,
            "verdict": self.verdict,
            "deviation": self.deviation if self.deviation >= 0 else None,
            "allowed": self.allowed if self.allowed >= 0 else None,
            "differences": [one._asdict() for one in self.differences],
        }


async def submit_again(
    session: Session, first: JobResult, *, tenant: str, pool: str, pay: bool, origin: Mapping[str, Any]
) -> AsyncJob:
    """Submit the job of a result once more; returns when that is durable.

    Args:
        session: a started one.
        first: the result.
        tenant: whose it is.
        pool: where to; empty is where it ran.
        pay: whether it may cost.
        origin: ``code_commit`` and ``sdk_versions`` of whoever asks.

    Raises:
        ShotbusError: SB-4011 when the request is not kept any more, SB-4012 when it would cost.

    """
    pool = pool or str(first.provenance["pool"])
    if not pay:
        _check_free(session, first, pool)
    fields = _asked_again(await _request_of(session, first), first, pool) | dict(origin)
    fields["job_id"] = make_job_id(tenant, entropy=os.urandom(12))
    fields["submitted_us"] = time.time_ns() // 1000
    fields["payload_hash"] = payload_hash(fields)
    job = AsyncJob(
        session,
        fields["job_id"],
        tenant=tenant,
        payload=fields["payload_hash"],
        since_ms=fields["submitted_us"] // 1000,
    )
    session.asked()
    record = session.request(fields, encode("circuit_request", fields), session.traceparent())
    await session.bus.publish([record])
    return job


def compared(first: JobResult, again: JobResult, tolerance: float = TOLERANCE) -> Replay:
    """Hold two answers to one request against each other.

    ``tolerance``: see :func:`shotbus.schemas.agreement.agreement`.
    """
    differences = tuple(_differences(first.provenance, again.provenance))
    if first.packed == again.packed:
        return Replay(first, again, "identical", 0.0, 0.0, differences)
    held = agreement(first.payload, again.payload, tolerance)
    verdict: Verdict = "agrees" if held.holds else "differs"
    return Replay(first, again, verdict, held.deviation, held.allowed, differences)


def _check_free(session: Session, first: JobResult, pool: str) -> None:
    """Refuse a pool that costs, or of which that is not known. Raises ShotbusError (SB-4012)."""
    settings = session.config.pools.get(pool)
    if settings is not None:
        free = not settings.paid
    else:
        ran_there = pool == first.provenance["pool"]
        free = ran_there and first.provenance.get("kind") in _FREE_KINDS and first.cost == 0
    if not free:
        why = "it costs" if settings is not None else "what it costs is not known here"
        raise fail("SB-4012", "$.pool", actual=pool, detail=why)


async def _request_of(session: Session, first: JobResult) -> dict[str, Any]:
    """Return the original request. Raises ShotbusError (SB-4011)."""
    told = first.provenance
    place, offset = TopicPartition(told["request_topic"], told["request_partition"]), told["request_offset"]
    try:
        async with aclosing(scan(session.bus, {place: offset}, batch=1, ends={place: offset + 1})) as found:
            records = [record async for batch in found for record in batch if record.offset == offset]
        fields = decode(records[0].value, "circuit_request")[1] if records else {}
    except (OffsetGapError, ShotbusError):
        fields = {}
    if fields.get("job_id") != first.job_id:
        raise fail("SB-4011", "$.job_id", actual=first.job_id)
    return fields


def _asked_again(fields: dict[str, Any], first: JobResult, pool: str) -> dict[str, Any]:
    """Return a request for what the answer really is, and for nothing that was only wished once."""
    overrides = first.provenance.get("overrides", {})
    mine = principal()
    again: dict[str, Any] = fields | _ONCE | {"backend": pool, "seed": first.seed, "rerun_of": first.job_id}
    again["options"] = {**fields["options"], **overrides.get("options", {})}
    if "shots" in overrides and first.answered_by != "top_up":
        again["shots"] = overrides["shots"]
    # Nobody has another's roles by running his job again.
    again |= {"principal": mine, "roles": fields["roles"] if fields["principal"] == mine else []}
    return again


def _differences(was: Mapping[str, Any], now: Mapping[str, Any], place: str = "") -> Iterator[Difference]:
    for name in sorted({*was, *now}):
        path = f"{place}{name}"
        if name in _OF_ONE_RUN or path in _OF_ONE_RUN:
            continue
        before, after = was.get(name), now.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _differences(before, after, f"{path}.")
        elif before != after:
            yield Difference(path, before, after)
