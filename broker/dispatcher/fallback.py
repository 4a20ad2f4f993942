"""What else can be done for a job that its pool cannot answer: the steps of its chain, one by one. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from shotbus.broker.dispatcher.job import Job, shared_chain
from shotbus.broker.dispatcher.messages import Recall
from shotbus.broker.dispatcher.moves import barred, first_pool, passed_over, way
from shotbus.broker.dispatcher.shard import Shard
from shotbus.broker.dispatcher.states import Cause, Phase
from shotbus.broker.machine import Now
from shotbus.broker.policy.steps import Step


def is_overdue(job: Job, now: Now) -> bool:
    """Tell whether a job has passed its deadline and only an earlier result can answer it."""
    return "overdue" in (job.extras or ()) and 0 < job.deadline_ms <= now.wall_ms


class Fallback:
    """Takes the steps that the policy, or the job itself, has named."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._kinds: dict[str, Callable[[Job, Step, Now, str], list[Any] | None]] = {
            "pool": self._pool,
            "cache": self._cache,
            "defer": self._defer,
            "demote": self._demote,
            "review": self._review,
        }

    def pools(self, job: Job) -> int:
        """Return how many pools of a job's chain could take it now."""
        steps = map(Step.parse, job.chain)
        return sum(step.kind == "pool" and not self._against(step.name, job) for step in steps)

    def _against(self, pool: str, job: Job) -> str:
        return barred(self._shard, job, pool) or ("" if self._shard.is_open(pool) else "takes no work now")

    def may_leave(self, job: Job, now: Now) -> bool:
        """Tell whether a waiting job has somewhere to go now; changes nothing."""
        if any(not why for why in self.elsewheres(job).values()):
            return True
        return any(
            step.kind in ("cache", "review")
            or (step.kind == "demote" and self._demotes(job, step))
            or (step.kind == "defer" and self._until(job, step, now) is not None)
            for step in _left(job)
        )

    def elsewheres(self, job: Job) -> dict[str, str]:
        """Return what speaks against each other pool of a job's rule and chain now; empty: nothing does."""
        others: list[str] = (job.extras or {}).get("others", [])
        pools = [*others, *(step.name for step in _left(job) if step.kind == "pool")]
        return {pool: self._against(pool, job) for pool in pools if pool != job.pool}

    def _takes(self, pool: str, job: Job) -> bool:
        """Tell whether a pool takes a job; else why not is told with its next step, or its end."""
        why = self._against(pool, job)
        if why:
            job.keep(passed_over={**(job.extras or {}).get("passed_over", {}), pool: why})
        return not why

    def _move(self, job: Job, pool: str, now: Now, **terms: Any) -> None:
        """Send a job to another pool, or to what it has to do before it may go there."""
        first = way(self._shard, job, pool)
        if first != pool:
            terms["then"] = pool
        job.failures = 0
        self._shard.requeue(job, Cause.REROUTE, now, pool=first, **terms, **passed_over(job))

    def elsewhere(self, job: Job, now: Now, why: str) -> list[Any] | None:
        """Send a waiting job to the next of its rule's other pools that takes it; None when none does.

        That is no fallback: the rule would have had it there as well. Each is tried once.
        """
        others: list[str] = (job.extras or {}).get("others", [])
        for place, pool in enumerate(others):
            if pool != job.pool and self._takes(pool, job):
                job.keep(others=others[place + 1 :])
                self._move(job, pool, now, why=why)
                return []
        return None

    def step(self, job: Job, now: Now, why: str, *, only_pools: bool = False) -> list[Any] | None:
        """Take a job's next step that can be taken; None when none is left.

        The job waits, runs or stands aside; after None it does so still. ``only_pools`` leaves the others.
        """
        if only_pools:
            steps = [Step.parse(text) for text in job.chain]
            left = (one for one in steps if one.kind == "pool" and self._takes(one.name, job))
            if (first := next(left, None)) is None:
                return None
            job.chain = shared_chain(tuple(str(one) for one in steps if one != first))
            return self._pool(job, first, now, why)
        while job.chain:
            step, job.chain = Step.parse(job.chain[0]), shared_chain(job.chain[1:])
            if step.kind == "none":
                job.chain = ()
                return None
            commands = self._kinds[step.kind](job, step, now, why)
            if commands is not None:
                return commands
        return None

    def _pool(self, job: Job, step: Step, now: Now, why: str) -> list[Any] | None:
        if not self._takes(step.name, job):
            return None
        job.keep(fallback_from=first_pool(job))
        self._move(job, step.name, now, why=why, step=str(step))
        return []

    def _cache(self, job: Job, step: Step, now: Now, why: str) -> list[Any] | None:
        self._shard.set_aside(job, Cause.RECALL, now, why=why, step=str(step), **passed_over(job))
        self._shard.recalling[job.job_id] = None
        job.keep(fallback_from=first_pool(job), recall_s=step.seconds)
        return [Recall(job.job_id, job.reference, step.seconds)]

    def last_resort(self, job: Job, now: Now, *, in_hand: bool = True) -> list[Any] | None:
        """Look for an earlier result for a job whose deadline has come; None when its chain has no such step.

        A job that a worker has (``in_hand``, where it was sent) stays where it is until the answer comes.
        """
        extras = job.extras or {}
        if job.phase is Phase.VALIDATING or "awaits" in extras:
            # It is no job yet, or its answer is being prepared.
            return None
        if job.phase is Phase.FALLING_BACK:
            if job.job_id not in self._shard.recalling:
                return None
            job.keep(overdue=1)
            self._shard.touch(job.job_id.encode())
            return []
        # One look answers all: the step that takes the oldest.
        step = max((one for one in _left(job) if one.kind == "cache"), key=_seconds, default=None)
        if step is None:
            return None
        job.keep(overdue=1)
        if job.phase is Phase.FORWARDED and in_hand:
            job.keep(recall_s=step.seconds)
            self._shard.touch(job.job_id.encode())
            return [Recall(job.job_id, job.reference, step.seconds)]
        return self._cache(job, step, now, "its deadline has passed")

    def _demotes(self, job: Job, step: Step) -> bool:
        return step.name in self._shard.config.classes and step.name != job.priority

    def _until(self, job: Job, step: Step, now: Now) -> int | None:
        until = self._shard.opens_ms(step.name, now)
        return None if until is None or (job.deadline_ms and until >= job.deadline_ms) else until

    def _defer(self, job: Job, step: Step, now: Now, why: str) -> list[Any] | None:
        until = self._until(job, step, now)
        if until is None:
            return None
        self._shard.put_off(job, Cause.DEFER, until, now, why=why, step=str(step), **passed_over(job))
        return []

    def _demote(self, job: Job, step: Step, now: Now, why: str) -> list[Any] | None:
        if not self._demotes(job, step):
            return None
        words: dict[str, Any] = {"why": why, "step": str(step), "priority": [job.priority, step.name]}
        self._shard.requeue(job, Cause.REROUTE, now, demoted=step.name, **words, **passed_over(job))
        return []

    def _review(self, job: Job, step: Step, now: Now, why: str) -> list[Any] | None:
        self._shard.set_aside(job, Cause.REVIEW, now, why=why, step=str(step), **passed_over(job))
        return []


def _left(job: Job) -> Iterator[Step]:
    """Yield the steps of a job's chain that can still be reached."""
    for text in job.chain:
        step = Step.parse(text)
        if step.kind == "none":
            return
        yield step


def _seconds(step: Step) -> float:
    return step.seconds
