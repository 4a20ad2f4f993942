"""What a simulated world has come to: the checker fed with every record, and when all is over. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from shotbus.broker.bus.base import Record
from shotbus.broker.invariants import (
    Bounds,
    Checker,
    History,
    ProviderLedger,
    Report,
    Violation,
)
from shotbus.broker.store.base import Store
from shotbus.broker.topics import Topics
from shotbus.reducers.reconcile import ReadModelCheck
from shotbus.schemas.codec import decode
from shotbus.simulation.cluster import SimulatedCluster
from shotbus.simulation.loop import EPOCH_MS
from shotbus.simulation.story import life_of

_FED = (
    "outcomes",
    "pools",
    "dead-letters",
    "results",
    "reductions",
    "jobs",
    "treasury-ledger",
    "audit",
    "events",
)
_HASHED = frozenset({"events", "results", "reductions"})
_MOST_LIVES = 5


class Verdict:
    """Follows the topics from the moment everything was healed.

    Args:
        cluster: its topics have no prefix.
        history: what the clients did.
        ledger: what the provider accepted.
        topics: their names.
        healed_at: simulated seconds.
        heal_seconds: how long the broker has from then on.
        budgets: what each tenant may be billed, by the provider's books.

    """

    def __init__(
        self,
        cluster: SimulatedCluster,
        history: History,
        ledger: ProviderLedger,
        topics: Topics,
        *,
        healed_at: float,
        heal_seconds: float,
        budgets: Mapping[str, float] | None = None,
    ) -> None:
        self._cluster, self._history, self._ledger = cluster, history, ledger
        bounds = Bounds(
            wait_seconds=healed_at + heal_seconds,
            healed_ms=EPOCH_MS + int(healed_at * 1000),
            heal_seconds=heal_seconds,
            budgets=budgets,
        )
        self._checker = Checker(complete=True, bounds=bounds)
        for topic in _FED:
            self._checker.expect(topic)
        self._hash = hashlib.blake2b(digest_size=16)
        self._ended_sweeps: set[str] = set()
        self._models = ReadModelCheck(topics)
        self.answers: Counter[str] = Counter()

    def is_over(self) -> bool:
        """Read on, and tell whether everything asked for has its answer."""
        self._read()
        lives = self._checker.lives
        if any(life.state and not life.ended for life in lives.values()):
            return False
        for operation in self._history.operations:
            if operation.status != "ok":
                continue
            if operation.kind == "declare" and operation.about not in self._ended_sweeps:
                return False
            life = lives.get(operation.about)
            if operation.kind == "submit" and not (life and (life.answers or life.refusals)):
                return False
        return True

    def report(self) -> Report:
        """Judge; once, and last."""
        self._read()
        return self._checker.report(over=True, history=self._history, ledger=self._ledger)

    def digest(self) -> str:
        """Return a hash of all that was published for others."""
        return self._hash.hexdigest()

    def lives(self, violations: Iterable[Violation]) -> list[str]:
        """Return what is known of the first ids that came to harm."""
        lines: list[str] = []
        for name in list(dict.fromkeys(one.about for one in violations if one.about))[:_MOST_LIVES]:
            lines += ["", f"what is known of {name}:"]
            lines += life_of(name, self._cluster.everything(), self._history, self._ledger)
        return lines

    async def stale_read_models(self, store: Store, *, emptied: bool) -> list[Violation]:
        """Compare what the store has with the topics; what was emptied is missing by rights."""
        self._read()
        return [
            Violation("I16", "read-models-catch-up", one.key.rpartition(":")[2], f"{one.key}: {one.kind}")
            for one in await self._models.compare(store)
            if not (emptied and one.kind == "missing")
        ]

    def _read(self) -> None:
        for topic in _FED:
            for record in self._cluster.fresh(topic):
                self._checker.take(topic, record)
                if topic in _HASHED:
                    self._hash.update(record.value or b"")
                    self._models.take([record])
                if topic == "results":
                    self._count(record)
                elif topic == "reductions":
                    self._note_sweep(record)

    def _count(self, record: Record) -> None:
        name, fields = decode(record.value)
        self.answers[fields["outcome"] if name == "circuit_result" else name] += 1

    def _note_sweep(self, record: Record) -> None:
        fields: dict[str, Any] = decode(record.value, "sweep_reduction")[1] if record.value else {}
        if fields.get("final"):
            self._ended_sweeps.add(fields["sweep_id"])
