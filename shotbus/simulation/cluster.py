"""The simulation's bus keeps every record that was ever committed, trimmed and compacted ones too. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from shotbus.broker.bus.base import Record, TopicPartition, TopicSpec
from shotbus.broker.bus.memory import MemoryCluster
from shotbus.broker.bus.memory_log import Log, Stored, Transaction


class KeptLog(Log):
    """A log that also keeps what readers cannot see any more."""

    def __init__(self, spec: TopicSpec) -> None:
        super().__init__(spec)
        self._kept: dict[int, Stored] = {}
        self._shown = 0
        self._in_flight: dict[Transaction, dict[int, Stored]] = {}

    def append(self, record: Stored, transaction: Transaction | None) -> int:
        """Store a record and return its offset."""
        offset = super().append(record, transaction)
        place = self._kept if transaction is None else self._in_flight.setdefault(transaction, {})
        place[offset] = record
        return offset

    def finish(self, transaction: Transaction, *, commit: bool) -> None:
        """End a transaction here."""
        super().finish(transaction, commit=commit)
        records = self._in_flight.pop(transaction, {})
        if commit:
            self._kept.update(records)

    def fresh(self) -> list[tuple[int, Stored]]:
        """Return what became visible since the last call, in order."""
        end = self.stable
        new = sorted(offset for offset in self._kept if self._shown <= offset < end)
        self._shown = end
        return [(offset, self._kept[offset]) for offset in new]

    def everything(self) -> Iterator[tuple[int, Stored]]:
        """Yield every committed record, in order."""
        return ((offset, self._kept[offset]) for offset in sorted(self._kept))


class SimulatedCluster(MemoryCluster):
    """A cluster of such logs."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.kept: dict[TopicPartition, KeptLog] = {}

    def create(self, spec: TopicSpec) -> None:
        """Create a topic."""
        first = spec.name not in self.specs
        super().create(spec)
        if first:
            names = [TopicPartition(spec.name, partition) for partition in range(spec.partitions)]
            self.kept.update({name: KeptLog(spec) for name in names})
            self.logs.update({name: self.kept[name] for name in names})

    def fresh(self, topic: str) -> list[Record]:
        """Return the records of a topic that became visible since the last call, by partition."""
        return [
            _record(name, offset, stored)
            for name, log in self.kept.items()
            if name.topic == topic
            for offset, stored in log.fresh()
        ]

    def everything(self) -> Iterator[Record]:
        """Yield every record ever committed, topic by topic."""
        for name, log in self.kept.items():
            for offset, stored in log.everything():
                yield _record(name, offset, stored)


def _record(name: TopicPartition, offset: int, stored: Stored) -> Record:
    return Record(*name, offset, stored.key, stored.value, stored.headers, stored.timestamp_ms)
