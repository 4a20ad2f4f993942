"""The way in: what is said of a submission, and how an accepted job begins. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from shotbus.broker.dispatcher import staging
from shotbus.broker.dispatcher.admission import check_pool, check_request
from shotbus.broker.dispatcher.answers import fingerprint, problems_of, unique_mark
from shotbus.broker.dispatcher.earlier import asks_for_earlier, check_reuse, enough
from shotbus.broker.dispatcher.endings import give_up
from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.messages import Inspect, Learnt, Recall, Relay, Submitted, Told
from shotbus.broker.dispatcher.newcomers import new_job, route
from shotbus.broker.dispatcher.prospects import follow
from shotbus.broker.dispatcher.reports import records_of
from shotbus.broker.dispatcher.reuse import forget_place
from shotbus.broker.dispatcher.shard import Shard
from shotbus.broker.dispatcher.states import Cause, Phase
from shotbus.broker.dispatcher.wishes import check_names
from shotbus.broker.machine import Now
from shotbus.broker.policy.decision import Decision
from shotbus.broker.quality import never_met
from shotbus.broker.treasury.answers import UNLIMITED, Decided, Refused, Waits
from shotbus.schemas.errors import Problem
from shotbus.schemas.ids import partition_of

# What is full now may have room when its submitter has waited this long.
FULL_MS = 5_000
_NO_TRAIL: Mapping[str, Any] = MappingProxyType({})
# What an accepted job does that does not run yet: kept while it waits for the Treasury.
_ASIDE, _REVIEW = "aside", -1.0
_FUNDED: Mapping[str, Any] = MappingProxyType({"budget": "reserved"})


class Door:
    """Admits requests to a shard."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    def submitted(self, event: Submitted, now: Now) -> list[Any]:
        """Take a request: accept, refuse, relay it, or recognise it."""
        shard, request = self._shard, event.request
        known = self._repeated(event, now)
        if known is not None:
            return known
        problems = [*event.contradictions, *check_request(request, shard.config, now_ms=now.wall_ms)]
        if request["window"] or request["fallback"]:
            problems += check_names(request, shard.config)
        if asks_for_earlier(request):
            problems += check_reuse(request)
        if not event.reference.topic.endswith(f"requests.{request['priority']}"):
            limit = f"the class of its topic, {event.reference.topic}"
            problems.append(Problem("SB-1101", "$.priority", limit=limit, actual=request["priority"]))
        if not problems and partition_of(request["job_id"], shard.partitions) != shard.number:
            if not event.relayed:
                return [Relay(event.reference, partition_of(request["job_id"], shard.partitions))]
            problems = [Problem("SB-1109", "$.job_id", detail="relayed to a shard that is not its own")]
        problems += self._misrouted(event)
        wait_ms = 0
        if not problems:
            problems, wait_ms = self._no_room(event)
        if problems:
            return [self._refusal(event, problems, now, retry_after_ms=wait_ms)]
        job = new_job(event, now)
        if self._shard.standing.wanted_gone(job):
            return self._cancelled(job, now)
        return self._validate(job) if event.uninspected else self._accept(job, event, now)

    def _no_room(self, event: Submitted) -> tuple[list[Problem], int]:
        """Return why a sound request is not taken now, and after how long it may come again (0: no use)."""
        request = event.request
        if full := self._full(request["tenant"]):
            return full, FULL_MS
        if taken := self._taken(unique_mark(request), request["unique_policy"]):
            return taken, 0
        return ([], 0) if event.uninspected else self._crowded(event)

    def _crowded(self, event: Submitted) -> tuple[list[Problem], int]:
        """Return why the pool takes no more of this class now, and after how long it may come again."""
        request = event.request
        shed = self._shard.guard.shed(event.pool, request["priority"])
        if shed is None or shed.action != "refuse" or event.cached is not None:
            return [], 0
        self._shard.counters.shed(event.pool, request["priority"], "refused")
        waiting, hint = f"{shed.waiting:.0f} s of work", "other classes are taken; come again later"
        problem = Problem("SB-1111", "$.priority", limit=f"{shed.high:g} s", actual=waiting, hint=hint)
        return [problem], shed.retry_after_ms

    def told(self, event: Told, now: Now) -> list[Any]:
        """Take the Treasury's word: go on with what waited for it."""
        allowance = self._shard.funds.allowance
        return self.decided(allowance.told(event.fields, now), now) if allowance is not None else []

    def decided(self, answers: Sequence[Decided], now: Now) -> list[Any]:
        """Admit or refuse submissions whose budgets have answered; others look again by themselves."""
        commands: list[Any] = []
        for job_id, answer in answers:
            job = self._shard.jobs.get(job_id) if job_id in self._shard.asking else None
            if job is None:
                continue
            if isinstance(answer, Refused):
                commands += self._turn_away(job, answer.problems, now, retry_after_ms=answer.retry_after_ms)
                continue
            # Others may have come meanwhile that need not wait.
            mark, policy = (job.extras or {}).get("unique", ""), (job.extras or {})["funding"]
            if taken := self._taken(mark, policy):
                commands += self._turn_away(job, taken, now)
                continue
            self._shard.withdraw(job, now)
            commands += self._supersede(job, now)
            self._shard.admitted(job)
            commands += self._begin(job, now)
        return commands

    def learnt(self, event: Learnt, now: Now) -> list[Any]:
        """Go on with what waited for a circuit; who still waits is asked for again."""
        shard, name = self._shard, event.inspected.circuit_id
        shard.router.book.put(event.inspected)
        commands: list[Any] = []
        if event.inspected.facts is None:
            found = event.inspected.problems
            problems = [one if one.path != "$" else one.under("$.circuit") for one in found]
            for job_id in list(shard.validating.get(name, ())):
                commands += self._turn_away(shard.live(job_id), problems, now)
            return commands
        for submission in event.submissions:
            job = shard.jobs.get(submission.request["job_id"])
            if job is not None and job.phase is Phase.VALIDATING:
                commands += self._go_on(job, submission, now)
        return commands + ([Inspect(name)] if name in shard.validating else [])

    def ask_again(self, now: Now) -> list[Any]:
        """Ask for every circuit, earlier result and unit of a budget that is waited for: after a restore."""
        shard = self._shard
        jobs = [shard.live(job_id) for job_id in shard.recalling]
        recalls = [Recall(job.job_id, job.reference, (job.extras or {})["recall_s"]) for job in jobs]
        commands: list[Any] = [*(Inspect(name) for name in shard.validating), *recalls]
        for job_id in list(shard.asking):
            job = shard.live(job_id)
            answer = shard.funds.reserve(job, now, runs=_ASIDE not in (job.extras or {}))
            if not isinstance(answer, Waits):
                commands += self.decided([Decided(job_id, answer or UNLIMITED)], now)
        return commands

    def _cancelled(self, job: Job, now: Now) -> list[Any]:
        """End a job that was cancelled before it arrived."""
        self._shard.accept(job)
        told = {"problems": problems_of("SB-4002")}
        return self._shard.end(job, Cause.CANCEL, "cancelled", now, told, why="before it arrived")

    def _validate(self, job: Job) -> list[Any]:
        first = job.circuit_id not in self._shard.validating
        self._shard.validate(job)
        return [Inspect(job.circuit_id)] if first else []

    def _go_on(self, job: Job, event: Submitted, now: Now) -> list[Any]:
        """Admit, or refuse, what was being validated."""
        shard = self._shard
        request = event.request
        problems, wait_ms = self._misrouted(event), 0
        problems = problems or self._taken(unique_mark(request), request["unique_policy"])
        if not problems:
            problems, wait_ms = self._crowded(event)
        if problems:
            return self._turn_away(job, problems, now, retry_after_ms=wait_ms)
        shard.withdraw(job, now)
        found = self._enter(job, event, now)
        if isinstance(found, Refused):
            return self._turn_away(job, found.problems, now, retry_after_ms=found.retry_after_ms)
        return found

    def _enter(self, job: Job, event: Submitted, now: Now) -> list[Any] | Refused:
        """Have a job go where the policy sends it, once what it may cost is set aside; else say why not."""
        route(self._shard, job, event)
        lacking = self._unfunded(job, event, now)
        if isinstance(lacking, Refused):
            return lacking
        if lacking is not None:
            return self._ask(job, event)
        gone = self._supersede(job, now)
        self._shard.admitted(job)
        return gone + self._place(job, event, now)

    def _unfunded(self, job: Job, event: Submitted, now: Now) -> Waits | Refused | None:
        """Reserve what the job may cost: nothing if it is answered at once, a place if it runs later."""
        if event.cached is not None:
            return None
        return self._shard.funds.reserve(job, now, runs=_aside(event.decision) is None)

    def _ask(self, job: Job, event: Submitted) -> list[Any]:
        """Have a job wait for the Treasury's word; what it does then is kept where that is not to run."""
        aside = _aside(event.decision)
        if aside is not None:
            job.keep(**{_ASIDE: aside})
        self._shard.ask_for(job, event.request["unique_policy"], **_why(event))
        return []

    def _begin(self, job: Job, now: Now) -> list[Any]:
        """Find an accepted job that had to wait for its budgets its first place."""
        aside = (job.extras or {}).get(_ASIDE)
        if aside is None:
            return self._wait(job, now, _FUNDED)
        job.forget(_ASIDE)
        return self._set_aside(job, aside, _FUNDED)

    def _turn_away(
        self, job: Job, problems: Sequence[Problem], now: Now, *, retry_after_ms: int = 0
    ) -> list[Any]:
        self._shard.refuse(job, problems=records_of(problems))
        fields = {
            "job_id": job.job_id,
            "tenant": job.tenant,
            "sweep_id": job.sweep_id,
            "shard_index": job.shard_index,
            "payload_hash": job.payload_hash,
        }
        return [
            self._shard.reports.refusal(
                fields, problems, now, retry_after_ms=retry_after_ms, traceparent=job.traceparent
            )
        ]

    def _misrouted(self, event: Submitted) -> list[Problem]:
        """Return why the request goes nowhere, or its pool cannot take it."""
        decision = event.decision
        if event.uninspected and not event.request["backend"]:
            # Nobody knows yet where it goes.
            return []
        if decision is not None and decision.refused:
            return list(decision.problems)
        if decision is not None and (unmet := never_met(decision.quality, event.request)):
            return unmet
        if decision is not None and not decision.pool:
            return []
        size = {"qubits": event.facts.qubits, "depth": event.facts.depth_bound} if event.facts else {}
        problems = check_pool(event.request, event.pool, self._shard.config, **size)
        return problems or staging.unmet(self._shard, event)

    def _refusal(
        self, event: Submitted, problems: Sequence[Problem], now: Now, *, retry_after_ms: int = 0
    ) -> Any:
        reports, about = self._shard.reports, {"traceparent": event.traceparent}
        reports.turned_away(event.request, problems, retry_after_ms=retry_after_ms, **about)
        return reports.refusal(event.request, problems, now, retry_after_ms=retry_after_ms, **about)

    def _full(self, tenant: str) -> list[Problem]:
        """Return why no more can be taken in now: all together, or of this tenant.

        Each process has the part of its shards, and counts in all of them.
        """
        shard, limits = self._shard, self._shard.config.limits
        here = shard.neighbours.values()
        held, most = sum(len(one.jobs) for one in here), self._part(limits.max_waiting)
        if held >= most:
            return [Problem("SB-1111", "$", limit=str(most), actual=str(held))]
        own, most = sum(one.jobs.of_tenant(tenant) for one in here), self._part(limits.max_waiting_tenant)
        if own >= most:
            hint = "other tenants' jobs are taken; submit again after retry_after"
            return [Problem("SB-1111", "$.tenant", limit=str(most), actual=str(own), hint=hint)]
        return []

    def _part(self, limit: int) -> int:
        return max(1, limit * len(self._shard.neighbours) // self._shard.partitions)

    def _taken(self, mark: str, policy: str) -> list[Problem]:
        """Return why a unique key that a live job has already speaks against another one."""
        other = self._rival(mark)
        if other is None or policy == "supersede":
            return []
        code = "SB-1115" if policy == "reject" else "SB-1114"
        return [Problem(code, "$.unique_key", limit="one live job a key", actual=other.job_id)]

    def _rival(self, mark: str) -> Job | None:
        return self._shard.jobs.get(self._shard.uniques.get(mark, "")) if mark else None

    def _supersede(self, job: Job, now: Now) -> list[Any]:
        """Let a job that is accepted take the place of the one that has its unique key."""
        other = self._rival((job.extras or {}).get("unique", ""))
        return give_up(self._shard, other, Cause.SUPERSEDE, now, by=job.job_id) if other else []

    def _repeated(self, event: Submitted, now: Now) -> list[Any] | None:
        """Recognise a job id that is live or finished; None for a new one."""
        job_id, payload = event.request["job_id"], event.request["payload_hash"]
        live = self._shard.jobs.look(job_id)
        done = None if live else self._shard.done.find(job_id)
        if live is None and done is None:
            return None
        self._shard.counters.dedup_hits += 1
        tenant = event.request["tenant"]
        if live:
            same = (live.payload_hash, live.tenant) == (payload, tenant)
        else:
            same = done is not None and done.payload == fingerprint(tenant, payload)
        if not same:
            problem = Problem("SB-1106", "$.idempotency_key", hint="use a new key for a new payload")
            return [self._refusal(event, [problem], now)]
        if done is None:
            return []
        home = self._shard.reports.home(event.request["sweep_id"])
        located = self._shard.reports.located(
            job_id, now, outcome=done.outcome, finished_ms=done.finished_ms, partition=home
        )
        return [located]

    def _accept(self, job: Job, event: Submitted, now: Now) -> list[Any]:
        shard = self._shard
        shard.accept(job)
        found = self._enter(job, event, now)
        if isinstance(found, Refused):
            shard.jobs.remove(job)
            return [self._refusal(event, found.problems, now, retry_after_ms=found.retry_after_ms)]
        return found

    def _place(self, job: Job, event: Submitted, now: Now) -> list[Any]:
        """Find an accepted job its first place; some need none."""
        shard, decision = self._shard, event.decision
        told = enough(event, job, now.wall_ms)
        if told is not None:
            terms = {"answered_by": told["answered_by"], "age_ms": told["age_ms"]}
            return shard.end(job, Cause.CACHE_HIT, "served_from_cache", now, told, **terms)
        if job.extras and "stages" in job.extras:
            # Earlier shots count where they were to be topped up, not on the way there.
            forget_place(job)
        shard.agenda.watch(job, shard.key(job))
        why = _why(event)
        aside = _aside(decision)
        return self._wait(job, now, why) if aside is None else self._set_aside(job, aside, why)

    def _set_aside(self, job: Job, aside: float, why: Mapping[str, Any]) -> list[Any]:
        """Have an accepted job wait for a person, or for an earlier answer of so many seconds."""
        if aside != _REVIEW:
            return self._recall(job, aside, why)
        job.move(Cause.REVIEW)
        self._shard.note(job, Cause.REVIEW, **why)
        return []

    def _wait(self, job: Job, now: Now, why: Mapping[str, Any]) -> list[Any]:
        """Give an accepted job its place, and begin what runs beside it, where there is room for more."""
        commands = self._put(job, now, why)
        if not job.extras or "companions" not in job.extras or self._full(job.tenant):
            return commands
        return commands + self._shard.beside.begin(job, now)

    def _put(self, job: Job, now: Now, why: Mapping[str, Any]) -> list[Any]:
        """Have an accepted job wait: for its time, for another that computes the same, or in its queue."""
        shard = self._shard
        if job.not_before_ms > now.wall_ms:
            job.move(Cause.ACCEPT_LATER)
            shard.agenda.later(job, shard.key(job))
            shard.note(job, Cause.ACCEPT_LATER, **why)
            return []
        leader = shard.jobs.get(shard.sharing.leader(job.cache_key) or "") if job.cache_key else None
        if leader is not None:
            shard.share(job, leader, now, **why)
            return []
        shed = shard.guard.shed(job.pool, job.priority)
        if shed is not None and shed.action == "defer":
            until = now.wall_ms + shed.retry_after_ms
            shard.counters.shed(job.pool, job.priority, "deferred")
            told = {"shedding": shed.level, "waiting": shed.waiting, **why}
            shard.put_off(job, Cause.DEFER, until, now, **told)
            return []
        job.move(Cause.ACCEPT)
        shard.enqueue(job, job.accepted_us)
        follow(shard, job, now)
        shard.note(job, Cause.ACCEPT, **why)
        return []

    def _recall(self, job: Job, seconds: float, why: Mapping[str, Any]) -> list[Any]:
        job.keep(fallback_from=job.pool, recall_s=seconds)
        job.move(Cause.RECALL)
        self._shard.recalling[job.job_id] = None
        self._shard.note(job, Cause.RECALL, **why)
        return [Recall(job.job_id, job.reference, seconds)]

    def excuse(self, event: Submitted, now: Now) -> list[Any]:
        """Refuse a request that could not be handled; a job that is known gets an answer of its own."""
        job_id = event.request["job_id"]
        if job_id in self._shard.jobs or self._shard.done.find(job_id):
            return []
        problem = Problem("SB-9001", "$", detail="the request could not be handled and is a dead letter now")
        return [self._refusal(event, [problem], now)]


def _aside(decision: Decision | None) -> float | None:
    """Return what comes first: a person, or an answer of at most so many seconds; None for nothing."""
    if decision is None:
        return None
    if decision.action == "review" or "approval" in decision.requires:
        return _REVIEW
    if decision.action != "cache":
        return None
    return decision.step.seconds if decision.step else 0.0


def _why(event: Submitted) -> Mapping[str, Any]:
    """Return the terms of a submission's first event: the policy's trail, and that it was a dead letter."""
    decision, told = event.decision, event.redriven
    if decision is None or not decision.unusual:
        return told or _NO_TRAIL
    return {"trail": decision.trail, **(told or _NO_TRAIL)}
