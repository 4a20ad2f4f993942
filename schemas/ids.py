"""Ids and where they lead: ``route`` is part of a job id, so an id alone finds its partition. Pure.

``route`` is Kafka's murmur2 over tenant and the first present of session id, unique key, idempotency
key and job number. A job id is 32 hex digits: 8 of the route, 24 of a hash (when there is an
idempotency key, so a client knows the id before any reply) or of 96 random bits.
"""

from __future__ import annotations

import hashlib
import re

_ROUTE_LENGTH = 8
# int(text, 16) alone would also take signs, spaces, underscores and "0x": many spellings of one route.
_JOB_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_M = 0x5BD1E995
_SEED = 0x9747B28C
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Hash as Kafka's Java client does (``Utils.murmur2``), made non-negative as ``toPositive`` does."""
    length = len(data)
    h = _SEED ^ length
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * _M & _MASK
        h = (h * _M & _MASK) ^ ((k ^ (k >> 24)) * _M & _MASK)
    if whole != length:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return (h ^ (h >> 15)) & 0x7FFFFFFF


def digest(*parts: bytes | str, size: int = 16) -> bytes:
    """Hash parts with their lengths, so that ("ab", "c") and ("a", "bc") differ."""
    chunks: list[bytes] = []
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        chunks += (len(raw).to_bytes(8, "little"), raw)
    return hashlib.blake2b(b"".join(chunks), digest_size=size).digest()


def circuit_id(text: str) -> str:
    """Return the content address of a circuit's canonical text."""
    return hashlib.sha256(text.encode()).hexdigest()


def job_id(
    tenant: str,
    *,
    session: str = "",
    unique_key: str = "",
    idempotency_key: str = "",
    entropy: bytes = b"",
) -> str:
    """Return a job id.

    Args:
        tenant: owner of the job.
        session: jobs of one session share a route, hence an order.
        unique_key: jobs with one key share a route, or nobody could tell that there are two.
        idempotency_key: with it the id follows from (tenant, session, key) alone.
        entropy: 12 random bytes, needed when there is no idempotency key.

    """
    if idempotency_key:
        tail = digest("job", tenant, session, idempotency_key, size=12)
    elif len(entropy) == 12:
        tail = entropy
    else:
        raise ValueError("a job without idempotency key needs 12 random bytes")
    affinity = session or unique_key or idempotency_key
    route = affine_route(tenant, affinity) if affinity else _route(tenant, tail)
    return f"{route:08x}{tail.hex()}"


def companion_id(job: str, role: str) -> str:
    """Return the id of what runs beside a job in a role: another number on the same route."""
    return job[:_ROUTE_LENGTH] + digest("companion", job, role, size=12).hex()


def affine_route(tenant: str, affinity: str) -> int:
    """Return the route of a tenant's jobs that belong together by a session or a key."""
    return _route(tenant, affinity.encode())


def _route(tenant: str, affinity: bytes) -> int:
    return murmur2(tenant.encode() + b"\0" + affinity)


def route_of(job: str) -> int:
    """Return the route inside a job id. Raises ValueError for anything that is not a job id."""
    if not _JOB_ID.fullmatch(job):
        raise ValueError("a job id is 32 lower-case hex digits")
    return int(job[:_ROUTE_LENGTH], 16)


def is_job_id(name: str) -> bool:
    """Tell whether a name from outside can be a job's."""
    return bool(_JOB_ID.fullmatch(name))


def partition_of(job: str, partitions: int) -> int:
    """Return the partition of a job on every topic that is partitioned by route."""
    return route_of(job) % partitions


def keyed_partition(key: str, partitions: int) -> int:
    """Return the partition of a key such as a sweep id or a circuit id."""
    return murmur2(key.encode()) % partitions
