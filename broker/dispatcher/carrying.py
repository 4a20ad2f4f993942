"""Carries out wishes about many jobs: few at once, many a step a micro-batch. Pure.

What a step costs does not depend on how many jobs wait, so that nobody else waits longer for it.
Each job is seen to once: the row says up to which place, and is written with the jobs of the step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from shotbus.broker.dispatcher.beside import is_companion
from shotbus.broker.dispatcher.broadcasts import MOST_ASKED, Broadcast, id_at, place_of
from shotbus.broker.dispatcher.change import Change, apply_change, change_of, check_change
from shotbus.broker.dispatcher.endings import called_off, give_up
from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.shard import Shard
from shotbus.broker.dispatcher.states import WITH_A_WORKER, Cause
from shotbus.broker.machine import Now
from shotbus.schemas.outcomes import UNDER_WAY

#: Jobs that one step sees to; a wish about no more is carried out at once.
STEP = 256
#: Live jobs that are looked through for an experiment at once.
LOOK = 4_096
# Places of jobs that have gone since they were found cost little, but not nothing.
_LOOKED_UP = 4 * STEP
# Who waits for the end of a wish hears as often as this that it is under way.
_WORD_MS = 2_000
_MAX_TERM = 256


def wisher(control: Mapping[str, Any]) -> dict[str, str]:
    """Return who wishes for something and why, as terms of events: a sweep may have a great many of them."""
    return {"who": control["principal"][:_MAX_TERM], "reason": control["reason"][:_MAX_TERM]}


def count_sweep(shard: Shard, sweep_id: str, tenant: str) -> tuple[str, int, int]:
    """Return whether a tenant has live jobs of a sweep, how many, and how many of them workers have."""
    mine, about = shard.jobs.of_tenant_in(sweep_id, tenant), (sweep_id, tenant)
    # Only what waits is packed.
    away = [job for job in shard.jobs.objects() if job.phase in WITH_A_WORKER]
    aboard = sum((job.sweep_id, job.tenant) == about for job in away)
    return "LIVE" if mine else "UNKNOWN", mine, aboard


class Carrying:
    """Carries out the broadcasts of a shard."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._told_ms = 0

    def begin(self, control: Mapping[str, Any], now: Now) -> list[Any]:
        """Take a wish about jobs, cancel or change, that is in order; carry it out if it is small."""
        shard, cancels = self._shard, control["command"] == "cancel"
        broadcasts = shard.broadcasts
        # Changes of one tenant are made in the order in which they were wished for.
        waits = not cancels and control["target"] != "job" and broadcasts.has(control["tenant"])
        few = None if waits else self._few(control)
        if few is not None:
            wish = Broadcast(0, control, shard.jobs.newest_us)
            return [*self._see_to(wish, few, now), *self._tell(wish, now)]
        standing = broadcasts.cancels.get((control["name"], control["tenant"])) if cancels else None
        if standing is not None:
            standing.again = True
            shard.touch(standing.key)
            return []
        if not cancels and broadcasts.is_full:
            return [self._changed(control, now, 0, ["too many changes are under way: wish again later"])]
        wish = broadcasts.add(control, shard.jobs.newest_us)
        shard.touch(wish.key)
        return self._see_to(wish, self._costly(wish), now) if cancels else []

    def _few(self, control: Mapping[str, Any]) -> list[int] | None:
        """Return the keys of the jobs that are meant; None when they are many, or too many to look at."""
        jobs, name = self._shard.jobs, control["name"]
        if control["target"] == "job":
            return [key] if (key := jobs.key_of(name)) is not None else []
        if not name or control["target"] not in ("sweep", "experiment"):
            return []
        if control["target"] == "sweep":
            return jobs.of_sweep(name) if jobs.in_sweep(name) <= STEP else None
        if len(jobs) > LOOK:
            return None
        found = [key for key in jobs if jobs.text(key, "experiment") == name]
        return found if len(found) <= STEP else None

    def _costly(self, wish: Broadcast) -> list[int]:
        """Return the keys of a sweep's jobs that workers of paid pools have: what they do meanwhile costs."""
        shard, found = self._shard, list[int]()
        for pool, job_id in shard.bundles.aboard():
            key = shard.jobs.key_of(job_id) if shard.is_paid(pool) else None
            if key is not None and (main := self._main(shard.jobs.at(key))) is not None:
                found += [shard.key(main)] if (main.sweep_id, main.tenant) == wish.about else []
        return list(dict.fromkeys(found))

    def _main(self, job: Job) -> Job | None:
        """Return the job itself, or that beside which it runs."""
        return self._shard.jobs.get((job.extras or {})["companion_of"]) if is_companion(job) else job

    def _see_to(self, wish: Broadcast, keys: Iterable[int], now: Now) -> list[Any]:
        commands: list[Any] = []
        change = None if wish.cancels else change_of(wish.control["arguments"])
        for key in keys:
            # Only looked at yet: a job that stays as it is must not become an object for it.
            job = self._shard.jobs.peek(key)
            if job.tenant != wish.control["tenant"] or is_companion(job):
                continue
            if change is not None:
                self._change(wish, key, job, change, now)
            else:
                commands += self._cancel(wish, self._shard.jobs.at(key), now)
        return commands

    def _cancel(self, wish: Broadcast, job: Job, now: Now) -> list[Any]:
        wish.changed += called_off(job) is None
        return give_up(self._shard, job, Cause.CANCEL, now, **wisher(wish.control))

    def _change(self, wish: Broadcast, key: int, job: Job, change: Change, now: Now) -> None:
        why = check_change(self._shard, job, change, now)
        if why:
            wish.refuse(why)
        else:
            apply_change(self._shard, self._shard.jobs.at(key), change, now, **wisher(wish.control))
            wish.changed += 1

    # --- a step ---

    def step(self, now: Now) -> list[Any]:
        """Go on with one wish: look for its jobs, or see to the next of them."""
        shard = self._shard
        wish = shard.broadcasts.next()
        if wish is None:
            return []
        commands, walk = self._words(now), shard.broadcasts.walk(wish)
        if not walk.is_over:
            walk.go_on(shard.jobs)
        if not walk.is_over:
            return commands
        shard.touch(wish.key)
        seen = 0
        for place in islice(walk, _LOOKED_UP):
            wish.cursor = place
            # It may have ended since it was found, also with one that was seen to in this step.
            key = shard.jobs.key_of(id_at(place))
            if key is not None and place_of(shard.jobs.glance(key)) == place:
                commands += self._see_to(wish, [key], now)
                seen += 1
            if seen == STEP:
                break
        return commands + (self._end(wish, now, more=walk.more) if walk.is_empty else [])

    def _end(self, wish: Broadcast, now: Now, *, more: bool) -> list[Any]:
        """All that were found are done: look for more, begin again, or tell."""
        broadcasts = self._shard.broadcasts
        broadcasts.begin_again(wish)
        if more:
            return []
        if wish.again:
            wish.again, wish.cursor = False, -1
            return []
        broadcasts.drop(wish)
        return self._tell(wish, now)

    def _tell(self, wish: Broadcast, now: Now) -> list[Any]:
        """Say how many it were: to whoever asked, and in the audit log."""
        control, commands = wish.control, list[Any]()
        if wish.changed:
            after = {"jobs": wish.changed, **control["arguments"]}
            commands.append(self._shard.audited(control, control["name"], now, after=after))
        if not wish.cancels:
            problems = [f"{count}: {why}" for why, count in sorted(wish.refused.items())]
            commands.append(self._changed(control, now, wish.changed, problems))
        elif wish.asked:
            told = count_sweep(self._shard, *wish.about)
            commands += [self._counted(wish, now, told, one) for one in wish.asked]
        return commands

    def _words(self, now: Now) -> list[Any]:
        """Have those who wait know, now and then, that it takes its time."""
        if abs(now.wall_ms - self._told_ms) < _WORD_MS:
            return []
        self._told_ms, commands = now.wall_ms, list[Any]()
        for wish in self._shard.broadcasts.all():
            asked = wish.asked if wish.cancels else [wish.control["correlation"]]
            commands += [self._counted(wish, now, (UNDER_WAY, wish.changed, 0), one) for one in asked]
        return commands

    def _counted(self, wish: Broadcast, now: Now, told: tuple[str, int, int], correlation: str) -> Any:
        return self._shard.reports.counted(wish.control["name"], now, *told, correlation=correlation)

    def _changed(self, control: Mapping[str, Any], now: Now, changed: int, problems: list[str]) -> Any:
        return self._shard.reports.changed(
            control["name"], now, changed=changed, problems=problems, correlation=control["correlation"]
        )

    # --- while a cancel is under way ---

    def ask(self, sweep_id: str, tenant: str, correlation: str) -> bool:
        """Have a question about a sweep wait until its cancel is done; False when none is under way."""
        wish = self._shard.broadcasts.cancels.get((sweep_id, tenant))
        if wish is None or len(wish.asked) >= MOST_ASKED:
            return False
        wish.asked.append(correlation)
        self._shard.touch(wish.key)
        return True

    def cancel_of(self, job: Job) -> tuple[Broadcast, Job] | None:
        """Return the cancel under way that a waiting job falls under, with the job that it is about."""
        main = self._main(job)
        wish = self._shard.broadcasts.cancels.get((main.sweep_id, main.tenant)) if main is not None else None
        return (wish, main) if wish is not None and main is not None else None

    def stop(self, wish: Broadcast, job: Job, now: Now) -> list[Any]:
        """Cancel a job whose turn it would be before the walk has come to it."""
        self._shard.touch(wish.key)
        return self._cancel(wish, job, now)
