"""What runs beside a job: a shadow for comparison, a cheap answer in case it is wanted. Pure.

A companion is a job in the books with an id of its own on the same route, the same request, and
``companion_of`` among its extras. Its main job has ``companions`` there: by role the companion's id (empty
until it began) and where its answer comes from; ``prepared`` is the cheap answer, ``shadowed`` the shadow's.
An answer too large for a row is held in memory and, after a restore, prepared again under another id.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from sys import intern
from typing import Any

from shotbus.broker.dispatcher.admission import solves_problems
from shotbus.broker.dispatcher.beside import SHADOW, SPECULATION
from shotbus.broker.dispatcher.drain import LONGEST
from shotbus.broker.dispatcher.endings import Failure, called_off, end_failed, give_up
from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.kept import compared, kept, opened, unkept
from shotbus.broker.dispatcher.largeanswers import MOST_LARGE, LargeAnswers
from shotbus.broker.dispatcher.messages import Recall, Submitted
from shotbus.broker.dispatcher.moves import first_pool
from shotbus.broker.dispatcher.prospects import forecast, stands_still
from shotbus.broker.dispatcher.shard import Shard
from shotbus.broker.dispatcher.sortedrun import Entry, SortedRun, rank_of
from shotbus.broker.dispatcher.speculation import Stake, blend, score
from shotbus.broker.dispatcher.states import AT_HAND, TABLE, Cause, Phase
from shotbus.broker.dispatcher.traits import PROBLEM
from shotbus.broker.machine import Now
from shotbus.broker.policy.steps import Step
from shotbus.schemas.ids import companion_id, digest
from shotbus.schemas.outcomes import SUCCESSES
from shotbus.schemas.pub import Estimates, pack_estimates

Words = Mapping[str, Any]
_NOTHING: Words = {}
_FAILED = frozenset({"failed", "timed_out", "expired", "dead_lettered"})
#: Where a job may be answered with what was prepared; elsewhere it is found out first what was paid for.
_MAY_ANSWER = (AT_HAND - {Phase.VALIDATING}) | {Phase.FORWARDED, Phase.RUNNING}
#: Where a job is when it has been accepted and may run; what shares another's result needs nothing beside it.
_WAITS = frozenset({Phase.WAITING, Phase.SCHEDULED, Phase.DEFERRED})
_KEPT_PROBLEMS = 3
#: The prepared answer is used so long before a deadline: a share of the time there was, at most a second.
_MARGIN_SHARE, _MARGIN_MS = 20, 1_000
_SAME = (
    *("tenant", "priority", "points", "shots", "circuit_id", "experiment", "intent", "session_id", "family"),
    *("submitted_us", "deadline_ms", "prepare_us", "think_us"),
)


class Companions:
    """The companions of one shard's jobs."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._large = LargeAnswers()
        #: When jobs with a prepared answer and a deadline use it, by key.
        self._verdicts = SortedRun()
        #: Jobs whose prepared answer was lost with the process.
        self._lost: dict[str, None] = {}

    # --- beginning ---

    def plan(self, job: Job, event: Submitted) -> None:
        """Note with a new job what is to run beside it."""
        request, decision = event.request, event.decision
        wanted: dict[str, list[str]] = {}
        if decision is not None and decision.shadow and not self._shard.unfit(job, decision.shadow):
            wanted[SHADOW] = ["", decision.shadow]
        more: dict[str, Any] = {}
        if request["speculate"] and (source := self._source(job)):
            wanted[SPECULATION] = ["", source]
            stake = Stake(request["value"], request["value_per_second"], request["confidence"])
            more = {"speculate": request["speculate"], "stake": list(stake)}
        if wanted:
            job.keep(companions=wanted, **more)

    def _source(self, job: Job) -> str:
        """Return where a cheap answer comes from: a pool, ``cache:SECONDS``, or empty for nowhere."""
        shard, own = self._shard, first_pool(job)
        for source in self._sources(job):
            if source.startswith("cache:") or (source != own and not shard.unfit(job, source)):
                return source
        return ""

    def _sources(self, job: Job) -> Iterator[str]:
        pools = self._shard.config.pools
        if job.traits & PROBLEM:
            yield from (name for name in pools if solves_problems(pools, name))
        steps = list(map(Step.parse, job.chain))
        names = [one.name for one in steps if one.kind == "pool"]
        yield from (name for name in names if self._shard.pool(name).kind in ("simulator", "classical"))
        yield from (str(one) for one in steps if one.kind == "cache")
        if self._shard.pool(first_pool(job)).kind == "hardware":
            yield from (name for name, pool in pools.items() if pool.kind == "simulator")

    def begin(self, job: Job, now: Now) -> list[Any]:
        """Start what is planned beside a job that has its first place."""
        extras, commands = job.extras or _NOTHING, list[Any]()
        if "companions" not in extras or job.phase not in _WAITS:
            return commands
        for role, (begun, source) in extras["companions"].items():
            if not begun:
                commands += self._start(job, role, source, now)
        return commands

    def again(self, now: Now) -> list[Any]:
        """Prepare again what was lost with the process."""
        lost, self._lost = list(self._lost), {}
        commands: list[Any] = []
        for job_id in lost:
            job = self._shard.jobs.get(job_id)
            if job is not None:
                _, source = (job.extras or _NOTHING)["companions"][SPECULATION]
                commands += self._start(job, SPECULATION, source, now)
        return commands

    def _start(self, job: Job, role: str, source: str, now: Now) -> list[Any]:
        shard, extras = self._shard, job.extras or _NOTHING
        epoch = extras.get("epoch", 0) + 1
        made = _companion(job, role, f"{role}.{epoch}")
        if made.job_id in shard.jobs:
            return []
        job.keep(companions={**extras["companions"], role: [made.job_id, source]}, epoch=epoch)
        shard.touch(job.job_id.encode())
        recalls = source.startswith("cache:")
        made.pool = job.pool if recalls else intern(source)
        made.cost = shard.run_seconds(made, made.pool)
        made.accepted_us = job.accepted_us
        shard.jobs.add(made)
        if recalls:
            seconds = Step.parse(source).seconds
            made.keep(recall_s=seconds)
            made.move(Cause.RECALL)
            shard.recalling[made.job_id] = None
            shard.note(made, Cause.RECALL)
            return [Recall(made.job_id, made.reference, seconds)]
        if shard.funds.reserve(made, now) is not None:
            # Nobody asked for it to be paid for: it runs when there is something left, or not at all.
            shard.jobs.remove(made)
            shard.funds.release(made)
            return []
        made.move(Cause.ACCEPT)
        shard.enqueue(made, now.wall_ms * 1000)
        shard.agenda.watch(made, shard.key(made))
        shard.note(made, Cause.ACCEPT)
        return []

    # --- what companions come to ---

    def done(self, companion: Job, outcome: str, answer: Words, now: Now) -> list[Any]:
        """Take what a companion has come to."""
        told = companion.extras or _NOTHING
        job = self._shard.jobs.get(told["companion_of"])
        if job is not None and told["role"] == SPECULATION and not self._expects(job, companion):
            job = None
        if outcome not in SUCCESSES:
            return self._failed(job, told["role"], now)
        words = {"pool": companion.pool, "attempt": companion.attempt, "seed": companion.seed, **answer}
        if told["role"] == SHADOW:
            return self._shadowed(job, companion, words, now)
        return self._prepared(job, words, now) if job is not None else []

    def _expects(self, job: Job, companion: Job) -> bool:
        places = (job.extras or _NOTHING).get("companions", _NOTHING)
        return companion.job_id in [begun for begun, _ in places.values()]

    def _failed(self, job: Job | None, role: str, now: Now) -> list[Any]:
        """End a job that only waited for an answer which does not come."""
        extras = (job.extras if job is not None else None) or _NOTHING
        if job is None or role != SPECULATION or "awaits" not in extras:
            return []
        job.forget("awaits")
        return end_failed(self._shard, job, Failure(*extras["failure"]), now)

    def _shadowed(self, job: Job | None, companion: Job, words: Words, now: Now) -> list[Any]:
        """Tell a shadow's answer, after the answer that it is compared with if that is still to come."""
        row = kept(words) if job is not None else None
        if job is not None and row is not None:
            job.keep(shadowed=row)
            self._shard.touch(job.job_id.encode())
            return []
        return [self._late(companion, {**words, "answered_by": SHADOW}, now)]

    def _prepared(self, job: Job, words: Words, now: Now) -> list[Any]:
        """Keep a cheap answer, and use it if that is better than to wait."""
        row = kept(words)
        job.keep(**({"prepared": row} if row else {"large": 1}))
        if row is None and not self._large.put(job.job_id, words) and job.phase in AT_HAND:
            job.move(Cause.CHANGE)
            self._shard.note(job, Cause.CHANGE, speculation="no room to keep its answer", most=MOST_LARGE)
        self._arm(job)
        self._shard.touch(job.job_id.encode())
        extras = job.extras or _NOTHING
        if "awaits" in extras:
            why = {"why": "its pool failed", "failed": extras["failure"][0]}
            return self._answer(job, words, why, now)
        if extras["speculate"] != "answer" or job.phase not in _MAY_ANSWER or called_off(job):
            return []
        found = self._score(job, now)
        if found.answers_now:
            return self._answer(job, words, found.terms, now)
        if job.phase in AT_HAND:
            job.move(Cause.CHANGE)
            self._shard.note(job, Cause.CHANGE, speculation=found.terms)
        return []

    def _score(self, job: Job, now: Now) -> Any:
        shard = self._shard
        known = shard.router.history.get((job.family, job.pool))
        least = shard.config.routing.min_history
        stake = Stake(*(job.extras or _NOTHING)["stake"])
        return score(stake, known.expected_improvement(least) if known else None, self._eta(job, now))

    def _eta(self, job: Job, now: Now) -> float:
        shard = self._shard
        sent = job.phase in (Phase.FORWARDED, Phase.RUNNING)
        if not sent and stands_still(shard, job.pool):
            # Nobody knows when the pool goes on: as long as waiting costs anything, it costs too much.
            return LONGEST
        if job.phase is Phase.WAITING:
            return forecast(shard, job, now)[1].mid
        if sent:
            return shard.run_seconds(job, job.pool)
        later = max(0, job.not_before_ms - now.wall_ms) / 1000
        ahead = shard.waiting_seconds(job.pool)
        return later + shard.guard.eta(job.pool, ahead, shard.run_seconds(job, job.pool), now).mid

    def _answer(self, job: Job, words: Words, terms: Mapping[str, Any], now: Now) -> list[Any]:
        """End a job with its prepared answer; what a worker has of it goes on, for comparison."""
        shard = self._shard
        told = _instead(job, words, terms)
        shard.abdicate(job, now)
        return shard.end(job, Cause.FALL_BACK, "succeeded_by_fallback", now, told, **terms)

    # --- what jobs come to ---

    def instead(self, job: Job, outcome: str) -> dict[str, Any] | None:
        """Return the prepared answer for a job that would end without one; called before each end."""
        self._disarm(job)
        words = self.answer_of(job)
        if words is None or outcome not in _FAILED or called_off(job):
            return None
        if (job.phase, Cause.FALL_BACK) not in TABLE:
            return None
        return _instead(job, words, {"why": outcome})

    def left(self, job: Job, outcome: str, answer: Words, now: Now) -> list[Any]:
        """End the companions of a job that has ended; the shadow of an answer may finish."""
        shard, extras, commands = self._shard, job.extras or _NOTHING, list[Any]()
        self._large.drop(job.job_id)
        for role, (begun, _) in extras["companions"].items():
            companion = shard.jobs.get(begun) if begun else None
            if companion is not None and not (role == SHADOW and outcome in SUCCESSES):
                commands += give_up(shard, companion, Cause.CANCEL, now)
        if "shadowed" in extras:
            words = unkept(extras["shadowed"])
            apart = compared(words["payload"], answer["payload"], 0) if answer.get("payload") else {}
            commands.append(self._late(job, {**words, **apart, "answered_by": SHADOW}, now))
        return commands

    def hold(self, job: Job, failure: Failure, now: Now) -> bool:
        """Have a job that failed wait for the answer that is being prepared."""
        extras = job.extras or _NOTHING
        begun, _ = extras.get("companions", _NOTHING).get(SPECULATION, ("", ""))
        if not begun or begun not in self._shard.jobs or self.answer_of(job) is not None or called_off(job):
            return False
        if (job.phase, Cause.RECALL) not in TABLE or "awaits" in extras:
            return False
        self._shard.set_aside(job, Cause.RECALL, now, why="its cheap answer is being prepared")
        first = failure._replace(problems=list(failure.problems)[:_KEPT_PROBLEMS])
        job.keep(awaits=1, failure=list(first))
        return True

    def with_cheap(self, job: Job, told: dict[str, Any]) -> dict[str, Any]:
        """Return what the better answer says once the cheap one is held against it, or mixed into it."""
        extras = job.extras or _NOTHING
        words = self.answer_of(job)
        if words is None:
            return {}
        more: dict[str, Any] = compared(told["payload"], words["payload"], job.traits)
        mine, cheap = opened(told["payload"]), opened(words["payload"])
        mixed = None
        if extras["speculate"] == "blend" and isinstance(mine, Estimates) and isinstance(cheap, Estimates):
            mixed = blend(mine, cheap)
        if mixed is None:
            return more
        known = json.loads(told["provenance"] or b"{}")
        known["blend"] = {"with": words["pool"], "executed_on": words.get("executed_on", "")}
        more |= {"payload": pack_estimates(mixed), "answered_by": "blend", "cache_key": "", "history_key": ""}
        return more | {"provenance": json.dumps(known, separators=(",", ":")).encode()}

    def after(self, ghost: Job, told: Words, now: Now) -> list[Any]:
        """Tell the answer of an attempt that came after its job had been answered."""
        words = self.answer_of(ghost)
        apart = compared(told["payload"], words["payload"], ghost.traits) if words else {}
        self._shard.learn(ghost, now, {**told, **apart}, told.get("cost", 0.0))
        return [self._late(ghost, {**told, **apart}, now)]

    def due(self, now: Now) -> list[Any]:
        """Use the prepared answers of jobs whose deadlines are near."""
        commands: list[Any] = []
        while (entry := self._verdicts.first()) is not None and entry.first <= now.wall_ms:
            job = self._shard.jobs.at(self._verdicts.pop().key)
            if _verdict_ms(job) > now.wall_ms:
                # Its deadline has been moved.
                self._arm(job)
                continue
            words = self.answer_of(job)
            if words is not None and job.phase in _MAY_ANSWER and not called_off(job):
                commands += self._answer(job, words, {"why": "its deadline is near"}, now)
        return commands

    def next_ms(self) -> int | None:
        """Return the wall time at which :meth:`due` has something to do."""
        first = self._verdicts.first()
        return None if first is None else first.first

    def restored(self, job: Job) -> None:
        """Take note of a job with companions that came from the ledger."""
        extras = job.extras or _NOTHING
        if "prepared" in extras and "verdict_ms" in extras:
            self._verdicts.insert(Entry(extras["verdict_ms"], rank_of(job.order), self._shard.key(job)))
        elif "large" in extras:
            self._lost[job.job_id] = None

    def answer_of(self, job: Job) -> Words | None:
        """Return the cheap answer that was prepared for a job; None when there is none (any more)."""
        row = (job.extras or _NOTHING).get("prepared")
        return self._large.get(job.job_id) if row is None else unkept(row)

    # --- inside ---

    def _late(self, job: Job, words: Words, now: Now) -> Any:
        """Return a result that rewrites nothing: it comes under its main job's id, marked as late."""
        extras = job.extras or _NOTHING
        if "companion_of" in extras:
            job = copy.copy(job)
            job.job_id, (job.sweep_id, job.shard_index) = extras["companion_of"], extras["home"]
        told = {**words, "late": True, "cache_key": "", "history_key": ""}
        return self._shard.reports.result(job, "succeeded", now, told)

    def _arm(self, job: Job) -> None:
        self._disarm(job)
        if job.deadline_ms:
            at_ms = _verdict_ms(job)
            job.keep(verdict_ms=at_ms)
            self._verdicts.insert(Entry(at_ms, rank_of(job.order), self._shard.key(job)))
            self._shard.touch(job.job_id.encode())

    def _disarm(self, job: Job) -> None:
        at_ms = (job.extras or _NOTHING).get("verdict_ms")
        if at_ms is not None:
            self._verdicts.discard(at_ms, rank_of(job.order), self._shard.key(job))


