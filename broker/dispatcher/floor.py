"""The tick: what is due, what is late, and which waiting jobs go to which worker. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import islice
from typing import Any

from shotbus.broker.dispatcher.ahead import CompileAhead
from shotbus.broker.dispatcher.bundles import CANCEL, LOOK_UP, RUN, START_MARGIN_MS, Bundle, bundle_id_of
from shotbus.broker.dispatcher.carrying import Carrying
from shotbus.broker.dispatcher.change import MOVED
from shotbus.broker.dispatcher.door import Door
from shotbus.broker.dispatcher.endings import Failure, called_off, end_failed, expire
from shotbus.broker.dispatcher.fallback import Fallback
from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.judge import Judge
from shotbus.broker.dispatcher.leaving import Leaving
from shotbus.broker.dispatcher.messages import Credit, Dispatch, Forward, ForwardedItem, Prepare
from shotbus.broker.dispatcher.packing import pack
from shotbus.broker.dispatcher.shard import Shard
from shotbus.broker.dispatcher.standing import SEQUENCE_KEY
from shotbus.broker.dispatcher.states import WITH_A_WORKER, Cause, Phase
from shotbus.broker.machine import Now
from shotbus.broker.quality import demanded

_BEGUN = WITH_A_WORKER - {Phase.FORWARDED}
# A repeat that has to let fresh work go first looks again after this long.
_LATER_MS = 1_000
# Jobs whose sweep is being cancelled and whose turn comes before that has come to them: so many at once.
_MOST_STOPS = 64


class Floor:
    """Moves the waiting jobs of a shard."""

    def __init__(self, shard: Shard, door: Door, judge: Judge) -> None:
        self._shard, self._door, self._judge = shard, door, judge
        self._fallback, self._leaving = Fallback(shard), Leaving(shard)
        self._ahead = CompileAhead(shard)
        self._carrying = Carrying(shard)
        self._stops = 0

    def dispatch(self, event: Dispatch, now: Now) -> list[Any]:
        """Close a micro-batch: let what is due happen, forward against the free credits."""
        commands = self._begin(now) if self._shard.fresh else []
        commands += self._judge.expire_leases(now)
        commands += self._shard.beside.due(now)
        commands += self._expire_deadlines(now)
        commands += self._wake_due(now)
        commands += self._lose_patience(now)
        self._shard.touch(*self._shard.standing.forget(now))
        self._stops = 0
        if self._shard.broadcasts:
            commands += self._carrying.step(now)
        asked, answers = self._shard.funds.tick(now)
        commands += asked + self._door.decided(answers, now)
        commands += self._look(event, now)
        commands += self._leaving.leave(now)
        for pool in sorted(event.credits):
            if pool in self._shard.config.pools and not self._shard.standing.is_paused(pool):
                commands += self._forward_pool(pool, event.credits[pool], now)
        if self._shard.running.shared:
            commands += self._shard.running.close(now)
            self._shard.touch(*self._shard.running.places.touched())
        for news in self._shard.guard.take_news():
            self._shard.reports.about_pool(news.pool, news.cause, news.terms)
        told = self._shard.reports.flush(now, self._shard.standing.next_sequence)
        if told:
            self._shard.touch(SEQUENCE_KEY)
        return commands + told

    def _look(self, event: Dispatch, now: Now) -> list[Prepare]:
        """Learn what has become of the pools; routing sees them so from now on.

        Returns what is compiled ahead for those that stand still.
        """
        shard = self._shard
        shard.touch(*shard.guard.advance(now))
        if event.adverts is None:
            return []
        waiting = {pool: shard.waiting_seconds(pool) for pool in shard.queues}
        views = shard.guard.look(event.adverts, waiting, shard.standing.paused, now)
        if views is None:
            return []
        shard.router.views = views
        return self._ahead.look(event.adverts, now)

    def _begin(self, now: Now) -> list[Any]:
        """After a restore: ask again for what others owe us."""
        self._shard.fresh = False
        self._shard.reunite(now)
        return [*self._door.ask_again(now), *self._shard.beside.again(now)]

    def _expire_deadlines(self, now: Now) -> list[Any]:
        """End the jobs that did not leave the queue in time, those that no earlier result may answer."""
        commands: list[Any] = []
        for key in self._shard.agenda.late(now.wall_ms):
            job = self._shard.jobs.at(key)
            if job.phase is Phase.RECONCILING or job.phase in _BEGUN:
                # What runs may finish; what may have been paid for is found out first.
                continue
            last = self._fallback.last_resort(job, now)
            commands += expire(self._shard, job, now) if last is None else last
        return commands

    def _wake_due(self, now: Now) -> list[Any]:
        commands: list[Any] = []
        for key in self._shard.agenda.due(now.wall_ms):
            job = self._shard.jobs.at(key)
            if job.phase is Phase.RECONCILING:
                self._shard.lookups.setdefault(job.pool, {})[job.job_id] = None
                continue
            if job.phase is Phase.RETRYING and not self._may_repeat(job):
                self._shard.set_timer(job, now.wall_ms + _LATER_MS)
                continue
            hopeless = self._shard.requeue(job, Cause.DUE, now)
            if hopeless is not None and MOVED not in (job.extras or {}):
                records = [problem.as_record() for problem in hopeless.problems]
                failure = Failure("failed", records, why="its budget does not cover it")
                commands += end_failed(self._shard, job, failure, now)
        return commands

    def _lose_patience(self, now: Now) -> list[Any]:
        """Have the jobs that waited too long take the next step of their chains, or wait as long again."""
        shard, commands = self._shard, list[Any]()
        for key in shard.patience.over(now.wall_ms):
            job = shard.jobs.at(key)
            chain, limit = job.chain, (job.extras or {})["max_queue_ms"] / 1000
            job.keep(waited=1)
            why = f"waited longer than {limit:g} s"
            told = self._fallback.elsewhere(job, now, why)
            if told is None:
                told = self._fallback.step(job, now, why)
            if told is None:
                # What could not be done now may still help when its pool fails.
                job.chain = chain
                shard.patience.begin(job, key, now.wall_ms * 1000)
                shard.touch(job.job_id.encode())
            commands += told or ()
        return commands

    def _may_repeat(self, job: Job) -> bool:
        """Tell whether a repeat may take its turn: a storm of them must leave room for fresh work."""
        failed = (job.extras or {}).get("failed", "")
        fresh = self._shard.queue_of(job.pool).length > 0
        return self._shard.guard.may_repeat(job.pool, failed, fresh_waits=fresh)

    def _forward_pool(self, pool: str, free: Sequence[Credit], now: Now) -> list[Any]:
        free, commands = self._look_up(pool, free, now)
        shard, queue = self._shard, self._shard.queues[pool]
        room, settings = shard.guard.room(pool, now), shard.config.pools[pool]
        if room is not None:
            # A pool that is being tried gets few bundles, each with as little in it as can be.
            free, settings = _first(free, room), dataclasses.replace(settings, bundle_jobs=1)

        def take() -> Job | None:
            while (key := queue.pop(now.wall_ms)) is not None:
                job = shard.jobs.at(key)
                if shard.broadcasts.cancels and (found := self._carrying.cancel_of(job)) is not None:
                    shard.put_back(job)
                    if self._stops == _MOST_STOPS:
                        return None
                    self._stops += 1
                    commands.extend(self._carrying.stop(*found, now))
                    continue
                until = shard.hours.closed_until(job, now.wall_ms)
                if not until:
                    return job
                shard.pass_over(job, until, now)
            return None

        packed = pack(take, queue, settings, free)
        return commands + [self._send(pool, credit, jobs, now) for credit, jobs in packed]

    def _look_up(self, pool: str, free: Sequence[Credit], now: Now) -> tuple[Sequence[Credit], list[Any]]:
        """Send what has to be looked up first: it takes no time of the backend.

        What was called off goes apart: its provider is asked to cancel it, too.
        """
        due = self._shard.lookups.get(pool)
        if not due or not free:
            return free, []
        credit, *others = free
        found = map(self._shard.live, due)
        jobs = [next(found)]
        unwanted = called_off(jobs[0]) is not None
        alike = (job for job in found if (called_off(job) is not None) == unwanted)
        jobs += islice(alike, self._shard.config.pools[pool].bundle_jobs - 1)
        for job in jobs:
            del due[job.job_id]
        left = [credit._replace(bundles=credit.bundles - 1)] if credit.bundles > 1 else []
        return [*left, *others], [self._ask(pool, credit, jobs, now, unwanted=unwanted)]

    def _ask(self, pool: str, credit: Credit, jobs: list[Job], now: Now, *, unwanted: bool) -> Forward:
        sent = self._send(pool, credit, jobs, now, purpose=LOOK_UP)
        return dataclasses.replace(sent, purpose=CANCEL) if unwanted else sent

    def _send(self, pool: str, credit: Credit, jobs: list[Job], now: Now, purpose: str = RUN) -> Forward:
        settings = self._shard.config.pools[pool]
        cause = Cause.FORWARD if purpose == RUN else Cause.LOOK_UP
        for job in jobs:
            job.attempt += 1
            if purpose == RUN:
                self._shard.leave_queue(job, now)
            job.move(cause)
        bundle = Bundle(
            bundle_id_of(jobs),
            pool,
            credit.worker,
            credit.partition,
            now.wall_ms + int(settings.start_seconds * 1000),
            lease_until=now.seen + settings.start_seconds + START_MARGIN_MS / 1000,
            purpose=purpose,
            points=sum(job.points for job in jobs),
            work=jobs[0].work,
            sent_at=now.seen,
        )
        for job in jobs:
            job.bundle_id = bundle.bundle_id
            bundle.open[job.job_id] = job.attempt
            self._shard.note(job, cause)
            self._shard.funds.forwarded(job)
        self._shard.bundles.add(bundle)
        self._sent(bundle, jobs, now)
        return Forward(
            bundle.bundle_id,
            pool,
            credit.partition,
            bundle.start_by_ms,
            int(settings.lease_seconds * 1000),
            now.wall_ms * 1000,
            tuple(_item(job) for job in jobs),
            purpose,
        )

    def _sent(self, bundle: Bundle, jobs: Sequence[Job], now: Now) -> None:
        """Tell whoever learns from it that a bundle has left."""
        guard, pool = self._shard.guard, bundle.pool
        guard.breakers.sent(pool, bundle.bundle_id, now.seen)
        if bundle.purpose == RUN:
            guard.retries.dispatched(pool, sum(job.attempt == 1 for job in jobs))
            more = self._shard.queues[pool].length > 0
            worth = bundle.points * self._shard.point_seconds(pool, bundle.work)
            guard.drained(pool, worth, now, more=more)


def _first(free: Sequence[Credit], most: int) -> list[Credit]:
    """Return as much of the free credits as there may be bundles."""
    kept = []
    for credit in free:
        if (count := min(credit.bundles, most)) > 0:
            kept.append(credit._replace(bundles=count))
            most -= count
    return kept


def _item(job: Job) -> ForwardedItem:
    extras = job.extras
    about = job.job_id, job.attempt, job.seed, job.traceparent, job.reference
    # What it is now: a change of mind may have set another than the request has, which its worker reads.
    plain = ForwardedItem(*about, deadline_ms=job.deadline_ms)
    if not extras:
        return plain
    if "top_up" in extras:
        top_up, missing = extras["top_up"]
        plain = plain._replace(top_up=top_up, shots=missing)
    epoch, overrides = extras.get("token", 0), extras.get("overrides", {})
    if "quality" in extras:
        overrides = {**overrides, **demanded(extras["quality"])}
    return plain._replace(token=f"{job.job_id}.{epoch}" if epoch else "", overrides=overrides)
