"""Budgets by their ledgers, I7: no more is given than the limit, nor reserved than was given. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from shotbus.broker.bus.base import Record
from shotbus.broker.invariants.findings import Findings, Look
from shotbus.broker.treasury.budgets import purse_of
from shotbus.broker.treasury.rows import WHOLE, read_row
from shotbus.schemas.codec import identify


class Purses:
    """Judges each version of a row: a limit that was lowered since is not what was granted under."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        #: What each shard has of a purse, granted and not returned.
        self._held: dict[Any, dict[int, int]] = {}

    @property
    def takes(self) -> Mapping[str, Callable[[Record], None]]:
        """The Treasury's ledger and the shards' own."""
        return {"treasury-ledger": self._account, "jobs": self._holding}

    def _account(self, record: Record) -> None:
        fields = _purse_row(record)
        if fields is None or fields["shard"] == WHOLE:
            return
        held = self._held.setdefault(purse_of(fields), {})
        before, now = held.get(fields["shard"], 0), fields["granted"] - fields["returned"]
        held[fields["shard"]] = now
        if now > before:
            gone = sum(held.values())
            seen = f"{gone} units given of {fields['limit']}"
            holds = gone <= fields["limit"]
            self._findings.judge("I7", "granted-within-the-limit", fields["budget"], seen, holds=holds)

    def _holding(self, record: Record) -> None:
        fields = _purse_row(record)
        if fields is None:
            return
        gone = fields["used"] + fields["returned"] + fields["reserved"]
        seen = f"shard {fields['shard']} has used, returned or reserved {gone} of {fields['granted']} granted"
        holds = gone <= fields["granted"]
        self._findings.judge("I7", "reserved-within-the-grant", fields["budget"], seen, holds=holds)

    def finish(self, look: Look) -> None:
        """Everything has been judged as it came."""


def _purse_row(record: Record) -> Mapping[str, Any] | None:
    if record.value is None or identify(record.value).name != "treasury_row":
        return None
    return read_row(record.value)