def _verdict_ms(job: Job) -> int:
    there_was = job.deadline_ms - job.accepted_us // 1000
    return max(0, job.deadline_ms - max(0, min(_MARGIN_MS, there_was // _MARGIN_SHARE)))


def _companion(job: Job, role: str, number: str) -> Job:
    fields: dict[str, Any] = {name: getattr(job, name) for name in _SAME}
    fields |= {
        "job_id": companion_id(job.job_id, number),
        "payload_hash": digest("companion", job.payload_hash),
        "not_before_ms": 0,
        # Counted and cancelled with its main job, not with the sweep.
        "sweep_id": "",
        "shard_index": -1,
    }
    made = Job(fields, job.reference, job.pool)
    made.seed, made.traits, made.work = job.seed, job.traits, job.work
    made.bytes_in, made.rule = job.bytes_in, job.rule
    made.traceparent = job.traceparent
    made.keep(companion_of=job.job_id, role=role, home=[job.sweep_id, job.shard_index])
    for name in ("data_class", "quality"):
        if job.extras and name in job.extras:
            made.keep(**{name: job.extras[name]})
    return made


def _instead(job: Job, words: Words, terms: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a job's result takes from its prepared answer, and have a worker's later one told."""
    known = json.loads(words.get("provenance") or b"{}")
    known["speculation"] = dict(terms)
    job.keep(late=1)
    told = {name: words[name] for name in words if name != "attempt"}
    provenance = json.dumps(known, separators=(",", ":")).encode()
    more = {"answered_by": SPECULATION, "fallback_from": first_pool(job), "provenance": provenance}
    return told | more | {"cache_key": "", "history_key": ""}
