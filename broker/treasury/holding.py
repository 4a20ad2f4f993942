"""What a dispatcher's shard holds of one purse: granted, reserved, spent, given back. Pure.

Invariant: ``free`` is never negative; a unit is either free, reserved by one live job, spent, or given back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from shotbus.broker.machine import Emit, Now
from shotbus.broker.treasury.budgets import Purse, is_gauge
from shotbus.broker.treasury.periods import DAY_MS
from shotbus.broker.treasury.rows import row

#: Spending is told at most so often, seconds of time seen; wishes and answers at once.
REPORT_SECONDS = 1.0
#: Units that nobody took from for so long go back.
IDLE_SECONDS = 30.0
#: The holding of a period that is over is kept so long: the clock may be set back, a record may come again.
KEEP_MS = DAY_MS


class Short(NamedTuple):
    """What the Treasury said when it refused; good until ``until``, seconds of time seen."""

    limit: int
    spent: int
    held: int
    available: int
    reason: str
    until: float


@dataclass(slots=True)
class Holding:
    """One purse in a shard; totals in units since the first grant.

    ``heard`` is the number of the last record taken. ``waiting`` maps jobs that wait for
    this purse to the units each takes from it, in the order of arrival.
    """

    purse: Purse
    heard: int = 0
    granted: int = 0
    used: int = 0
    returned: int = 0
    overdrawn: int = 0
    reserved: int = 0
    waiting: dict[str, int] = field(default_factory=dict)
    promised: int = 0
    #: What was wished for and is not answered yet; 0 for nothing.
    asked: int = 0
    #: An answer is under way, though nobody may wait for it any more: it must find this holding.
    expects: bool = False
    owes_answer: bool = False
    gives_back: bool = False
    report_at: float = 0.0
    taken_at: float = 0.0
    short: Short | None = None

    @property
    def free(self) -> int:
        """Units that a job may reserve."""
        return self.granted - self.used - self.returned - self.reserved

    @property
    def wanted(self) -> int:
        """Units that waiting jobs lack."""
        return max(0, self.promised - self.free)

    @property
    def wishes(self) -> bool:
        """Tell whether more is lacking than was asked for."""
        return self.wanted > self.asked

    def wait(self, job_id: str, units: int) -> None:
        """Let a job wait for units."""
        self.waiting[job_id] = units
        self.promised += units

    def wait_no_more(self, job_id: str) -> None:
        """Forget that a job waits here, if it does."""
        self.promised -= self.waiting.pop(job_id, 0)

    def charge(self, reserved: int, units: int) -> int:
        """Spend units, first out of a job's reservation, then free ones; returns what neither covered."""
        covered = min(units, reserved)
        self.reserved -= covered
        self.used += covered
        more = min(units - covered, self.free)
        self.used += more
        missing = units - covered - more
        self.overdrawn += missing
        return missing

    def refused_for(self, lacking: int, now: Now) -> Short | None:
        """Return the Treasury's fresh refusal when it covers a job that lacks so many units."""
        short = self.short
        return short if short and now.seen < short.until and lacking > short.available else None

    def give_back(self, units: int) -> None:
        """Return free units, at most so many."""
        back = min(units, max(0, self.free))
        self.returned += back
        self.gives_back = self.gives_back or back > 0

    def is_over(self, now: Now) -> bool:
        """Tell whether the period has ended."""
        until = self.purse.until_ms
        return bool(until) and until <= now.wall_ms

    def can_go(self, now: Now) -> bool:
        """Tell whether nothing would be lost with it: never granted and no wish, or long over and empty."""
        if self.waiting or self.expects or self.reserved or self.free or self.must_report:
            return False
        return self.granted == 0 or (self.purse.until_ms > 0 and self.purse.until_ms + KEEP_MS <= now.wall_ms)

    @property
    def must_report(self) -> bool:
        """Tell whether a record is due at once."""
        return self.owes_answer or self.gives_back or self.wishes

    def say(self, shard: int, partitions: int, number: int, now: Now) -> Emit:
        """Return the record that tells the Treasury everything; ``number`` is the shard's next."""
        wanted = self.wanted
        fields: Mapping[str, Any] = {
            **self.purse._asdict(),
            "command": self._verb(wanted),
            "shard": shard,
            "number": number,
            "heard": self.heard,
            "granted": self.granted,
            "used": self.used,
            "returned": self.returned,
            "overdrawn": self.overdrawn,
            "reserved": self.reserved,
            "wanted": wanted,
            "smallest": max(1, min(self.waiting.values()) - self.free) if wanted else 0,
            "at_ms": now.wall_ms,
        }
        self.asked, self.owes_answer, self.gives_back = wanted, False, False
        self.expects = self.expects or wanted > 0
        self.report_at = now.seen + REPORT_SECONDS
        return Emit("treasury", self.purse.partition(partitions), self.purse.key, "treasury_command", fields)

    def _verb(self, wanted: int) -> str:
        if wanted:
            return "request"
        return "recalled" if self.owes_answer else "return" if self.gives_back else "settle"

    def row(self, shard: int, bound: str) -> bytes:
        """Return the ledger row; what is reserved follows from the jobs' own rows."""
        counts = {
            "heard": self.heard,
            "granted": self.granted,
            "used": self.used,
            "returned": self.returned,
            "overdrawn": self.overdrawn,
            "reserved": self.reserved,
            "wanted": int(self.expects),
        }
        return row(self.purse, limit=0, shard=shard, bound=bound, counts=counts)


def holding_of(fields: Mapping[str, Any], purse: Purse) -> Holding:
    """Return the holding that a row tells of, without reservations."""
    names = ("heard", "granted", "used", "returned", "overdrawn")
    return Holding(purse, expects=fields["wanted"] > 0, **{name: fields[name] for name in names})


def units_spent(resource: str, units: int) -> int:
    """Return what is spent of units that were taken: nothing of what is only counted at a time."""
    return 0 if is_gauge(resource) else units
