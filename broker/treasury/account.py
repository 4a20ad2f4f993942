"""The Treasury's account of one purse: what it granted to whom, what came back, what is left. Pure.

Invariant: what was spent out of grants, plus what is with the shards, never exceeds the limit (as it was when
the last unit was granted). Of a shard's records only the newest counts, and its totals say everything:
records that come twice, late or not at all change nothing for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shotbus.broker.treasury.budgets import Purse
from shotbus.broker.treasury.rows import TOTALS, WANTS, WHOLE, row


@dataclass(slots=True)
class Share:
    """One dispatcher shard's part; totals are in units since its first grant.

    ``number`` is that of the last record heard from it, ``sent`` of the last one to it, ``heard`` of the last
    one that it had taken then. ``mute``: it did not answer a recall in time; nobody waits until it speaks.
    """

    shard: int
    number: int = 0
    sent: int = 0
    heard: int = 0
    granted: int = 0
    used: int = 0
    returned: int = 0
    overdrawn: int = 0
    reserved: int = 0
    wanted: int = 0
    smallest: int = 0
    mute: bool = False
    #: Number of the record with which it began to wish; who wishes longest is served first.
    since: int = 0

    @property
    def held(self) -> int:
        """Units that are with the shard, as far as known: reserved, idle or spent and not told."""
        return self.granted - self.used - self.returned

    def take(self, said: Mapping[str, Any]) -> bool:
        """Believe a shard's record; False for one that is older than what is known."""
        if said["number"] <= self.number:
            return False
        self.number, self.heard, self.mute = said["number"], said["heard"], False
        self.used = max(self.used, said["used"])
        self.returned = max(self.returned, said["returned"])
        self.overdrawn = max(self.overdrawn, said["overdrawn"])
        self.reserved = said["reserved"]
        # What is on its way to the shard answers what it asked for before it knew.
        under_way = self.granted - said["granted"]
        self.wanted = max(0, said["wanted"] - under_way)
        self.smallest = max(0, said["smallest"] - under_way)
        self.since = (self.since or self.number) if self.wanted else 0
        return True

    def answer(self, units: int) -> None:
        """Grant units, which may be none: its wish is answered."""
        self.granted += units
        self.wanted = self.smallest = self.since = 0


@dataclass(slots=True)
class Round:
    """One round of recalls for the shard that is first in line; ``asked`` maps shard to record number."""

    shard: int
    until: float
    asked: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Account:
    """A purse as the Treasury sees it.

    ``alerted`` is the highest threshold that was told of, as a part of the limit, ``alerted_ms`` when.
    """

    purse: Purse
    limit: int
    alerted: float = 0.0
    alerted_ms: int = 0
    bound: str = ""
    shares: dict[int, Share] = field(default_factory=dict)
    round: Round | None = None

    @property
    def spent(self) -> int:
        """Units that are gone, those beyond grants included."""
        return sum(share.used + share.overdrawn for share in self.shares.values())

    @property
    def overdrawn(self) -> int:
        """Units that were spent beyond grants."""
        return sum(share.overdrawn for share in self.shares.values())

    @property
    def held(self) -> int:
        """Units that are with the shards."""
        return sum(share.held for share in self.shares.values())

    @property
    def available(self) -> int:
        """Units that can be granted; negative after an overdraft or when the limit was lowered."""
        return self.limit - self.spent - self.held

    def share(self, shard: int) -> Share:
        """Return a shard's part, empty when it had none."""
        return self.shares.setdefault(shard, Share(shard))

    def first_in_line(self) -> Share | None:
        """Return the part of the shard whose wish is the oldest."""
        waiting = [share for share in self.shares.values() if share.wanted]
        return min(waiting, key=lambda share: (share.since, share.shard), default=None)

    def others(self, shard: int) -> list[Share]:
        """Return the parts of other shards with which there are units."""
        return [self.shares[n] for n in sorted(self.shares) if n != shard and self.shares[n].held > 0]

    def unanswered(self) -> list[Share]:
        """Return the parts whose shards have not answered this round's recall and are waited for."""
        if self.round is None:
            return []
        asked = [(self.shares[shard], number) for shard, number in self.round.asked.items()]
        return [share for share, number in asked if share.heard < number and not share.mute]

    def row(self, shard: int) -> bytes | None:
        """Return the row of the account (:data:`WHOLE`) or of one part, None for a part that is gone."""
        if shard != WHOLE and shard not in self.shares:
            return None
        share = self.shares.get(shard)
        counts = {name: getattr(share, name) for name in (*TOTALS, *WANTS)} if share else None
        return row(
            self.purse,
            limit=self.limit,
            shard=shard,
            alerted=(self.alerted, self.alerted_ms) if share is None else (0.0, 0),
            bound=self.bound,
            counts=counts,
        )


def share_of(fields: Mapping[str, Any]) -> Share:
    """Return the part that a row tells of."""
    share = Share(fields["shard"], **{name: fields[name] for name in (*TOTALS, *WANTS)})
    share.since = share.number if share.wanted else 0
    return share
