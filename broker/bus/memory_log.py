"""The state behind memory buses: logs with transactions, as Kafka keeps them. Pure, no I/O.

It is deliberately as inconvenient as Kafka: a transaction leaves a marker in the offsets of every partition
it touched, and readers are held back behind the first open transaction of a partition.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from shotbus.broker.bus.base import Headers, OffsetGapError, TopicPartition, TopicSpec


class Stored(NamedTuple):
    """A record as it lies in its log."""

    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(eq=False)
class Transaction:
    """Records that become visible together; ``touched`` are the logs it has written to."""

    shard: str
    touched: dict[TopicPartition, Log] = field(default_factory=dict)
    open: bool = True


class Log:
    """One partition: stored records by rising offset, some of them in open transactions."""

    def __init__(self, spec: TopicSpec) -> None:
        self.spec = spec
        self.begin = 0
        self.end = 0
        self._offsets: list[int] = []
        self._records: dict[int, Stored] = {}
        self._open: dict[Transaction, list[int]] = {}
        self._latest: dict[bytes, int] = {}

    @property
    def stable(self) -> int:
        """The offset up to which readers may read: the first open transaction, or the end."""
        if not self._open:
            return self.end
        return min(offsets[0] for offsets in self._open.values())

    def append(self, record: Stored, transaction: Transaction | None) -> int:
        """Store a record and return its offset."""
        offset = self.end
        self.end += 1
        self._offsets.append(offset)
        self._records[offset] = record
        if transaction is None:
            self._supersede(offset)
        else:
            self._open.setdefault(transaction, []).append(offset)
        return offset

    def finish(self, transaction: Transaction, *, commit: bool) -> None:
        """End a transaction here: its marker takes an offset, its records appear or vanish."""
        offsets = self._open.pop(transaction)
        self.end += 1
        for offset in offsets:
            if commit:
                self._supersede(offset)
            else:
                self._remove(offset)

    def read(self, position: int, limit: int) -> Iterator[tuple[int, Stored]]:
        """Yield visible records from ``position`` on. Raises :class:`OffsetGapError`."""
        self.check(position)
        start = bisect_left(self._offsets, position)
        stop = bisect_left(self._offsets, self.stable)
        for index in range(start, min(start + limit, stop)):
            yield self._offsets[index], self._records[self._offsets[index]]

    def check(self, position: int) -> None:
        """Raise :class:`OffsetGapError` for a position outside what is kept."""
        if not self.begin <= position <= self.end:
            raise OffsetGapError(
                f"offset {position} of {self.spec.name} is outside [{self.begin}, {self.end})"
            )

    def trim(self, before: int) -> None:
        """Delete the records below ``before``, at most the stable ones."""
        self.begin = max(self.begin, min(before, self.stable))
        cut = bisect_left(self._offsets, self.begin)
        for offset in self._offsets[:cut]:
            del self._records[offset]
        del self._offsets[:cut]

    def offset_at(self, timestamp_ms: int) -> int:
        """Return the first visible offset not older than ``timestamp_ms``, else the stable end."""
        for offset, record in self.read(self.begin, len(self._offsets)):
            if record.timestamp_ms >= timestamp_ms:
                return offset
        return self.stable

    def expire(self, now_ms: int) -> None:
        """Apply the topic's retention time."""
        if self.spec.retention_ms is not None and self.spec.cleanup.endswith("delete"):
            self.trim(self.offset_at(now_ms - self.spec.retention_ms))

    def _supersede(self, offset: int) -> None:
        key = self._records[offset].key
        if key is None or not self.spec.cleanup.startswith("compact"):
            return
        older = self._latest.get(key, -1)
        if older in self._records:
            self._remove(older)
        self._latest[key] = offset

    def _remove(self, offset: int) -> None:
        del self._records[offset]
        del self._offsets[bisect_left(self._offsets, offset)]
