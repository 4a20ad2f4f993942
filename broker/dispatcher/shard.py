"""The few ways in which jobs of a shard change, over everything that the shard knows. Pure.

Whoever decides (door, judge, desk, floor) changes jobs through these methods only, so that queue, timers,
bundles, ledger rows and events never disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from sys import intern
from typing import Any

from shotbus.broker.dispatcher.answers import fingerprint, owner_mark
from shotbus.broker.dispatcher.beside import is_companion
from shotbus.broker.dispatcher.books import SINCE, Books
from shotbus.broker.dispatcher.bundles import RUN, Bundle
from shotbus.broker.dispatcher.funds import wait_ms
from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.reuse import forget_place
from shotbus.broker.dispatcher.states import TERMINAL, WITH_A_TIMER, WITH_A_WORKER, Cause, Phase
from shotbus.broker.machine import Now
from shotbus.broker.treasury.answers import Refused
from shotbus.schemas.outcomes import SUCCESSES

#: Extras that many jobs may have: what was asked, or found, at the door.
_AT_REST_TOO = frozenset(
    {"others", "max_cost", "unique", "quality", "data_class", "windows", "gates", "history", "calibration"}
    | {"max_queue_ms", "impatient_ms", "opens"}
)
#: Phases in which a job only waits: its object makes room for a packed row.
_AT_REST = frozenset({Phase.WAITING, Phase.SCHEDULED, Phase.DEFERRED})
#: Phases in which others may wait for a job's result.
COMPUTE = frozenset({Phase.WAITING, Phase.RETRYING, Phase.RECONCILING}) | WITH_A_WORKER
#: Among the extras of a job that was put off: for want of what.
LACKS = "lacks"
#: A result that many wait for is copied into one transaction up to this many bytes.
SHARED_BYTES = 4_194_304


class Shard(Books):
    """One shard of the dispatcher; built as :class:`Books` are."""

    #: As many jobs may be objects before those that only wait are packed: to pack takes time too.
    most_hot = 1_024

    # --- in and out of queues ---

    def accept(self, job: Job) -> None:
        """Take a job in; it is not placed yet."""
        self.jobs.add(job)

    def admitted(self, job: Job) -> None:
        """Count an accepted submission; from now on it has its unique key."""
        if job.extras and (unique := job.extras.get("unique")):
            self.uniques[unique] = job.job_id
        self.counters.accepted[job.priority] = self.counters.accepted.get(job.priority, 0) + 1

    def enqueue(self, job: Job, at_us: int) -> None:
        """Put a waiting job into its pool's queue; from now on others may share its result."""
        job.queued_us = at_us
        self._push(job)
        self.sharing.lead(job.cache_key, job.job_id)

    def _push(self, job: Job) -> None:
        key = self.key(job)
        queue = self.queue_of(job.pool)
        queue.push(job, key)
        queue.load.add(job)
        if job.extras:
            self.patience.begin(job, key, job.queued_us)
        if job.chain or (job.extras and job.extras.get("others")):
            self.stranded.enter(job, key)

    def leave_queue(self, job: Job, now: Now) -> None:
        """Note that a job, which its queue has given, goes to a worker."""
        self.queues[job.pool].load.take(job)
        self.stranded.leave(job, job.key)
        self._leaves(job, now)
        if job.extras:
            self.patience.end(job, self.key(job))

    def _leaves(self, job: Job, now: Now) -> None:
        if job.family and SINCE not in (job.extras or ()) and self.is_measured(job):
            job.keep(**{SINCE: job.queued_us})
        job.leave_queue(now.wall_ms * 1000)

    def pass_over(self, job: Job, until_ms: int, now: Now) -> None:
        """Have a job, which its queue has given, wait until it may run: its turn came outside its windows."""
        self.leave_queue(job, now)
        if self.running:
            self.running.give(job.tenant, job.session_id, job.pool)
        self._later(job, Cause.DEFER, until_ms, now, why="window")

    def put_back(self, job: Job) -> None:
        """Put a job into its queue again, which has just given it."""
        self.queues[job.pool].push(job, self.key(job))
        if self.running:
            self.running.give(job.tenant, job.session_id, job.pool)

    def landed(self, bundle: Bundle, job_id: str) -> None:
        """Count an attempt out that a worker has no more."""
        if self.running and bundle.purpose == RUN:
            job = self.jobs.get(job_id) or self.ghosts.get(job_id)
            if job is not None:
                self.running.give(job.tenant, job.session_id, bundle.pool)

    def withdraw(self, job: Job, now: Now) -> None:
        """Take a job that is at hand from where it waits; whoever calls moves it on."""
        if job.phase is Phase.WAITING:
            key = self.key(job)
            queue = self.queues[job.pool]
            queue.remove(job, key)
            queue.load.take(job)
            self.patience.end(job, key)
            self.stranded.leave(job, key)
            self._leaves(job, now)
        elif job.phase is Phase.SHARING:
            self.sharing.unfollow(job.cache_key, job.job_id)
        elif job.phase is Phase.VALIDATING:
            self._no_longer_validating(job)
        elif job.phase is Phase.FALLING_BACK:
            self.recalling.pop(job.job_id, None)
        elif job.phase is Phase.RECONCILING:
            self.lookups.get(job.pool, {}).pop(job.job_id, None)

    def validate(self, job: Job) -> None:
        """Have a new job wait until its circuit has been inspected; it is not accepted yet."""
        self.accept(job)
        job.move(Cause.VALIDATE)
        self.validating.setdefault(job.circuit_id, {})[job.job_id] = None
        self.agenda.watch(job, self.key(job))
        self.note(job, Cause.VALIDATE)

    def ask_for(self, job: Job, policy: str, **terms: Any) -> None:
        """Have a submission wait for the Treasury; its circuit, if it has one, has been inspected.

        ``policy``: what is to become of another job with its unique key.
        """
        job.move(Cause.VALIDATE)
        self.agenda.watch(job, self.key(job))
        job.keep(funding=policy)
        self.asking[job.job_id] = None
        self.note(job, Cause.VALIDATE, why="budget", **terms)

    def _no_longer_validating(self, job: Job) -> None:
        self.asking.pop(job.job_id, None)
        job.forget("funding")
        waiting = self.validating.get(job.circuit_id, {})
        waiting.pop(job.job_id, None)
        if not waiting:
            self.validating.pop(job.circuit_id, None)

    def put_off(
        self, job: Job, cause: Cause, until_ms: int, now: Now, detail: str = "", **terms: Any
    ) -> None:
        """Have a job wait for a time; ``cause`` says why."""
        self.withdraw(job, now)
        self._later(job, cause, until_ms, now, detail, **terms)

    def _later(self, job: Job, cause: Cause, until_ms: int, now: Now, detail: str = "", **terms: Any) -> None:
        if cause is Cause.DEFER:
            # Who shares its result has not asked for the delay, nor was it predicted.
            self.abdicate(job, now)
            self.guard.forecasts.dropped(job.job_id)
            job.forget(SINCE)
        job.move(cause)
        job.bundle_id = ""
        if LACKS in terms:
            job.keep(**{LACKS: terms[LACKS]})
        else:
            job.forget(LACKS)
        key = self.key(job)
        self.agenda.forget(job, key)
        job.not_before_ms = until_ms
        self.agenda.later(job, key)
        # The deadline may have passed, unheeded, while the job ran.
        self.agenda.watch(job, key)
        self.note(job, cause, detail, until_ms=until_ms, **terms)

    def requeue(
        self, job: Job, cause: Cause, now: Now, *, pool: str = "", demoted: str = "", **terms: Any
    ) -> Refused | None:
        """Have a job wait in a queue again: that of ``pool``, and in the class ``demoted``, if given.

        Where there are budgets and its units are not at hand, it is put off until they are; so is one that
        has not run yet and whose time has not come. Returns why its budget will never have them.
        """
        self.withdraw(job, now)
        if pool:
            self.move_to(job, pool, now)
        if demoted:
            self.jobs.change_class(job, intern(demoted))
        if job.attempt == 0 and cause is not Cause.DUE and job.not_before_ms > now.wall_ms:
            self._later(job, Cause.DEFER, job.not_before_ms, now, after=cause.value, **terms)
            return None
        lacking = self.funds.reserve(job, now)
        if lacking is not None:
            self._later(job, Cause.DEFER, now.wall_ms + wait_ms(lacking), now, lacks="budget", **terms)
            return lacking if isinstance(lacking, Refused) and not lacking.retry_after_ms else None
        job.move(cause)
        job.bundle_id = ""
        job.forget(LACKS)
        self.enqueue(job, now.wall_ms * 1000)
        self.agenda.watch(job, self.key(job))
        self.note(job, cause, **terms)
        return None

    def release(self, job: Job, now: Now, **terms: Any) -> None:
        """Have a job that was put off wait for its time no longer; ``terms`` say who wished it."""
        self.agenda.forget(job, self.key(job))
        job.not_before_ms = 0
        self.requeue(job, Cause.DUE, now, **terms)

    def move_to(self, job: Job, pool: str, now: Now) -> None:
        """Have another pool run a job, which stands in no queue now."""
        # Another pool's result is not what its followers wait for.
        self.abdicate(job, now)
        self.guard.forecasts.dropped(job.job_id)
        if self.opens_session(job, pool):
            self.funds.opens(job, pool)
        job.pool, job.cache_key = intern(pool), ""
        forget_place(job)
        if job.extras:
            job.forget(SINCE)
            if "spent" in job.extras:
                job.keep(brought=job.extras["spent"]["cost"])
        job.cost = self.run_seconds(job, pool)

    def replace(self, job: Job, now: Now) -> None:
        """Put a waiting job back into its queue, where its class or deadline now puts it."""
        job.queued_us = job.queued_us or now.wall_ms * 1000
        self._push(job)

    def set_deadline(self, job: Job, deadline_ms: int) -> None:
        """Give a job that stands in no queue now another deadline."""
        key, timed = self.key(job), job.phase in WITH_A_TIMER
        self.agenda.forget(job, key)
        job.deadline_ms = deadline_ms
        self.agenda.watch(job, key)
        if timed:
            self.agenda.later(job, key)

    def set_timer(self, job: Job, until_ms: int) -> None:
        """Let a job that waits for its time wait for another."""
        key = self.key(job)
        self.agenda.forget(job, key)
        job.not_before_ms = until_ms
        self.agenda.later(job, key)
        self.agenda.watch(job, key)

    def set_aside(self, job: Job, cause: Cause, now: Now, **terms: Any) -> None:
        """Have a job wait for an answer from elsewhere."""
        self.withdraw(job, now)
        self.abdicate(job, now)
        job.move(cause)
        job.bundle_id = ""
        job.forget(SINCE)
        key = self.key(job)
        # It may have waited for its time.
        self.agenda.forget(job, key)
        self.agenda.watch(job, key)
        self.note(job, cause, **terms)

    def end(
        self, job: Job, cause: Cause, outcome: str, now: Now, answer: Mapping[str, Any], **terms: Any
    ) -> list[Any]:
        """Finish a job: the one place where a terminal result is made; ``terms`` say why."""
        aside = job.extras is not None and "companions" in job.extras
        if aside and (prepared := self.beside.instead(job, outcome)) is not None:
            terms, answer = {**terms, "instead_of": outcome}, prepared
            cause, outcome = Cause.FALL_BACK, "succeeded_by_fallback"
            self.abdicate(job, now)
        self.withdraw(job, now)
        if self.bundles.carries(job):
            self.ghosts[job.job_id] = job
        job.move(cause)
        assert job.phase in TERMINAL
        self._forget(job)
        if is_companion(job):
            self.reports.note(job, cause, outcome, terms)
            return self.beside.done(job, outcome, answer, now)
        if outcome == "succeeded":
            self.guard.forecasts.ended(job.job_id, now.seen)
        else:
            self.guard.forecasts.dropped(job.job_id)
        self.counters.ended.append((job.priority, max(0.0, now.wall_ms / 1e3 - job.submitted_us / 1e6)))
        mark = fingerprint(job.tenant, job.payload_hash)
        self.touch(*self.done.add(job.job_id, mark, outcome, now.wall_ms, owner=owner_mark(job.tenant)))
        self.reports.note(job, cause, outcome, terms)
        result = self.reports.result(job, outcome, now, answer)
        followers = self.sharing.step_down(job.cache_key, job.job_id) if job.cache_key else ()
        more = self._share(followers, outcome, now, answer, from_job=job.job_id) if followers else []
        return [result, *more, *(self.beside.left(job, outcome, answer, now) if aside else ())]

    def refuse(self, job: Job, **terms: Any) -> None:
        """Let go of a job that was only being validated; the refusal itself is its submission's answer."""
        self._no_longer_validating(job)
        job.move(Cause.REFUSE)
        self._forget(job)
        self.reports.note(job, Cause.REFUSE, "", terms)

    def _forget(self, job: Job) -> None:
        """Take a job out of every book; its row goes, unless a worker still has it."""
        if not self.is_wanted_late(job):
            self.funds.release(job)
        self.agenda.forget(job, self.key(job))
        self.jobs.remove(job)
        if job.extras and (unique := job.extras.get("unique")) and self.uniques.get(unique) == job.job_id:
            del self.uniques[unique]
        key = job.job_id.encode()
        if job.persisted:
            self.touch(key)
        else:
            self._touched.pop(key, None)

    # --- what is computed once for many ---

    def share(self, job: Job, leader: Job, now: Now, **terms: Any) -> None:
        """Have a new job wait for the result of another that computes the same."""
        job.move(Cause.SHARE)
        self.sharing.follow(job.cache_key, job.job_id)
        self.note(job, Cause.SHARE, with_job=leader.job_id, **terms)
        rank = list(self.config.classes)
        better = job.priority in rank and rank.index(job.priority) < rank.index(leader.priority)
        if leader.phase is Phase.WAITING and better:
            # Else the better class would wait at the worse one's pace.
            self.change_class(leader, job.priority, now, for_job=job.job_id)

    def change_class(self, job: Job, priority: str, now: Now, **terms: Any) -> None:
        """Give a job another class; one that waits keeps its place in time."""
        if job.phase is Phase.WAITING:
            queue = self.queues[job.pool]
            queue.remove(job, self.key(job))
            queue.load.take(job)
            self.stranded.leave(job, job.key)
        before = job.priority
        self.jobs.change_class(job, intern(priority))
        if job.phase is Phase.WAITING:
            self.replace(job, now)
        job.move(Cause.CHANGE)
        self.note(job, Cause.CHANGE, priority=[before, priority], **terms)

    def _share(
        self, jobs: Sequence[str], outcome: str, now: Now, answer: Mapping[str, Any], **terms: Any
    ) -> list[Any]:
        """Answer those that waited for a result, as many as a transaction can hold; others go on waiting."""
        commands: list[Any] = []
        room = SHARED_BYTES if outcome in SUCCESSES else 0
        told = dict(answer) | {"answered_by": "shared", "shots": 0, "cost": 0.0, "backend_seconds": 0.0}
        told["history_key"] = ""
        left: list[Job] = []
        for job_id in jobs:
            job = self.live(job_id)
            if room > 0:
                commands += self.end(job, Cause.CACHE_HIT, "served_from_cache", now, told, **terms)
                room -= len(answer["payload"]) + 1
            else:
                left.append(job)
        self._go_on(left, now)
        return commands

    def abdicate(self, job: Job, now: Now) -> None:
        """Have others compute for themselves what a job computes no longer."""
        jobs = self.sharing.step_down(job.cache_key, job.job_id) if job.cache_key else ()
        self._go_on([self.live(one) for one in jobs], now)

    def _go_on(self, left: Sequence[Job], now: Now) -> None:
        """Have the first of those that waited compute, and the others wait for it."""
        if left:
            first, *others = left
            first.move(Cause.ALONE)
            self.enqueue(first, now.wall_ms * 1000)
            self.note(first, Cause.ALONE, why="what it waited for came to nothing")
            for job in others:
                self.sharing.follow(job.cache_key, job.job_id)

    def exorcise(self, bundle: Bundle, job_id: str) -> None:
        """Let go of the row of an attempt that ended after its job."""
        ghost = self.ghosts.get(job_id)
        if ghost is not None and ghost.bundle_id == bundle.bundle_id:
            self.funds.release(ghost)
            del self.ghosts[job_id]
            self.touch(job_id.encode())

    # --- around a restore ---

    def renew_leases(self, now: Now) -> None:
        """Give every lease a full period, as after a taking."""
        longest = max((pool.lease_seconds for pool in self.config.pools.values()), default=0.0)
        self.bundles.renew_all(now.seen + longest)
        starts = {name: pool.start_seconds for name, pool in self.config.pools.items()}
        self.bundles.await_unread(now, starts)

    def park(self, job: Job) -> None:
        """Let go of the object of a job that only waits, now that its row is written."""
        if self.jobs.hot > self.most_hot and job.attempt == 0 and job.phase in _AT_REST and _is_plain(job):
            self.jobs.park(job)

    def reunite(self, now: Now) -> None:
        """After a restore: have somebody compute what jobs wait for whose leader is gone."""
        for job_id in self.sharing.orphans():
            job = self.live(job_id)
            self.sharing.unfollow(job.cache_key, job_id)
            self._go_on([job], now)


def _is_plain(job: Job) -> bool:
    """Tell whether a job has no extras but those that nothing changes while it waits."""
    return not job.extras or job.extras.keys() <= _AT_REST_TOO
