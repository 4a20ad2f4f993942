"""What became of attempts: outcomes, lapsed leases, retries, the end of a job. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

from shotbus.broker.dispatcher.answers import answer, answered, problems_of
from shotbus.broker.dispatcher.attempted import note_attempt, note_lost
from shotbus.broker.dispatcher.breaker import BLAMED, Report
from shotbus.broker.dispatcher.bundles import LOOK_UP, RUN, Bundle
from shotbus.broker.dispatcher.endings import (
    Failure,
    called_off,
    end_called_off,
    end_failed,
    expire_in_hand,
)
from shotbus.broker.dispatcher.fallback import Fallback
from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.ladders import EXPIRED, LADDERS, UNSURE_WHEN_PAID, Action
from shotbus.broker.dispatcher.messages import Reported, Revoke
from shotbus.broker.dispatcher.recalling import remember_failure
from shotbus.broker.dispatcher.retry import Failure as Attempted
from shotbus.broker.dispatcher.retry import History, Means, Verdict, judge
from shotbus.broker.dispatcher.reuse import filed
from shotbus.broker.dispatcher.shard import Shard
from shotbus.broker.dispatcher.staging import Staging, afterwards, costs, stages_here
from shotbus.broker.dispatcher.states import Cause, Phase
from shotbus.broker.dispatcher.tries import history_of, remember
from shotbus.broker.dispatcher.window import Answer
from shotbus.broker.machine import Now
from shotbus.broker.stages import Timings

_MAY_STEP = frozenset({Phase.FORWARDED, Phase.RUNNING})
#: Phases of a job that its pool has no more: something else is to answer it, or a person to look at it.
_AWAY = frozenset({Phase.FALLING_BACK, Phase.AWAITING_REVIEW})
#: Classes of attempts that never began: they say nothing about their pool.
_NOT_BEGUN = frozenset({"REVOKED", "NOT_STARTED", EXPIRED})
_UNFINISHED = "it did not finish"
_LOOK_UP_MS = 500
_LONGEST_LOOK_UP_MS = 60_000


class Judge:
    """Judges the attempts of a shard."""

    def __init__(self, shard: Shard) -> None:
        self._shard, self._fallback, self._staging = shard, Fallback(shard), Staging(shard)

    def reported(self, event: Reported, now: Now) -> list[Any]:
        """Take a worker's word about a bundle."""
        outcome = event.outcome
        bundle = self._shard.bundles.get(outcome["bundle_id"])
        if bundle is None or (bundle.started and bundle.lease_id != outcome["lease_id"]):
            self._shard.counters.fenced += max(1, len(outcome["items"]))
            return []
        settings = self._shard.pool(bundle.pool)
        first = not bundle.started
        self._shard.bundles.claim(
            bundle, outcome["worker"], outcome["lease_id"], now.seen + settings.lease_seconds
        )
        if first:
            self._started(bundle, answered(bundle, outcome))
        commands: list[Any] = []
        if first and outcome["kind"] != "finished" and bundle.purpose == RUN and settings.paid:
            # In one transaction with the lease: whoever has this may submit, and nobody else ever will.
            claim = (outcome["worker"], bundle.bundle_id, (), outcome["lease_id"])
            commands.append(Revoke(bundle.pool, *claim))
        if outcome["kind"] == "finished":
            self._measure(bundle, outcome["items"])
            self._tell_guard(bundle, outcome["items"], now)
            for item in outcome["items"]:
                commands += self._judge(bundle, outcome, item, now)
        return commands

    def _tell_guard(self, bundle: Bundle, items: Sequence[Mapping[str, Any]], now: Now) -> None:
        """Tell the pool's breaker how attempts ended; where all went well, one stands for all."""
        shard = self._shard
        failed = [item for item in items if item["error_class"]]
        told = [Report(self._tenant(item["job_id"]), item["error_class"]) for item in failed or items[:1]]
        if failed:
            told += [Report(self._tenant(one["job_id"]), "") for one in items if not one["error_class"]]
        shard.touch(*shard.guard.ended(bundle.pool, bundle.bundle_id, told, now))

    def _tenant(self, job_id: str) -> str:
        job = self._shard.jobs.look(job_id) or self._shard.ghosts.get(job_id)
        return job.tenant if job is not None else ""

    def _started(self, bundle: Bundle, answered: AbstractSet[str]) -> None:
        """Note the lease in every row, whatever the worker's first word was: it is what fences others.

        Jobs that this word already ends or sends back need none.
        """
        for job_id in bundle.open:
            if job_id in answered:
                continue
            job = self._shard.jobs.get(job_id)
            if job is None or job.bundle_id != bundle.bundle_id:
                self._shard.touch(job_id.encode())
                continue
            if job.phase is Phase.FORWARDED:
                job.move(Cause.START)
                self._shard.note(job, Cause.START)
            else:
                self._shard.touch(job_id.encode())

    def _judge(
        self, bundle: Bundle, outcome: Mapping[str, Any], item: Mapping[str, Any], now: Now
    ) -> list[Any]:
        """Judge one attempt: the fencing token must be the one in flight."""
        job_id = item["job_id"]
        job = self._shard.jobs.get(job_id)
        if bundle.open.get(job_id) != item["attempt"]:
            self._shard.counters.fenced += 1
            return []
        self._shard.landed(bundle, job_id)
        self._shard.bundles.close(bundle, job_id)
        if job is None or job.bundle_id != bundle.bundle_id:
            if (ghost := self._shard.awaited(bundle, job_id)) is not None:
                return self._came_late(ghost, bundle, outcome, item, now)
            self._shard.exorcise(bundle, job_id)
            self._shard.counters.fenced += 1
            return []
        note_attempt(job, bundle, outcome, item)
        if bundle.purpose == LOOK_UP:
            return self._looked_up(job, outcome, item, now)
        if not item["error_class"]:
            return self._succeed(job, outcome, item, now)
        return self._went_wrong(job, item, now)

    def _went_wrong(self, job: Job, item: Mapping[str, Any], now: Now) -> list[Any]:
        if item["error_class"] == EXPIRED and job.deadline_ms and job.phase is not Phase.CANCELLING:
            if (last := self._fallback.last_resort(job, now, in_hand=False)) is not None:
                return last
            return expire_in_hand(self._shard, job, item["problems"], now)
        self._bill_failure(job, item)
        failure = Attempted(item["error_class"], item["problems"], item["retry_after_ms"])
        if item["provider_job_id"] and failure.error_class not in UNSURE_WHEN_PAID:
            _begin_another(job)
        return self._failed(job, failure, now)

    def _bill_failure(self, job: Job, item: Mapping[str, Any]) -> None:
        """Charge a failed attempt for what it took; the job's answer will say it, its cap includes it."""
        if item["cost"] > 0 or item["backend_seconds"] > 0:
            took = self._shard.funds.bill(job, job.pool, item, 0.0)
            job.keep(spent=costs(job, took))

    def _succeed(self, job: Job, outcome: Mapping[str, Any], item: Mapping[str, Any], now: Now) -> list[Any]:
        """End a job with its answer; one from another pool than it was sent to says so."""
        spent = Timings.unpack(item["timings"]).seconds("execute") if item["timings"] else 0.0
        if spent and (queue := self._shard.queues.get(job.pool)) is not None:
            queue.took(job, spent)
        told = {**answer(outcome, item), **self._shard.funds.bill(job, job.pool, item, spent)}
        cost = told.get("cost", 0.0)
        told |= filed(job, outcome, now.wall_ms)
        if job.extras:
            if stages_here(job):
                self._shard.learn(job, now, told, cost)
                return self._staged(job, told, now)
            told |= afterwards(job, told)
            if "companions" in job.extras and "fallback_from" not in job.extras:
                told |= self._shard.beside.with_cheap(job, told)
                if told.get("answered_by") == "blend":
                    # Who waits for the plain result must not get the mixed one.
                    self._shard.abdicate(job, now)
        if job.family:
            self._shard.learn(job, now, told, cost)
        before = (job.extras or {}).get("fallback_from", "")
        if not before:
            return self._shard.end(job, Cause.SUCCEED, "succeeded", now, told)
        told |= {"fallback_from": before, "answered_by": "fallback"}
        return self._shard.end(job, Cause.SUCCEED, "succeeded_by_fallback", now, told, fallback_from=before)

    def _came_late(
        self, ghost: Job, bundle: Bundle, outcome: Mapping[str, Any], item: Mapping[str, Any], now: Now
    ) -> list[Any]:
        """Take what an attempt came to whose job has been answered meanwhile."""
        spent = Timings.unpack(item["timings"]).seconds("execute") if item["timings"] else 0.0
        billed = self._shard.funds.bill(ghost, bundle.pool, item, spent)
        self._shard.exorcise(bundle, ghost.job_id)
        if item["error_class"]:
            if item["error_class"] not in _NOT_BEGUN:
                self._shard.learn_failure(ghost, bundle.pool)
            return []
        return self._shard.beside.after(ghost, {**answer(outcome, item), **billed}, now)

    def _staged(self, job: Job, told: Mapping[str, Any], now: Now) -> list[Any]:
        """Take the answer of a stage; whoever called the job off does not want the next one."""
        if called_off(job):
            return self._end_called_off(job, now, where="a stage of it was done")
        return self._staging.passed(job, told, now)

    def _failed(self, job: Job, attempted: Attempted, now: Now) -> list[Any]:
        error_class, problems = attempted.error_class, attempted.problems
        history, means = history_of(job), self._means(job, now)
        unsure = history.unsure or error_class in UNSURE_WHEN_PAID
        doubtful = self._shard.is_paid(job.pool) and unsure and not attempted.answered
        if called_off(job) and not doubtful:
            # Also when a look-up told of it: nobody wants another attempt.
            return self._end_called_off(job, now, where=_how_far(attempted))
        if doubtful:
            # Whatever runs next could be paid for twice.
            means = means._replace(fallback=False)
        verdict = self._decide(attempted, history, means, job, now)
        if verdict.action in (Action.REROUTE, Action.FALL_BACK):
            records = [dict(problem) for problem in problems] or problems_of("SB-5001")
            why, only_pools = _why(error_class, records[0]), verdict.action is Action.REROUTE
            before, stood = job.pool, _stands(job)
            commands = self._fallback.step(job, now, why, only_pools=only_pools)
            if commands is not None:
                if _stands(job) != stood:
                    self._shard.learn_failure(job, before)
                after = history.after(verdict, now.wall_ms)
                if job.pool != before:
                    # Another pool is tried as often as the first one was.
                    after = replace(after, failures=0)
                remember(job, after, verdict, error_class)
                ended = LADDERS.get(error_class, LADDERS["INTERNAL"]).outcome
                remember_failure(job, Failure(ended, records, error_class))
                return commands
            # What looked possible was not, when it came to it.
            verdict = self._decide(
                attempted, history, means._replace(fallback=False, other_pools=0), job, now
            )
        remember(job, history.after(verdict, now.wall_ms), verdict, error_class)
        if verdict.action is Action.LOOKUP:
            self._reconcile(job, now, error_class, verdict.delay_ms or 0)
            return []
        if verdict.delay_ms is not None:
            return self._retry(job, error_class, verdict, now, problems)
        return self._give_up(job, error_class, problems, verdict, now)

    def _decide(self, attempted: Attempted, history: History, means: Means, job: Job, now: Now) -> Verdict:
        policy = self._shard.config.retry
        return judge(attempted, history, means, job=job.job_id, now_ms=now.wall_ms, policy=policy)

    def _means(self, job: Job, now: Now) -> Means:
        shard = self._shard
        may_step = job.phase in _MAY_STEP
        return Means(
            paid=shard.is_paid(job.pool),
            other_pools=self._fallback.pools(job) if may_step and job.chain else 0,
            fallback=may_step and bool(job.chain),
            breaker_ms=int(1000 * shard.guard.breakers.view(job.pool, now.seen).retry_seconds),
            expected_ms=int(1000 * job.cost),
            deadline_ms=job.deadline_ms,
            shots=job.shots,
            dear=shard.dear(job, job.pool) if "spent" in (job.extras or ()) else "",
        )

    # --- what nobody knows ---

    def _reconcile(self, job: Job, now: Now, why: str, wait_ms: int = 0) -> None:
        """Have the provider asked what became of a job, the later the more often it was."""
        asked = (job.extras or {}).get("asked", 0)
        job.keep(asked=asked + 1)
        wait_ms = wait_ms or min(_LONGEST_LOOK_UP_MS, _LOOK_UP_MS << min(asked, 16))
        self._shard.put_off(job, Cause.RECONCILE, now.wall_ms + wait_ms, now, why=why, asked=asked)

    def _looked_up(
        self, job: Job, outcome: Mapping[str, Any], item: Mapping[str, Any], now: Now
    ) -> list[Any]:
        """Take the provider's word about a job: done, absent, still running, or not known either."""
        found = item["found"] or "unknown"
        if found == "done" and not item["error_class"]:
            return self._succeed(job, outcome, item, now)
        if found == "done":
            # As if its own outcome had come: whatever helps against such a failure may be done.
            self._bill_failure(job, item)
            _begin_another(job)
            told = Attempted(item["error_class"], item["problems"], item["retry_after_ms"], answered=True)
            return self._failed(job, told, now)
        if found != "absent":
            self._reconcile(job, now, f"provider: {found}")
            return []
        if called_off(job):
            return self._end_called_off(job, now, where="the provider does not have it")
        # Only this proof allows another submission.
        _begin_another(job)
        proven = Attempted("NOT_ACCEPTED", item["problems"], answered=True)
        history = history_of(job)
        verdict = self._decide(proven, history, self._means(job, now), job, now)
        remember(job, history.after(verdict, now.wall_ms), verdict, "NOT_ACCEPTED")
        if verdict.delay_ms is not None:
            return self._retry(job, "NOT_ACCEPTED", verdict, now)
        return self._give_up(job, "NOT_ACCEPTED", item["problems"], verdict, now)

    def _end_called_off(self, job: Job, now: Now, *, where: str) -> list[Any]:
        cause, by = called_off(job) or (Cause.CANCEL, "")
        return end_called_off(self._shard, job, Cause.CANCEL, now, by=by, where=where, told=cause)

    def _retry(
        self,
        job: Job,
        error_class: str,
        verdict: Verdict,
        now: Now,
        problems: Sequence[Mapping[str, Any]] = (),
    ) -> list[Any]:
        self._shard.counters.retries[error_class] = self._shard.counters.retries.get(error_class, 0) + 1
        told: dict[str, Any] = {"why": verdict.reason}
        if verdict.overrides:
            # Something is to be otherwise: that is to be understood without the worker's log.
            told |= {"problems": [dict(one) for one in problems[:1]], "overrides": dict(verdict.overrides)}
        until_ms = now.wall_ms + (verdict.delay_ms or 0)
        self._shard.put_off(job, Cause.RETRY, until_ms, now, f"retry after {error_class}", **told)
        return []

    def _give_up(
        self, job: Job, error_class: str, problems: Sequence[Mapping[str, Any]], verdict: Verdict, now: Now
    ) -> list[Any]:
        self._shard.learn_failure(job, job.pool)
        records = [dict(problem) for problem in problems] or problems_of("SB-5001")
        buried_as = "POISON" if verdict.death else error_class
        why = ": ".join(word for word in (buried_as, verdict.reason) if word)
        failure = Failure(verdict.outcome, records, buried_as, why)
        return end_failed(self._shard, job, failure, now)

    def _measure(self, bundle: Bundle, items: Sequence[Mapping[str, Any]]) -> None:
        """Learn how long a point takes, which fairness and bundles are counted in, and how the pool does."""
        shard = self._shard
        for item in items[:1]:
            job = shard.jobs.look(item["job_id"])
            if job is None or bundle.open.get(job.job_id) != item["attempt"]:
                continue
            timings = Timings.unpack(item["timings"])
            spent, blamed = timings.seconds("execute"), item["error_class"] in BLAMED
            if not (blamed or 0 < spent < math.inf):
                continue
            work = f"{job.circuit_id}/{job.points.bit_length()}"
            answer = Answer(work, spent, timings.seconds("lease"), blamed)
            shard.counters.answered.append((bundle.pool, answer))
            if not item["error_class"]:
                shard.touch(*shard.speeds.observe(bundle.pool, spent / job.points, job.work))

    def expire_leases(self, now: Now) -> list[Any]:
        """Take back what workers have had for too long."""
        commands: list[Any] = []
        for bundle in self._shard.bundles.lapsed(now):
            error_class = "LOST" if bundle.started else "NOT_STARTED"
            if bundle.started:
                told = [Report(self._tenant(job_id), "LOST") for job_id in bundle.open]
                self._shard.touch(*self._shard.guard.ended(bundle.pool, bundle.bundle_id, told, now))
            self._shard.bundles.drop(bundle)
            for job_id in bundle.open:
                self._shard.landed(bundle, job_id)
                ghost = self._shard.awaited(bundle, job_id)
                if ghost is not None and bundle.started and self._shard.is_paid(bundle.pool):
                    self._shard.funds.forfeit(ghost)
                self._shard.exorcise(bundle, job_id)
                job = self._shard.jobs.get(job_id)
                if job is not None and job.bundle_id == bundle.bundle_id:
                    note_lost(job, bundle, error_class)
                    commands += self._failed(job, Attempted(error_class, problems_of("SB-5002")), now)
        return commands


def _stands(job: Job) -> tuple[str, Any, bool]:
    """Return where a job is, and where it goes from there: who stays has not been failed by its pool yet."""
    return job.pool, (job.extras or {}).get("then"), job.phase in _AWAY


def _how_far(attempted: Attempted) -> str:
    """Return how far a job came that was called off, in the words of whoever stopped it."""
    if attempted.error_class == "REVOKED" and attempted.problems:
        return attempted.problems[0]["detail"] or _UNFINISHED
    return _UNFINISHED


def _begin_another(job: Job) -> None:
    """Have the next attempt be another submission: the provider has proven that the last one is over.

    Under the same token it would answer with that one again.
    """
    job.keep(token=(job.extras or {}).get("token", 0) + 1, asked=0)


def _why(error_class: str, problem: Mapping[str, Any]) -> str:
    """Say why a job goes elsewhere, with what was wrong where that was told in numbers."""
    told = f"{error_class}: {problem['code']}"
    if not problem["limit"]:
        return told
    return f"{told} {problem['path']}: {problem['actual']}, limit {problem['limit']}"
