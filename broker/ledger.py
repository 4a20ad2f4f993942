"""A shard's ledger: the compacted topic its state is restored from. Encodes rows; reads through the bus.

Besides the machine's rows it holds one row of *positions*: the next offset of every input partition,
written in the same transaction as what the records before it decided.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from shotbus.broker.bus.base import Bus, Outgoing, TopicPartition
from shotbus.broker.bus.scan import scan
from shotbus.schemas.codec import decode, encode

_POSITIONS_KEY = b"\0positions"
_RESTORE_BATCH = 5_000


def positions_row(ledger: TopicPartition, positions: Mapping[TopicPartition, int]) -> Outgoing:
    """Return the row that makes ``positions`` durable."""
    data = json.dumps([[*partition, offset] for partition, offset in positions.items()]).encode()
    value = encode("ledger_page", {"kind": "positions", "data": data})
    return Outgoing(ledger.topic, ledger.partition, _POSITIONS_KEY, value)


async def read_ledger(bus: Bus, ledger: TopicPartition) -> dict[bytes, bytes]:
    """Return the last value of every key that still has one.

    Values stay raw until the caller decodes them.
    """
    rows: dict[bytes, bytes] = {}
    async for batch in scan(bus, await bus.begins([ledger]), batch=_RESTORE_BATCH):
        for record in batch:
            key = record.key or b""
            if record.value is None:
                rows.pop(key, None)
            else:
                rows[key] = record.value
    return rows


def take_positions(rows: dict[bytes, bytes]) -> dict[TopicPartition, int]:
    """Remove the positions from restored rows and return them; empty for a shard's first life."""
    raw = rows.pop(_POSITIONS_KEY, None)
    if raw is None:
        return {}
    _, page = decode(raw, "ledger_page")
    entries = json.loads(page["data"])
    return {TopicPartition(topic, partition): offset for topic, partition, offset in entries}
