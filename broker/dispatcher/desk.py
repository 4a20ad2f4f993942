"""Control: cancel, locate, pause, and whatever else is wished for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shotbus.broker.dispatcher.answers import is_job_id, owner_mark
from shotbus.broker.dispatcher.endings import give_up
from shotbus.broker.dispatcher.messages import Commanded
from shotbus.broker.dispatcher.shard import Shard
from shotbus.broker.dispatcher.states import WITH_A_WORKER, Cause
from shotbus.broker.machine import Now


class Desk:
    """Obeys the control records of a shard."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    def commanded(self, event: Commanded, now: Now) -> list[Any]:
        """Obey a control record."""
        control = event.control
        command, name = control["command"], control["name"]
        if command == "cancel":
            return self._cancel(control, now)
        if command == "locate":
            return [self._locate(control, now)]
        if command in ("pause", "drain", "resume") and name in self._shard.queues:
            self._shard.touch(self._shard.standing.set_paused(name, paused=command != "resume"))
        return []

    def _cancel(self, control: Mapping[str, Any], now: Now) -> list[Any]:
        """Cancel what is here and remember the wish for what is still on its way."""
        name, tenant = control["name"], control["tenant"]
        if not self._can_exist(control["target"], name):
            return []
        if control["target"] == "job":
            found = [job for job in [self._shard.jobs.get(name)] if job is not None]
            expected = not found and self._shard.done.find(name) is None
        else:
            found = [job for job in self._shard.jobs.values() if job.sweep_id == name]
            expected = True
        if expected:
            self._shard.touch(*self._shard.standing.intend(name, tenant, now))
        commands: list[Any] = []
        for job in found:
            if job.tenant == tenant:
                commands += give_up(self._shard, job, Cause.CANCEL, now)
        return commands

    def _can_exist(self, target: str, name: str) -> bool:
        """Tell whether an admitted request could bear this name; a job without a sweep has an empty one."""
        if target == "job":
            return is_job_id(name)
        return target == "sweep" and 0 < len(name) <= self._shard.config.limits.max_field

    def _locate(self, control: Mapping[str, Any], now: Now) -> Any:
        """Answer where a job is, or how much of a sweep or a pool is here."""
        name, tenant, correlation = control["name"], control["tenant"], control["correlation"]
        if control["target"] == "job":
            return self._locate_job(name, tenant, now, correlation)
        count = self._count_pool(name) if control["target"] == "pool" else self._count_sweep(name, tenant)
        return self._shard.reports.counted(name, now, *count, correlation=correlation)

    def _locate_job(self, job_id: str, tenant: str, now: Now, correlation: str) -> Any:
        """Answer where a job is; another tenant's is not known."""
        job, done = self._shard.jobs.get(job_id), self._shard.done.find(job_id)
        if job is not None and job.tenant == tenant:
            return self._shard.reports.located(job_id, now, phase=job.phase, correlation=correlation)
        if job is None and done is not None and done.owner == owner_mark(tenant):
            return self._shard.reports.located(
                job_id, now, outcome=done.outcome, finished_ms=done.finished_ms, correlation=correlation
            )
        return self._shard.reports.located(job_id, now, correlation=correlation)

    def _count_sweep(self, sweep_id: str, tenant: str) -> tuple[str, int, int]:
        if not self._can_exist("sweep", sweep_id):
            return "UNKNOWN", 0, 0
        mine = [job for job in self._shard.jobs.values() if job.sweep_id == sweep_id and job.tenant == tenant]
        return "LIVE" if mine else "UNKNOWN", len(mine), sum(job.phase in WITH_A_WORKER for job in mine)

    def _count_pool(self, pool: str) -> tuple[str, int, int]:
        if pool not in self._shard.queues:
            return "UNKNOWN", 0, 0
        word = "PAUSED" if self._shard.standing.is_paused(pool) else "READY"
        return word, self._shard.queues[pool].length, self._shard.bundles.attempts(pool)
