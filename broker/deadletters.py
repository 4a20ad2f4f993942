"""Dead letters: the original bytes with what went wrong, in headers. Pure.

Header names follow KIP-1191 (``__dlq.errors.*``); the value, key and original headers are kept byte
for byte, so that a redrive publishes exactly what once came in.
"""

from __future__ import annotations

from shotbus.broker.bus.base import Outgoing, Record

_MAX_MESSAGE = 8_192
PREFIX = "__dlq.errors."


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
) -> Outgoing:
    """Return the dead letter of ``record`` for partition ``partition`` of ``topic``."""
    ours = {
        f"{PREFIX}topic": record.topic,
        f"{PREFIX}partition": str(record.partition),
        f"{PREFIX}offset": str(record.offset),
        f"{PREFIX}group": group,
        f"{PREFIX}delivery.count": str(deliveries),
        f"{PREFIX}message": message[:_MAX_MESSAGE],
        "error-class": error_class,
        "error-code": code,
    }
    kept = tuple(header for header in record.headers if header[0] not in ours)
    if not any(name == "redrive-count" for name, _ in kept):
        kept = (*kept, ("redrive-count", b"0"))
    added = tuple((name, value.encode()) for name, value in ours.items())
    return Outgoing(topic, partition, record.key, record.value, kept + added)
