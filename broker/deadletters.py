"""Dead letters: the original bytes with what went wrong, in headers; read back, grouped by cause. Pure.

Header names follow KIP-1191 (``__dlq.errors.*``); the value, key and original headers are kept byte
for byte, so that a redrive publishes exactly what once came in. Letters of one cause have one
*fingerprint*: error class, code, normalised message, pool and circuit family (docs/dead-letters.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shotbus.broker.bus.base import Outgoing, Record
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import ShotbusError
from shotbus.schemas.ids import digest

_MAX_MESSAGE = 8_192
_HEAD_OF_MESSAGE = 1_024
PREFIX = "__dlq.errors."
#: Wall time (ms) at which a letter was first written, on a copy that a purge has moved.
WRITTEN_AT = "dead-lettered-at"
REDRIVE_COUNT, REDRIVE_REASON = "redrive-count", "redrive-reason"
_MAX_REASON = 256
_FINGERPRINT_BYTES = 6

_FRAME = re.compile(r'File "(?:[^"\n]*[/\\])?([^"\n/\\]+)", line \d+, in (\S+)')
# What differs from letter to letter of one cause: quoted text, ids, numbers.
_VARYING = (
    (re.compile(r"'[^'\n]*'|\"[^\"\n]*\""), "'…'"),
    (re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b", re.IGNORECASE), "…"),
    (re.compile(r"(?<![A-Za-z])[+-]?\d+(?:[.:]\d+)*(?:e[+-]?\d+)?", re.IGNORECASE), "#"),
)


def dead_letter(
    record: Record,
    *,
    topic: str,
    partition: int,
    group: str,
    error_class: str,
    code: str,
    message: str,
    deliveries: int = 1,
    pool: str = "",
) -> Outgoing:
    """Return the dead letter of ``record`` for partition ``partition`` of ``topic``.

    ``pool``: where the job was when it was given up; empty when it had not come so far.
    """
    ours = {
        f"{PREFIX}topic": record.topic,
        f"{PREFIX}partition": str(record.partition),
        f"{PREFIX}offset": str(record.offset),
        f"{PREFIX}group": group,
        f"{PREFIX}delivery.count": str(deliveries),
        f"{PREFIX}message": _shortened(message),
        "error-class": error_class,
        "error-code": code,
    }
    if pool:
        ours[f"{PREFIX}pool"] = pool
    # What came with the record must not pass for what was found out about it.
    forged = {*ours, f"{PREFIX}pool", WRITTEN_AT}
    kept = tuple(header for header in record.headers if header[0] not in forged)
    if not any(name == REDRIVE_COUNT for name, _ in kept):
        kept = (*kept, (REDRIVE_COUNT, b"0"))
    added = tuple((name, value.encode("utf-8", "replace")) for name, value in ours.items())
    return Outgoing(topic, partition, record.key, record.value, kept + added)


def moved(record: Record) -> Outgoing:
    """Return a letter's copy for the end of its partition, with the time at which it was first written."""
    headers = record.headers
    if not any(name == WRITTEN_AT for name, _ in headers):
        headers = (*headers, (WRITTEN_AT, str(record.timestamp_ms).encode()))
    return Outgoing(record.topic, record.partition, record.key, record.value, headers)


@dataclass(frozen=True, slots=True)
class Letter:
    """What a dead letter says, without its bytes.

    ``name`` is PARTITION:OFFSET; ``at_ms`` the wall time at which it was written; ``topic``, ``partition``,
    ``offset`` and ``group`` say whose record it was and who gave it up. ``job_id``, ``tenant``, ``pool`` and
    ``family`` are empty where the record does not tell.
    """

    name: str
    at_ms: int
    error_class: str
    code: str
    message: str
    topic: str
    partition: str
    offset: str
    group: str
    deliveries: str
    redriven: int
    reason: str
    job_id: str
    tenant: str
    pool: str
    family: str
    fingerprint: str

    @property
    def origin(self) -> tuple[str, ...]:
        """What makes two letters the same one: the record that was given up, and by whom."""
        place = (self.topic, self.partition, self.offset, self.group)
        return place if all(place) else (self.name,)


