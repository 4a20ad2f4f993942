"""Budgets by their ledgers, I7: no more is given than the limit, nor reserved than was given. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from shotbus.broker.bus.base import Record
from shotbus.broker.invariants.findings import Findings, Look
from shotbus.broker.treasury.budgets import Purse, purse_of
from shotbus.broker.treasury.rows import WHOLE, read_row
from shotbus.schemas.codec import identify

_TRANSACTION_MS = 1_000


class Purses:
    """Judges each version of a row: a limit that was lowered since is not what was granted under."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        #: What each shard has of a purse, granted and not returned.
        self._held: dict[Purse, dict[int, int]] = {}
        #: What each shard has spent beyond, by both ledgers.
        self._overdrawn: dict[tuple[Purse, int], int] = {}
        #: Since when more is given than may be, and what that looked like.
        self._over: dict[Purse, tuple[int, str]] = {}

    @property
    def takes(self) -> Mapping[str, Callable[[Record], None]]:
        """The Treasury's ledger and the shards' own."""
        return {"treasury-ledger": self._account, "jobs": self._holding}

    def _account(self, record: Record) -> None:
        fields = _purse_row(record)
        if fields is None or fields["shard"] == WHOLE:
            return
        purse = purse_of(fields)
        self._overdraft(fields, purse)
        held = self._held.setdefault(purse, {})
        before, now = held.get(fields["shard"], 0), fields["granted"] - fields["returned"]
        held[fields["shard"]] = now
        gone = sum(held.values())
        self._findings.judged["I7"] += now > before
        if gone <= fields["limit"]:
            self._over.pop(purse, None)
        elif now > before:
            # What another shard returned may stand behind this in the same transaction.
            self._over.setdefault(purse, (record.timestamp_ms, f"{gone} units given of {fields['limit']}"))
        since, seen = self._over.get(purse, (record.timestamp_ms, ""))
        if record.timestamp_ms - since > _TRANSACTION_MS:
            self._told(purse, seen)

    def _holding(self, record: Record) -> None:
        fields = _purse_row(record)
        if fields is None:
            return
        self._overdraft(fields, purse_of(fields))
        gone = fields["used"] + fields["returned"] + fields["reserved"]
        seen = f"shard {fields['shard']} has used, returned or reserved {gone} of {fields['granted']} granted"
        holds = gone <= fields["granted"]
        self._findings.judge("I7", "reserved-within-the-grant", fields["budget"], seen, holds=holds)

    def _overdraft(self, fields: Mapping[str, Any], purse: Purse) -> None:
        """Judge that nothing is spent beyond a budget that sets aside the most; told once a shard's total."""
        place, overdrawn = (purse, fields["shard"]), fields["overdrawn"]
        if fields["bound"] == "attempt":
            told = self._overdrawn.get(place, 0)
            seen = f"shard {fields['shard']} has spent {overdrawn - told} units beyond what it was given"
            self._findings.judge("I7", "spent-within-the-limit", purse.budget, seen, holds=overdrawn <= told)
        self._overdrawn[place] = max(overdrawn, self._overdrawn.get(place, 0))

    def finish(self, look: Look) -> None:
        """Judge what is given beyond a limit even now."""
        del look
        for purse, (_, seen) in list(self._over.items()):
            self._told(purse, seen)

    def _told(self, purse: Purse, seen: str) -> None:
        del self._over[purse]
        self._findings.broke("I7", "granted-within-the-limit", purse.budget, seen)


def _purse_row(record: Record) -> Mapping[str, Any] | None:
    if record.value is None or identify(record.value).name != "treasury_row":
        return None
    return read_row(record.value)
