"""The shards of one dispatcher process as one: common clocks, credits in turn, one sight of pools. Pure.

What one of them decides depends on the others only through what they have in common (virtual times, breakers,
watermarks, measured histories and speeds) and through the credits in its
:class:`~shotbus.broker.dispatcher.messages.Dispatch`: the same interleaving gives the same decisions.
A shard that leaves, or begins a new life, takes its contribution with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial

from shotbus.broker.config import Config
from shotbus.broker.dispatcher.arbiter import Arbiter, Claim, Dealt, claim_of
from shotbus.broker.dispatcher.breakers import CommonBreakers
from shotbus.broker.dispatcher.bundles import NOTHING_ALOFT, Aloft
from shotbus.broker.dispatcher.clocks import Clocks
from shotbus.broker.dispatcher.histories import Together
from shotbus.broker.dispatcher.messages import Credit
from shotbus.broker.dispatcher.shard import Shard
from shotbus.broker.dispatcher.shedding import Shedder
from shotbus.broker.dispatcher.speeds import Speeds
from shotbus.broker.machine import Now


class Peers:
    """The shards that share a process.

    Args:
        config: pools, and what is shed when.
        partitions: how many shards there are, in all processes.

    """

    def __init__(self, config: Config, partitions: int) -> None:
        pools = self._pools = config.pools
        self._arbiter = Arbiter(pools)
        self._clocks = {pool: Clocks() for pool in pools}
        self._shards: dict[int, Shard] = {}
        self._breakers = CommonBreakers({name: pool.breaker for name, pool in pools.items()})
        self._shedder = Shedder(pools, config.shedding, partitions)
        self._measured = Together()
        self._speeds: list[Speeds] = []
        #: The shards that have all their jobs: they have looked at what waits.
        self._looking: dict[int, Shard] = {}

    def join(self, shard: Shard) -> None:
        """Have a shard that begins a life share what is common; it replaces the one of that number."""
        self.leave(shard.number)
        self._shards[shard.number] = shard
        shard.neighbours = self._shards
        for pool, clocks in self._clocks.items():
            shard.queue_of(pool).use(clocks)
        shard.guard.share(self._breakers, self._shedder, partial(self._crowd, shard), self._aloft)
        shard.speeds.join(self._speeds)
        self._measured.of[shard.number] = shard.measured.view
        shard.router.history = self._measured

    def _crowd(self, shard: Shard, pool: str, _: float) -> float:
        """Return the seconds of work that wait for a pool, in the mean of the shards that are here."""
        self._looking[shard.number] = shard
        return sum(one.waiting_seconds(pool) for one in self._looking.values()) / len(self._looking)

    def _aloft(self, pool: str) -> Aloft:
        """Return what workers of a pool have of all shards that are here."""
        found = [one.guard.aloft.get(pool, NOTHING_ALOFT) for one in self._shards.values()]
        return Aloft(*map(sum, zip(*found, strict=True))) if found else NOTHING_ALOFT

    def leave(self, number: int) -> None:
        """Let go of a shard; one that is not here is none."""
        shard = self._shards.pop(number, None)
        if shard is not None:
            shard.neighbours = {number: shard}
            self._arbiter.forget(number)
            for pool in self._clocks:
                shard.queue_of(pool).use(Clocks())
            shard.guard.alone()
            shard.speeds.leave()
            del self._measured.of[number]
            self._looking.pop(number, None)
            shard.router.history = shard.measured.view

    def keep(self, numbers: Collection[int]) -> None:
        """Let go of every shard but these."""
        for number in [one for one in self._shards if one not in numbers]:
            self.leave(number)

    def ask(
        self,
        number: int | None,
        free: Mapping[str, Sequence[Credit]],
        held: Iterable[tuple[Shard, Now]],
        *,
        now: float,
    ) -> Dealt:
        """Deal the free credits; see :meth:`Arbiter.ask`.

        Args:
            number: of the shard that asks; None only asks who should come.
            free: all free credits of the process by pool.
            held: the shards that run now, each with its time; no other takes part.
            now: monotonic seconds.

        """
        shards = list(held)
        claims = {pool: self._claims(number, pool, shards) for pool in free if pool in self._pools}
        return self._arbiter.ask(number, free, claims, now)

    def _claims(self, number: int | None, pool: str, shards: Sequence[tuple[Shard, Now]]) -> dict[int, Claim]:
        wanting = [(shard, now) for shard, now in shards if _wants(shard, pool)]
        if all(shard.number == number for shard, _ in wanting):
            # Nobody else wants any: the usual case, which must cost little.
            return {}
        found = {shard.number: self._claim(shard, pool, now) for shard, now in wanting}
        return {other: claim for other, claim in found.items() if claim is not None}

    def _claim(self, shard: Shard, pool: str, now: Now) -> Claim | None:
        lookups, room = len(shard.lookups.get(pool, ())), shard.guard.room(pool, now)
        return claim_of(shard.queues[pool], self._pools[pool], now.wall_ms, lookups=lookups, room=room)


def _wants(shard: Shard, pool: str) -> bool:
    waits = shard.queues[pool].length > 0 or bool(shard.lookups.get(pool))
    return waits and not shard.standing.is_paused(pool)