def read_letter(record: Record) -> Letter:
    """Return what a record of ``dead-letters`` says; whatever its headers hold, it says something."""
    headers = headers_of(record)
    request = _request(record)
    pool = headers.get(f"{PREFIX}pool", "") or request.get("backend", "")
    family = request.get("family", "")
    error_class, code = headers.get("error-class", ""), headers.get("error-code", "")
    message = headers.get(f"{PREFIX}message", "")
    return Letter(
        name=f"{record.partition}:{record.offset}",
        at_ms=_number(headers.get(WRITTEN_AT, ""), record.timestamp_ms),
        error_class=error_class,
        code=code,
        message=message,
        topic=headers.get(f"{PREFIX}topic", ""),
        partition=headers.get(f"{PREFIX}partition", ""),
        offset=headers.get(f"{PREFIX}offset", ""),
        group=headers.get(f"{PREFIX}group", ""),
        deliveries=headers.get(f"{PREFIX}delivery.count", ""),
        redriven=redrive_count(headers.get(REDRIVE_COUNT, "")),
        reason=headers.get(REDRIVE_REASON, ""),
        job_id=request.get("job_id", "") or headers.get("job-id", ""),
        tenant=request.get("tenant", "") or headers.get("tenant", ""),
        pool=pool,
        family=family,
        fingerprint=fingerprint(error_class, code, message, pool=pool, family=family),
    )


def headers_of(record: Record) -> dict[str, str]:
    """Return a record's headers as text; of those that come twice the last."""
    return {name: value.decode("utf-8", "replace") for name, value in record.headers}


def redrive_count(told: str) -> int:
    """Return how often a letter was redriven; headers come from outside and may hold anything."""
    count = _number(told, 0)
    return count if count < 100_000 else 0


def redriven(headers: Mapping[str, bytes]) -> dict[str, Any]:
    """Return how often a request was a dead letter and why it comes again, as terms of an event."""
    count, reason = (
        headers.get(name, b"")[: 4 * _MAX_REASON].decode("utf-8", "replace")
        for name in (REDRIVE_COUNT, REDRIVE_REASON)
    )
    return {"redriven": redrive_count(count), "redrive_reason": reason[:_MAX_REASON]}


def fingerprint(error_class: str, code: str, message: str, *, pool: str = "", family: str = "") -> str:
    """Return the 12 hex digits that letters of one cause have in common, on every machine and version."""
    parts = (error_class, code, normalised(message), pool, family)
    return digest("dead letter", *parts, size=_FINGERPRINT_BYTES).hex()


def normalised(message: str) -> str:
    """Return a message without what varies from letter to letter.

    Of a traceback its last place and the error's type remain; of anything else the words, without the actual
    values (``got …``), quoted text, ids and numbers.
    """
    if message.startswith("Traceback "):
        return _cause_of(message)
    parts = " ".join(message.split()).split("; ")
    text = "; ".join(part for part in parts if not part.startswith("got "))
    for pattern, instead in _VARYING:
        text = pattern.sub(instead, text)
    return text


def _cause_of(trace: str) -> str:
    frames = _FRAME.findall(trace)
    place = " ".join(frames[-1]) if frames else ""
    lines = [line for line in trace.splitlines() if line and not line[0].isspace()]
    return f"{lines[-1].partition(':')[0]} in {place}"


def _shortened(message: str) -> str:
    """Keep begin and end of a long message: a traceback says at its end what happened."""
    if len(message) <= _MAX_MESSAGE:
        return message
    return f"{message[:_HEAD_OF_MESSAGE]}\n…\n{message[_HEAD_OF_MESSAGE + 3 - _MAX_MESSAGE :]}"


def _request(record: Record) -> Mapping[str, Any]:
    """Return the request that was given up; empty for bytes that are none."""
    try:
        return decode(record.value, "circuit_request")[1]
    except ShotbusError:
        return {}


def _number(text: str, otherwise: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else otherwise
