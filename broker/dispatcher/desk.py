"""Control: cancel, locate, pause, and whatever else is wished for. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from shotbus.broker.dispatcher.answers import owner_mark, unique_mark
from shotbus.broker.dispatcher.beside import is_companion
from shotbus.broker.dispatcher.carrying import Carrying, count_sweep, wisher
from shotbus.broker.dispatcher.change import RefusedError, change_of
from shotbus.broker.dispatcher.endings import give_up, last_failure
from shotbus.broker.dispatcher.fallback import Fallback
from shotbus.broker.dispatcher.messages import Commanded
from shotbus.broker.dispatcher.moves import approved
from shotbus.broker.dispatcher.prospects import prospects
from shotbus.broker.dispatcher.reloaded import RELOADED_KEY, tried
from shotbus.broker.dispatcher.shard import Shard
from shotbus.broker.dispatcher.standing import is_flag_value
from shotbus.broker.dispatcher.states import Cause, Phase
from shotbus.broker.machine import Now
from shotbus.broker.policy.doorview import DoorView, Rival
from shotbus.schemas.errors import MAX_PROBLEMS, Problem, ShotbusError
from shotbus.schemas.ids import is_job_id

#: What a unique key's mark is made of, and what those who ask call it.
_OF_A_KEY = (("session_id", "session"), ("unique_key", "unique_key"))


class Desk:
    """Obeys the control records of a shard."""

    def __init__(self, shard: Shard) -> None:
        self._shard, self._fallback = shard, Fallback(shard)
        self._carrying = Carrying(shard)
        self._commands: dict[str, Callable[[Mapping[str, Any], Now], list[Any]]] = {
            "cancel": self._cancel,
            "locate": self._locate,
            "pause": self._pool,
            "drain": self._pool,
            "resume": self._pool,
            "flag": self._flag,
            "reload": self._reload,
            "approve": self._review,
            "reject": self._review,
            "reprioritise": self._reprioritise,
        }

    def commanded(self, event: Commanded, now: Now) -> list[Any]:
        """Obey a control record."""
        command = event.control["command"]
        return self._commands[command](event.control, now) if command in self._commands else []

    def _pool(self, control: Mapping[str, Any], now: Now) -> list[Any]:
        """Pause, drain or resume a pool."""
        name, standing = control["name"], self._shard.standing
        if name not in self._shard.queues:
            return []
        before, paused = standing.is_paused(name), control["command"] != "resume"
        self._shard.touch(standing.set_paused(name, paused=paused))
        if paused:
            # Health is looked at now and then; a pause holds at once.
            self._shard.guard.forecasts.halted(name)
        return [self._shard.audited(control, name, now, before=before, after=paused)]

    def _flag(self, control: Mapping[str, Any], now: Now) -> list[Any]:
        """Switch a feature flag: ``value`` is on, off, a percentage, or empty for what is configured."""
        name, value = control["name"], control["arguments"].get("value", "")
        if name not in self._shard.config.flags or not is_flag_value(value):
            return [self._told(control, now, changed=0, problems=["unknown flag or value"])]
        before = self._shard.standing.flags.get(name, "")
        self._shard.touch(self._shard.standing.set_flag(name, value))
        self._shard.router.switch(self._shard.standing.flags)
        entry = self._shard.audited(control, name, now, before=before, after=value)
        return [entry, self._told(control, now, changed=1)]

    def _reload(self, control: Mapping[str, Any], now: Now) -> list[Any]:
        """Go on with another policy: what came of it, over the one in force here."""
        shard, before = self._shard, self._shard.router.policy.version
        try:
            config, changes = shard.reloaded.apply(control["arguments"], shard.config)
        except ShotbusError as error:
            return [self._told(control, now, changed=0, problems=str(error).splitlines()[:MAX_PROBLEMS])]
        shard.reconfigure(config)
        shard.touch(RELOADED_KEY)
        after = {"version": shard.router.policy.version, "changes": changes}
        entry = shard.audited(control, "policy", now, before=before, after=after)
        return [entry, self._told(control, now, changed=1, problems=changes)]

    def _review(self, control: Mapping[str, Any], now: Now) -> list[Any]:
        """Approve or reject a job that waits for a person's word."""
        job = self._shard.jobs.get(control["name"])
        if job is None or job.tenant != control["tenant"] or job.phase is not Phase.AWAITING_REVIEW:
            return [self._told(control, now, changed=0, problems=["no such job awaits review"])]
        approves = control["command"] == "approve"
        if approves and (lack := self._shard.unfit(job, job.pool)):
            # Nobody has found a pool for it yet: it stands where it would go without any rule.
            return [self._told(control, now, changed=0, problems=[f"{job.pool} {lack}"])]
        commands = [self._shard.audited(control, job.job_id, now), self._told(control, now, changed=1)]
        if approves:
            approved(job)
            self._shard.requeue(job, Cause.APPROVE, now, **wisher(control))
            return commands + self._shard.beside.begin(job, now)
        why = "rejected in review by {who}: {reason}".format(**wisher(control))
        steps = self._fallback.step(job, now, why)
        if steps is not None:
            return commands + steps
        problem = Problem("SB-4010", "$", actual=control["principal"], detail=control["reason"])
        told = {"problems": [problem.as_record()]}
        terms = {**last_failure(job), **wisher(control)}
        return commands + self._shard.end(job, Cause.FAIL, "failed", now, told, **terms)

    def _reprioritise(self, control: Mapping[str, Any], now: Now) -> list[Any]:
        """Change what waits of a job, a sweep or an experiment; says how many, and why not the others."""
        try:
            change_of(control["arguments"])
        except RefusedError as error:
            return [self._told(control, now, changed=0, problems=[str(error)])]
        return self._carrying.begin(control, now)

    def _told(
        self, control: Mapping[str, Any], now: Now, *, changed: int, problems: Sequence[str] = ()
    ) -> Any:
        return self._shard.reports.changed(
            control["name"], now, changed=changed, problems=problems, correlation=control["correlation"]
        )

    def _cancel(self, control: Mapping[str, Any], now: Now) -> list[Any]:
        """Cancel what is here and remember the wish for what is still on its way."""
        name, tenant = control["name"], control["tenant"]
        if not self._can_exist(control["target"], name):
            return []
        if control["target"] == "sweep":
            self._shard.touch(*self._shard.standing.intend(name, tenant, now))
            return self._carrying.begin(control, now)
        job = self._shard.jobs.get(name)
        if job is None or is_companion(job):
            if self._shard.done.find(name) is None:
                self._shard.touch(*self._shard.standing.intend(name, tenant, now))
            return []
        return give_up(self._shard, job, Cause.CANCEL, now, **wisher(control)) if job.tenant == tenant else []

    def _can_exist(self, target: str, name: str) -> bool:
        """Tell whether an admitted request could bear this name; a job without a sweep has an empty one."""
        if target == "job":
            return is_job_id(name)
        return target == "sweep" and 0 < len(name) <= self._shard.config.limits.max_field

    def _locate(self, control: Mapping[str, Any], now: Now) -> list[Any]:
        """Answer where a job is, how much of a sweep or a pool is here, or about the policy."""
        name, tenant, correlation = control["name"], control["tenant"], control["correlation"]
        if control["target"] == "job":
            return [self._locate_job(name, tenant, now, correlation)]
        if control["target"] == "policy":
            text = self._policy(tenant, control["arguments"])
            return [self._shard.reports.told(name, now, text, correlation=correlation)]
        if control["target"] == "sweep" and self._carrying.ask(name, tenant, correlation):
            return []
        count = self._count_pool(name) if control["target"] == "pool" else self._count_sweep(name, tenant)
        return [self._shard.reports.counted(name, now, *count, correlation=correlation)]

    def _policy(self, tenant: str, asked: Mapping[str, str]) -> str:
        """Return what a policy would change here, or what routing looks at for a request; as JSON."""
        if "policy" in asked:
            return tried(asked, self._shard.config)
        found = self._shard.router.in_force(tenant, asked.get("session", ""))
        return replace(found, door=self._door(tenant, asked)).as_text(asked.get("family", ""))

    def _door(self, tenant: str, asked: Mapping[str, str]) -> DoorView:
        """Return what the door looks at besides routing, for a request with this session and unique key."""
        shard = self._shard
        fields = {name: asked.get(argument, "") for name, argument in _OF_A_KEY}
        holder = shard.uniques.get(unique_mark({"tenant": tenant, **fields}))
        job = shard.jobs.look(holder) if holder else None
        rival = Rival(job.job_id, job.phase.name, job.pool) if job and job.phase else None
        return DoorView(True, shard.guard.shedder.levels(), rival)

    def _locate_job(self, job_id: str, tenant: str, now: Now, correlation: str) -> Any:
        """Answer where a job is; another tenant's is not known."""
        job, done = self._shard.jobs.look(job_id), self._shard.done.find(job_id)
        if job is not None and job.tenant == tenant and not is_companion(job):
            waits = prospects(self._shard, job, now)
            return self._shard.reports.located(
                job_id, now, phase=job.phase, correlation=correlation, waits=waits
            )
        if job is None and done is not None and done.owner == owner_mark(tenant):
            return self._shard.reports.located(
                job_id, now, outcome=done.outcome, finished_ms=done.finished_ms, correlation=correlation
            )
        return self._shard.reports.located(job_id, now, correlation=correlation)

    def _count_sweep(self, sweep_id: str, tenant: str) -> tuple[str, int, int]:
        if not self._can_exist("sweep", sweep_id):
            return "UNKNOWN", 0, 0
        return count_sweep(self._shard, sweep_id, tenant)

    def _count_pool(self, pool: str) -> tuple[str, int, int]:
        if pool not in self._shard.queues:
            return "UNKNOWN", 0, 0
        word = "PAUSED" if self._shard.standing.is_paused(pool) else "READY"
        return word, self._shard.queues[pool].length, self._shard.bundles.attempts(pool)
