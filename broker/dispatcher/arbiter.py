"""Which shard of a process gets which of its free credits: as one queue of all of them would have it. Pure.

Each shard says what of its waiting jobs would be served next (:class:`Claim`); their virtual times can be
compared because the shards' queues share their clocks. Whoever asks gets the credits that are its due, the
others are told and come for theirs. Nothing is reserved but by that comparison, which is made anew each
time: a job that comes in a hurry is before all that was dealt and not fetched.

A shard that does not come within the patience is passed over until it asks: it may be slow, stuck, or
about to be taken. So is one that came and used nothing, until another job of it is next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from shotbus.broker.config import PoolConfig
from shotbus.broker.dispatcher.messages import Credit
from shotbus.broker.dispatcher.packing import LEAST_BUNDLE_SECONDS
from shotbus.broker.dispatcher.waiting import Front, WaitingQueue

PATIENCE_SECONDS = 0.05
_FIRST = (-math.inf,)


class Claim(NamedTuple):
    """What a shard could do with credits of one pool.

    ``fronts``: the next job of each class. ``jobs`` and ``seconds`` wait, ``bundles`` is how many bundles are
    worth making of them, ``urgent`` how many must go before anything else (look-ups).
    """

    fronts: tuple[Front, ...]
    jobs: int
    seconds: float
    bundles: int
    urgent: int = 0

    @property
    def heads(self) -> tuple[object, ...]:
        """What it is made for: another one once any of it has gone."""
        return (self.urgent, *((front.name, front.due, front.order) for front in self.fronts))


Claims = Mapping[str, Mapping[int, Claim]]


class Dealt(NamedTuple):
    """The asker's credits by pool, and the shards for which others are free."""

    credits: Mapping[str, Sequence[Credit]]
    others: tuple[int, ...]


