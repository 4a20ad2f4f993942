"""What is compiled ahead for pools that stand still: an optimisation that may be lost at any time. Pure.

While a pool is paused, outside its opening hours or left alone by its breaker, its workers that are alive may
compile the circuits that wait for it. What is sent for that is no attempt: it has no lease and no answer,
takes no credit and stands in no ledger. After a restart it is sent once more, and found compiled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from shotbus.broker.dispatcher.health import PoolState
from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.messages import ForwardedItem, Prepare
from shotbus.broker.dispatcher.shard import Shard
from shotbus.broker.dispatcher.traits import compiled_apart
from shotbus.broker.dispatcher.waiting import WaitingQueue
from shotbus.broker.lru import Lru
from shotbus.broker.machine import Now

_HALTED = frozenset({PoolState.PAUSED, PoolState.CLOSED, PoolState.DOWN})
# A pool's queue is looked at once in so many seconds of time seen: so many jobs from its front, which may
# have changed, and so many more from where the last look ended, but never farther than the deepest.
_EVERY, _FRONT, _FURTHER, _DEEPEST = 1.0, 16, 48, 8_192
#: Circuits that are sent for a pool by one look.
CIRCUITS_A_LOOK = 4
_REMEMBERED = 16_384

#: Of jobs that are alike in this one is enough: pool, circuit, mode and options, what replaces them.
_Kind = tuple[str, str, int, str]


class CompileAhead:
    """Looks for circuits of one shard's waiting jobs."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._sent: Lru[_Kind, bool] = Lru(_REMEMBERED)
        self._due: dict[str, float] = {}
        #: How far the look has got behind the front, by pool.
        self._passed: dict[str, int] = {}
        self._turn = 0

    def look(self, adverts: Sequence[Mapping[str, Any]], now: Now) -> list[Prepare]:
        """Return what workers are to compile now; ``adverts`` are those of the workers that are alive."""
        shard, found = self._shard, list[Prepare]()
        for pool, queue in shard.queues.items():
            if not queue.length or now.seen < self._due.get(pool, 0.0):
                continue
            health = shard.guard.health(pool)
            if health is None or health.state not in _HALTED:
                continue
            self._due[pool] = now.seen + _EVERY
            able = [one for one in adverts if _is_able(one, pool)]
            if able:
                found += self._for_pool(pool, queue, sorted(able, key=lambda one: str(one["name"])), now)
        return found

    def _for_pool(
        self, pool: str, queue: WaitingQueue, able: Sequence[Mapping[str, Any]], now: Now
    ) -> list[Prepare]:
        jobs = list(islice(self._fresh(pool, queue), CIRCUITS_A_LOOK))
        if jobs:
            count = len(jobs)
            self._shard.guard.tell(pool, f"compile ahead: {count} circuits", circuits=count)
        return [self._prepare(job, able, now) for job in jobs]

    def _fresh(self, pool: str, queue: WaitingQueue) -> Iterator[Job]:
        """Yield a job of each kind that was not sent yet."""
        for key in self._keys(pool, queue):
            job = self._shard.jobs.peek(key)
            overrides = (job.extras or {}).get("overrides", {})
            kind = (pool, job.circuit_id, compiled_apart(job.traits), repr(sorted(overrides.items())))
            if self._sent.get(kind) is None:
                self._sent.put(kind, True)
                yield job

    def _keys(self, pool: str, queue: WaitingQueue) -> Iterator[int]:
        """Yield keys from the front, then where the last look ended; whoever stops early comes back there."""
        heads = queue.heads()
        yield from islice(heads, _FRONT)
        passed = self._passed.get(pool, 0)
        further = islice(heads, passed, passed + _FURTHER)
        for count in range(1, _FURTHER + 1):
            key = next(further, None)
            self._passed[pool] = 0 if key is None or passed + count >= _DEEPEST else passed + count
            if key is None:
                return
            yield key

    def _prepare(self, job: Job, able: Sequence[Mapping[str, Any]], now: Now) -> Prepare:
        self._turn += 1
        partitions = able[self._turn % len(able)]["partitions"]
        settings = self._shard.pool(job.pool)
        return Prepare(
            job.pool,
            partitions[self._turn // len(able) % len(partitions)],
            now.wall_ms + int(settings.start_seconds * 1000),
            now.wall_ms * 1000,
            ForwardedItem(
                job.job_id,
                job.attempt,
                job.seed,
                job.traceparent,
                job.reference,
                overrides=(job.extras or {}).get("overrides", {}),
            ),
        )


def _is_able(advert: Mapping[str, Any], pool: str) -> bool:
    if not advert.get("compiles") or advert.get("unhealthy"):
        return False
    return advert["pool"] == pool and advert["state"] == "ready" and bool(advert["partitions"])
