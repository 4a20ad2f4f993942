"""Calibration snapshots by their content address, from the bus. Reads the bus."""

from __future__ import annotations

import json
import re
from contextlib import aclosing
from typing import Any

from shotbus.broker.bus.base import TopicPartition
from shotbus.broker.bus.scan import despite_deletions, scan
from shotbus.producers.session import Session
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import fail
from shotbus.schemas.ids import keyed_partition

_DIGITS = 64
_NAME = re.compile(rf"[0-9a-f]{{8,{_DIGITS}}}")


async def find_calibration(session: Session, name: str) -> dict[str, Any]:
    """Return a calibration snapshot: ``calibration_id``, ``pool``, ``backend``, ``at_us`` and ``snapshot``.

    Args:
        session: a started one.
        name: its id, or how that begins, eight hexadecimal digits or more.

    Raises:
        ShotbusError: SB-1108 for what is no such name, SB-4013 when there is none, or more than one.

    """
    if not _NAME.fullmatch(name):
        raise fail("SB-1108", "$.calibration_id", limit="8 to 64 digits, 0 to f", actual=name)
    found = await despite_deletions(lambda: _found(session, name))
    if len(found) != 1:
        hint = "give more digits" if found else ""
        raise fail("SB-4013", "$.calibration_id", actual=name, hint=hint)
    ((_, value),) = found.items()
    fields = decode(value, "calibration")[1]
    return {**fields, "snapshot": json.loads(fields["snapshot"])}


async def _found(session: Session, name: str) -> dict[bytes, bytes]:
    topics = session.topics
    numbers = range(topics.partitions)
    if len(name) == _DIGITS:
        number = keyed_partition(name, topics.partitions)
        numbers = range(number, number + 1)
    begins = await session.bus.begins([TopicPartition(topics.name("calibrations"), n) for n in numbers])
    wanted, found = name.encode(), dict[bytes, bytes]()
    async with aclosing(scan(session.bus, begins)) as batches:
        async for records in batches:
            found |= {
                one.key: one.value
                for one in records
                if one.key is not None and one.value is not None and one.key.startswith(wanted)
            }
    return found