def claim_of(
    queue: WaitingQueue, settings: PoolConfig, now_ms: int, *, lookups: int = 0, room: int | None = None
) -> Claim | None:
    """Return a queue's claim, None when nothing may go.

    ``lookups`` jobs are to be looked up first; ``room`` is how many other bundles the shard may send at all,
    None without a limit.
    """
    urgent = -(-lookups // settings.bundle_jobs)
    fronts = () if room == 0 else queue.claim(now_ms)
    if not fronts:
        return Claim((), 0, 0.0, urgent, urgent) if urgent else None
    worth = max(-(-queue.length // settings.bundle_jobs), int(queue.seconds / LEAST_BUNDLE_SECONDS))
    bundles = max(1, min(queue.length, worth))
    bundles = bundles if room is None else min(bundles, room)
    return Claim(fronts, queue.length, queue.seconds, urgent + bundles, urgent)


class Arbiter:
    """Deals the free credits of one process.

    Args:
        pools: settings by pool.
        patience: seconds for which credits wait for the shard whose due they are.

    """

    def __init__(self, pools: Mapping[str, PoolConfig], patience: float = PATIENCE_SECONDS) -> None:
        self._pools, self._patience = pools, patience
        #: Since when a shard is waited for.
        self._since: dict[tuple[str, int], float] = {}
        #: The heads of the claims with which shards were last given credits.
        self._given: dict[tuple[str, int], tuple[object, ...]] = {}

    def ask(
        self, shard: int | None, free: Mapping[str, Sequence[Credit]], claims: Claims, now: float
    ) -> Dealt:
        """Deal for a shard that uses at once what it is given; None only asks who should come.

        Args:
            shard: its number; it may or may not be among the claims.
            free: all free credits by pool.
            claims: what each shard could do, by pool and shard.
            now: monotonic seconds.

        """
        mine: dict[str, Sequence[Credit]] = {}
        others: dict[int, None] = {}
        for pool, open_credits in free.items():
            count = sum(credit.bundles for credit in open_credits)
            dealt = self._deal(pool, shard, count, claims.get(pool, {}), now)
            own = count
            for other, bundles in dealt.items():
                if other != shard and bundles:
                    own -= bundles
                    others[other] = None
            if shard is not None:
                mine[pool] = open_credits if own == count else _part(open_credits, own)
        return Dealt(mine, tuple(others))

    def forget(self, shard: int) -> None:
        """Forget a shard that begins a new life, or has gone."""
        self._since = {place: since for place, since in self._since.items() if place[1] != shard}
        self._given = {place: heads for place, heads in self._given.items() if place[1] != shard}

    def _deal(
        self, pool: str, shard: int | None, count: int, claims: Mapping[int, Claim], now: float
    ) -> Mapping[int, int]:
        """Return bundles by shard; what is left over belongs to the asker."""
        if shard is not None:
            self._since.pop((pool, shard), None)
        rivals = {
            other: claim
            for other, claim in claims.items()
            if other == shard or self._may_come((pool, other), claim, now)
        }
        dealt = share_out(count, rivals, self._pools[pool].bundle_seconds) if rivals else {}
        for other, claim in rivals.items():
            if other == shard and dealt[other]:
                self._given[pool, other] = claim.heads
            elif other != shard and dealt[other]:
                self._since.setdefault((pool, other), now)
            else:
                self._since.pop((pool, other), None)
        return dealt

    def _may_come(self, place: tuple[str, int], claim: Claim, now: float) -> bool:
        since = self._since.get(place)
        return (since is None or now - since < self._patience) and self._given.get(place) != claim.heads


def share_out(count: int, claims: Mapping[int, Claim], bundle_seconds: float) -> dict[int, int]:
    """Return how many of ``count`` bundles each shard would send, were they one queue.

    Start-time fair queueing is played ahead, bundle by bundle, each of the size that its shard's bundles
    would have; ``bundle_seconds`` bounds it. Nobody gets more than its ``bundles``.
    """
    if len(claims) == 1 or sum(claim.bundles for claim in claims.values()) <= count:
        return {shard: min(count, claim.bundles) for shard, claim in claims.items()}
    race = {shard: _Racer(claim, bundle_seconds) for shard, claim in claims.items()}
    virtual = {front.name: front.virtual for claim in claims.values() for front in claim.fronts}
    for _ in range(count):
        _, shard = min((racer.turn(virtual), shard) for shard, racer in race.items())
        race[shard].go(virtual)
    return {shard: racer.gone for shard, racer in race.items()}


class _Racer:
    """One shard in the game ahead."""

    def __init__(self, claim: Claim, bundle_seconds: float) -> None:
        self._claim = claim
        self._cost = min(bundle_seconds, claim.seconds / max(1, claim.bundles - claim.urgent))
        self._spent = dict.fromkeys((front.name for front in claim.fronts), 0.0)
        self.gone = 0

    def turn(self, virtual: Mapping[str, float]) -> tuple[float, ...]:
        """Return when its next bundle would go: who has the least is next."""
        if self.gone >= self._claim.bundles:
            return (math.inf,)
        if self.gone < self._claim.urgent:
            return _FIRST
        return min(self._tag(front, virtual) for front in self._claim.fronts)

    def go(self, virtual: dict[str, float]) -> None:
        """Send a bundle: the times of its class and tenants go on."""
        self.gone += 1
        if self.gone > self._claim.urgent:
            front = min(self._claim.fronts, key=lambda one: self._tag(one, virtual))
            virtual[front.name] += self._cost / front.weight
            self._spent[front.name] += self._cost

    def _tag(self, front: Front, virtual: Mapping[str, float]) -> tuple[float, ...]:
        tenant = front.tenant + self._spent[front.name] / front.lines
        return (virtual[front.name], front.rank, tenant, front.due, front.order)


def _part(free: Sequence[Credit], count: int) -> list[Credit]:
    """Return so many of the credits, of the emptiest workers."""
    left = {credit: credit.bundles for credit in free}
    taken: dict[Credit, int] = {}
    for _ in range(count):
        credit = max(left, key=lambda one: (left[one], one.worker))
        left[credit] -= 1
        taken[credit] = taken.get(credit, 0) + 1
    return [credit._replace(bundles=bundles) for credit, bundles in taken.items()]
