"""A shard's ledger: the compacted topic its state is restored from. Encodes rows; reads through the bus.

Besides the machine's rows it holds one row of *positions*: the next offset of every input partition,
written in the same transaction as what the records before it decided.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import aclosing

from shotbus.broker.bus.base import Bus, Outgoing, TopicPartition
from shotbus.broker.bus.scan import scan
from shotbus.schemas.codec import decode, encode

_POSITIONS_KEY = b"\0positions"
# Rows between two pauses: some 30 ms of a large machine.
_RESTORE_BATCH = 1_000
TakeRow = Callable[[bytes, bytes | None], None]


def positions_row(ledger: TopicPartition, positions: Mapping[TopicPartition, int]) -> Outgoing:
    """Return the row that makes ``positions`` durable."""
    data = json.dumps([[*partition, offset] for partition, offset in positions.items()]).encode()
    value = encode("ledger_page", {"kind": "positions", "data": data})
    return Outgoing(ledger.topic, ledger.partition, _POSITIONS_KEY, value)


async def replay_ledger(bus: Bus, ledger: TopicPartition, take: TakeRow) -> dict[TopicPartition, int]:
    """Hand the ledger's rows to ``take(key, row)`` as they are read and return the positions.

    Every record comes, in order: a key again and again, and None for one that has gone. No more than a batch
    is held here. The positions are empty for a shard's first life. Raises BusError.
    """
    positions: bytes | None = None
    async with aclosing(scan(bus, await bus.begins([ledger]), batch=_RESTORE_BATCH)) as batches:
        async for batch in batches:
            for record in batch:
                if record.key == _POSITIONS_KEY:
                    positions = record.value
                else:
                    take(record.key or b"", record.value)
            # What is buffered comes without a pause, and heartbeats could not get through for seconds.
            await asyncio.sleep(0)
    return _positions(positions)


class LastRows:
    """The last row of every key that still has one, raw, for a machine that takes each key once."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def take(self, key: bytes, row: bytes | None) -> None:
        """Take a row as :func:`replay_ledger` reads it."""
        if row is None:
            self.rows.pop(key, None)
        else:
            self.rows[key] = row

    def give(self, restore: Callable[[bytes, bytes], None]) -> None:
        """Pass all rows on; each is let go as soon as it is, or both forms would be held at once."""
        for key in list(self.rows):
            restore(key, self.rows.pop(key))


async def read_ledger(bus: Bus, ledger: TopicPartition) -> dict[bytes, bytes]:
    """Return the last raw row of every key that still has one, to look at. Raises BusError."""
    rows = LastRows()
    await replay_ledger(bus, ledger, rows.take)
    return rows.rows


def _positions(row: bytes | None) -> dict[TopicPartition, int]:
    if row is None:
        return {}
    _, page = decode(row, "ledger_page")
    entries = json.loads(page["data"])
    return {TopicPartition(topic, partition): offset for topic, partition, offset in entries}
