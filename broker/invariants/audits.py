"""The audit chains, I14: each entry holds the hash of the one before; its ledger knows the last. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from shotbus.broker.audit import AuditChain, Head, head_of, verify
from shotbus.broker.bus.base import Record
from shotbus.broker.invariants.findings import Findings, Look
from shotbus.schemas.codec import decode


class Audits:
    """Gathers the entries and the heads.

    Args:
        findings: told what is wrong.
        whole: the topic is read from its first entry on; else a head may be older than what was read.

    """

    def __init__(self, findings: Findings, *, whole: bool) -> None:
        self._findings, self._whole = findings, whole
        self._entries: list[Mapping[str, Any]] = []
        self._heads: dict[str, Head] = {}

    @property
    def takes(self) -> Mapping[str, Callable[[Record], None]]:
        """The log, and the ledgers that remember its end."""
        return {
            "audit": self._entry,
            "jobs": lambda record: self._head("dispatcher", record),
            "treasury-ledger": lambda record: self._head("treasury", record),
        }

    def _entry(self, record: Record) -> None:
        self._entries.append(decode(record.value, "audit_entry")[1])

    def _head(self, machine: str, record: Record) -> None:
        if record.key == AuditChain.KEY and record.value is not None:
            self._heads[f"{machine}-{record.partition}"] = head_of(record.value)

    def finish(self, look: Look) -> None:
        """Judge the chains."""
        del look
        self._findings.judged["I14"] += len(self._entries)
        for problem in verify(self._entries, self._heads if self._whole else None):
            place, _, seen = problem.partition(": ")
            self._findings.broke("I14", "entries-follow-one-another", place, seen)
