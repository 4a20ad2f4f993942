"""Topic names and how each is declared: partitions, clean-up, size. Pure data.

``trim`` topics have neither time nor size retention: the shard that owns a partition deletes below
its low water, so nothing that a live job still references can vanish.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shotbus.broker.bus.base import TopicSpec

CLASSES: tuple[str, ...] = ("interactive", "production", "experiment", "bulk")
_DAY_MS = 86_400_000
#: How long a circuit's text is kept, on its topic and in the store.
CIRCUIT_SECONDS = 30 * 86_400.0
#: How long a calibration's snapshot is kept; workers publish one again that is still in use after half of it.
CALIBRATION_MS = 365 * _DAY_MS
#: How long it is kept who did what.
AUDIT_MS = 365 * _DAY_MS
_MIB = 1_048_576


@dataclass(frozen=True, slots=True)
class Topics:
    """Names under one prefix. ``partitions`` is fixed for the life of a prefix."""

    prefix: str = "shotbus."
    partitions: int = 2
    work_partitions: int = 8
    retention_ms: int = 3 * _DAY_MS
    classes: tuple[str, ...] = CLASSES

    def name(self, logical: str) -> str:
        """Return the topic's full name."""
        return self.prefix + logical

    def requests(self, priority: str) -> str:
        """Return the topic on which requests of a class are published."""
        return self.name(f"requests.{priority}")

    def work(self, pool: str) -> str:
        """Return the topic on which a pool's workers receive bundles."""
        return self.name(f"work.{pool}")

    def specs(self, pools: Iterable[str]) -> Sequence[TopicSpec]:
        """Declare every topic of this prefix."""
        return [*self._core(), *self._flows(pools)]

    def _core(self) -> list[TopicSpec]:
        n, keep = self.partitions, self.retention_ms
        return [
            TopicSpec(self.name("shards"), n, "delete", _DAY_MS),
            TopicSpec(self.name("circuits"), n, "compact,delete", int(CIRCUIT_SECONDS * 1000), 2 * _MIB),
            TopicSpec(self.name("calibrations"), n, "compact,delete", CALIBRATION_MS, 2 * _MIB),
            TopicSpec(self.name("jobs"), n, "compact"),
            TopicSpec(self.name("folds"), n, "compact", max_record_bytes=2 * _MIB),
            TopicSpec(self.name("events"), n, "delete", keep, 4 * _MIB),
            TopicSpec(self.name("results"), n, "delete", keep, 2 * _MIB),
            TopicSpec(self.name("reductions"), n, "compact,delete", keep, 4 * _MIB),
            TopicSpec(self.name("control"), n, "trim"),
            TopicSpec(self.name("sweeps"), n, "trim"),
            TopicSpec(self.name("treasury"), n, "trim"),
            TopicSpec(self.name("grants"), n, "trim"),
            TopicSpec(self.name("treasury-ledger"), n, "compact"),
            TopicSpec(self.name("audit"), n, "delete", AUDIT_MS),
            TopicSpec(self.name("pools"), 1, "compact"),
            # Neither compacted nor cut: of two records about a name the first one counts.
            TopicSpec(self.name("templates"), 1, "trim"),
            TopicSpec(self.name("revocations"), 1, "delete", _DAY_MS),
            TopicSpec(self.name("dead-letters"), n, "delete", 30 * _DAY_MS, 4 * _MIB),
        ]

    def _flows(self, pools: Iterable[str]) -> list[TopicSpec]:
        n = self.partitions
        requests = [TopicSpec(self.requests(name), n, "trim") for name in self.classes]
        work = [
            TopicSpec(self.work(pool), self.work_partitions, "trim", max_record_bytes=2 * _MIB)
            for pool in sorted(pools)
        ]
        return [*requests, *work, TopicSpec(self.name("outcomes"), n, "trim", max_record_bytes=2 * _MIB)]
