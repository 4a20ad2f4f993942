"""One decision in the making: rules in order, candidates with their numbers, the fallback chain. Pure.

Every question that is asked leaves a step in the trail. First match wins, and a rule that does not take a
job leaves nothing behind: removing it changes no decision of that job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from shotbus.broker.policy.candidates import MEASURED, Calendar, Candidate, Reason, judge, lacks_role, look
from shotbus.broker.policy.choice import expected_gain, pick
from shotbus.broker.policy.config import LatencyConfig, ShareConfig, WhereConfig
from shotbus.broker.policy.decision import Decision, TrailStep
from shotbus.broker.policy.facts import IDLE, NO_HISTORY, Asked, Histories, Views
from shotbus.broker.policy.families import check_family
from shotbus.broker.policy.rulebook import APPROVAL, Rule, Rulebook, demands
from shotbus.broker.policy.shares import falls
from shotbus.broker.policy.steps import Step
from shotbus.broker.quality import applicable
from shotbus.schemas.errors import Problem

_ANYWHERE = WhereConfig()
#: What stands between a job and a pool that asks for a role its submitter has not.
ROLE = "role"
_NEVER_OPEN = 1 << 62


class Deciding:
    """Decides about one job at one moment. Not reusable.

    Args:
        book: the compiled policy.
        asked: the job.
        views: the pools as they are; one that is missing is taken to be idle and ready.
        flags: switches at run time, over those of the configuration.
        history: what was measured, by (family, pool).
        now_ms: wall time.

    """

    def __init__(
        self,
        book: Rulebook,
        asked: Asked,
        views: Views,
        *,
        flags: Mapping[str, float],
        history: Histories,
        now_ms: int,
    ) -> None:
        self._book, self._asked, self._views = book, asked, views
        self._flags, self._history, self._now_ms = flags, history, now_ms
        self._trail: list[TrailStep] = []

    def decide(self) -> Decision:
        """Return where the job goes."""
        asked, book = self._asked, self._book
        problems = check_family(asked, book.families)
        if asked.backend and asked.backend not in book.pools:
            limit = ", ".join(sorted(book.pools))
            problems.append(Problem("SB-1102", "$.backend", limit=limit, actual=asked.backend))
        if problems:
            return self._refuse(book.last, problems)
        for rule in book.rules:
            why = self._mismatch(rule)
            self._note("rule", rule=rule.name, matched=not why, **({"why": why} if why else {}))
            if not why and (decision := self._apply(rule)):
                return decision
        self._note("rule", rule=book.last.name, matched=True)
        return self._apply(book.last) or self._refuse(book.last, [])

    def follow(self, rule: Rule, chain: tuple[Step, ...]) -> Decision:
        """Go on with the rest of a chain after a decision that could not answer."""
        found = [self._candidate(rule, name, rule.where) for name in self._names(rule)]
        decision = self._walk(rule, chain, found)
        if decision is None:
            steps = ", ".join(map(str, chain)) or "none"
            problem = Problem(
                "SB-1154", "$.fallback", limit=steps, hint="name another step, or a later deadline"
            )
            return self._refuse(rule, [problem])
        return decision

    # --- rules ---

    def _mismatch(self, rule: Rule) -> str:
        """Return why the rule does not take the job, empty when it does."""
        if rule.flag and not self._is_on(rule.flag):
            return f"flag {rule.flag} is off"
        for condition in rule.conditions:
            if why := condition.test(self._asked, self._now_ms):
                return f"{condition.name}: {why}"
        backend = self._asked.backend
        if backend and not rule.open_to_any and backend not in rule.pools:
            return f"the job names {backend}, which is none of {', '.join(rule.pools)}"
        return ""

    def demands(self, pool: str) -> tuple[str, ...]:
        """Return what rules would demand of the job if it named a pool, as far as it is not met."""
        named = replace(self._asked, backend=pool)
        there = Deciding(self._book, named, {}, flags=self._flags, history={}, now_ms=self._now_ms)
        found: dict[str, None] = {}
        for rule in (rule for rule in self._book.rules if not there._mismatch(rule)):
            found |= dict.fromkeys(demands(rule, self._book, pool))
            # Those behind count where this one may pass the job on: that may change any moment.
            if rule.then.choose != "gain" and not any(getattr(rule.where, name) for name in MEASURED):
                break
        return tuple(name for name in found if name not in named.satisfied)

    def gates(self, pool: str) -> tuple[str, ...]:
        """Return what stands between the job and a pool: :meth:`demands`, and a role that it lacks."""
        role = (ROLE,) if lacks_role(self._book.pools[pool], self._asked) else ()
        return (*role, *self.demands(pool))

    def _is_on(self, flag: str) -> bool:
        name = flag.removeprefix("!")
        percent = float(self._flags.get(name, self._book.flags.get(name, 0.0)))
        return falls(percent, self._asked, "flag", name) != flag.startswith("!")

    def _names(self, rule: Rule) -> tuple[str, ...]:
        named = (self._asked.backend,) if self._asked.backend else rule.pools
        return tuple(name for name in named if name in self._book.pools)

    def _apply(self, rule: Rule) -> Decision | None:
        """Return the rule's decision; None when it passes the job on to the next one."""
        found = [self._candidate(rule, name, rule.where) for name in self._names(rule)]
        if not found:
            limit, actual = ", ".join(sorted(self._book.pools)), ", ".join(rule.pools)
            return self._refuse(rule, [Problem("SB-1102", "$.backend", limit=limit, actual=actual)])
        if rule.then.choose == "gain":
            for one in found:
                if one.patient:
                    expected_gain(one, self._asked, least_runs=self._book.min_history)
        self._trail += [one.as_json() for one in found]
        chosen = self._choose(rule, found)
        if isinstance(chosen, Candidate):
            return self._settle(rule, chosen, found, explore=bool(chosen.unknown))
        if chosen:
            self._note("unknown", rule=rule.name, then=chosen)
            return self._apply(self._book.last) if chosen == "default" else None
        decision = self._walk(rule, self._chain(rule), found) or self._wait(rule, found)
        if decision is None and any(one.gain is not None or one.unknown for one in found):
            self._note("passed on", rule=rule.name, why="no candidate is known to be worth it")
            return None
        return decision or self._refuse(rule, self._problems(found))

    def _candidate(self, rule: Rule, name: str, where: WhereConfig, asked: Asked | None = None) -> Candidate:
        asked = asked or self._asked
        settings, windows = self._book.pools[name], self._book.windows
        view = self._views.get(name, IDLE)
        own = tuple(windows[one] for one in self._windows(rule))
        hours = (windows[settings.access.hours],) if settings.access.hours else ()
        held = settings.access.reservations
        others = tuple(text for text in held if text.rpartition("@")[0] != asked.tenant)
        blocked = tuple(windows[text.rpartition("@")[2]] for text in others)
        found = look(
            asked,
            name,
            settings,
            view,
            self._history.get((asked.family, name), NO_HISTORY),
            now_ms=self._now_ms,
            calendar=Calendar((*own, *hours), blocked, others),
        )
        due = Calendar(own).earliest(max(self._now_ms, asked.not_before_ms)) if own else None
        due_ms = max(self._now_ms, asked.not_before_ms) if not own else _NEVER_OPEN if due is None else due
        judge(found, asked, where, now_ms=self._now_ms, due_ms=due_ms, least_runs=self._book.min_history)
        found.reasons += self._slow(rule, found)
        return found

    def _slow(self, rule: Rule, found: Candidate) -> Iterator[Reason]:
        """Tell which parts of its latency budget a job would overrun there; a guess, so that it may wait."""
        most, wait = self._max_queue(rule), found.view.wait
        if most is not None and wait is not None and wait[1] > most:
            yield Reason("now", "queue", f"{most:g} s", f"{wait[1]:.3f} s")
        budget = self._latency(rule)
        if budget is None:
            return
        if 0 < budget.execute < found.run_seconds:
            yield Reason("now", "execute", f"{budget.execute:g} s", f"{found.run_seconds:.3f} s")
        rest = budget.total - budget.admit - budget.compile - budget.deliver
        ends = found.run_seconds if found.eta is None else found.eta[1]
        if budget.total > 0 and ends > rest:
            yield Reason("now", "total", f"{rest:g} s for queue and run", f"{ends:.3f} s")

    def _latency(self, rule: Rule) -> LatencyConfig | None:
        return self._book.latency.get(rule.then.latency_budget or self._asked.priority)

    def _choose(self, rule: Rule, found: Sequence[Candidate]) -> Candidate | str:
        """Return the candidate, or what to do about too little history, or nothing."""
        usable = [one for one in found if one.usable]
        known, unsure = [one for one in usable if not one.unknown], [one for one in usable if one.unknown]
        if rule.then.sticky:
            for one in known:
                if one.pool == self._asked.session_pool:
                    self._note("sticky", pool=one.pool, session=self._asked.session)
                    return one
        if unsure and falls(rule.explore, self._asked, "explore", rule.name):
            self._note("explore", pool=unsure[0].pool, percent=rule.explore)
            return unsure[0]
        if known:
            return pick(rule.then.choose, known)
        if unsure:
            return unsure[0] if rule.then.unknown == "first" else rule.then.unknown
        return ""

    # --- what goes with a choice ---

    def _settle(
        self, rule: Rule, chosen: Candidate, found: Sequence[Candidate], *, explore: bool
    ) -> Decision:
        canary = self._share(rule, "canary", rule.then.canary, chosen.pool)
        shadow = self._share(rule, "shadow", rule.then.shadow, canary.pool if canary else chosen.pool)
        return self._run(
            rule,
            canary or chosen,
            fallback=self._chain(rule),
            canary=canary is not None,
            shadow=shadow.pool if shadow else "",
            explore=explore and canary is None,
            others=tuple(one.pool for one in found if one is not chosen and one.patient),
        )

    def _share(self, rule: Rule, purpose: str, share: ShareConfig, chosen: str) -> Candidate | None:
        """Return the canary's or shadow's pool for this job; a job that names its pool has no canary."""
        named = purpose == "canary" and self._asked.backend
        if not share.pool or share.pool == chosen or named:
            return None
        inside = falls(share.percent, self._asked, purpose, rule.name, key=share.key)
        told = {"pool": share.pool, "percent": share.percent, "key": share.key, "inside": inside}
        if not inside:
            self._note(purpose, **told)
            return None
        found = self._candidate(rule, share.pool, _ANYWHERE)
        # Nobody has asked for this pool: what other rules demand of those who do is not passed by.
        others = [name for name in self.demands(share.pool) if name not in rule.then.require]
        found.reasons += [Reason("never", "demanded", name, "not met") for name in others]
        self._note(purpose, **told, rejected=[str(reason) for reason in found.reasons])
        return found if found.usable else None

    def _run(self, rule: Rule, chosen: Candidate, **more: Any) -> Decision:
        """Return a decision for a pool with everything that the rule attaches to it."""
        start = chosen.start_ms or 0
        later = start if start > max(self._now_ms, self._asked.not_before_ms) else 0
        quality = self._quality(rule)
        self._note("decided", rule=rule.name, pool=chosen.pool, not_before_ms=later)
        return Decision(
            **{
                "rule": rule.name,
                "version": self._book.version,
                "pool": chosen.pool,
                "not_before_ms": later,
                "windows": self._windows(rule),
                "waits": not chosen.usable,
                "prescreen": self._prescreen(rule, chosen.pool),
                "requires": self._requires(rule),
                "sticky": rule.then.sticky,
                "price": chosen.price,
                "max_queue_seconds": self._max_queue(rule),
                "latency": self._latency(rule),
                "quality": quality,
                "trail": tuple(self._trail),
            }
            | more
        )

    def _requires(self, rule: Rule) -> tuple[str, ...]:
        return tuple(name for name in rule.then.require if name not in self._asked.satisfied)

    def _quality(self, rule: Rule) -> Mapping[str, str]:
        """Return what the rule demands of the job's answer."""
        demand = rule.quality
        if not demand:
            return demand
        asked = applicable(demand, {"mode": self._asked.mode, "shots": self._asked.shots})
        self._note("quality", rule=rule.name, demands=asked or "nothing of this kind of answer")
        return asked

    def _windows(self, rule: Rule) -> tuple[str, ...]:
        """Return the names of the windows in which alone the job runs."""
        named = dict.fromkeys((rule.then.window, self._asked.window))
        return tuple(name for name in named if name in self._book.windows)

    def _prescreen(self, rule: Rule, chosen: str) -> Any:
        screen = rule.then.prescreen
        if not screen.pool or screen.pool == chosen:
            return None
        against = self._candidate(rule, screen.pool, _ANYWHERE).reasons
        never = [str(reason) for reason in against if reason.kind == "never"]
        self._note("prescreen", pool=screen.pool, quantity=screen.quantity, keep=screen.keep, rejected=never)
        return None if never else screen

    def _max_queue(self, rule: Rule) -> float | None:
        if rule.then.max_queue_seconds > 0:
            return rule.then.max_queue_seconds
        budget = self._latency(rule)
        return (budget.queue or None) if budget else None

    # --- when nothing can be chosen ---

    def _chain(self, rule: Rule) -> tuple[Step, ...]:
        """Return the job's own chain, else the rule's; a job that names its pool takes no other by itself."""
        if self._asked.fallback:
            return tuple(map(Step.parse, self._asked.fallback))
        return () if self._asked.backend else rule.chain

    def _walk(self, rule: Rule, chain: tuple[Step, ...], found: Sequence[Candidate]) -> Decision | None:
        steps: Mapping[str, Callable[[Rule, Step, Sequence[Candidate]], dict[str, Any] | str]] = {
            "pool": self._to_pool,
            "cache": self._to_cache,
            "defer": self._to_window,
            "demote": self._to_class,
            "review": self._to_person,
        }
        for place, step in enumerate(chain):
            if step.kind == "none":
                break
            taken = steps[step.kind](rule, step, found)
            why = taken if isinstance(taken, str) else ""
            self._note("fallback", to=str(step), taken=not why, **({"why": why} if why else {}))
            if isinstance(taken, dict):
                chosen = taken.pop("candidate")
                more = {"step": step, "fallback": chain[place + 1 :], **taken}
                return self._run(rule, chosen, **more) if chosen else self._without_pool(rule, more)
        return None

    def _to_pool(self, rule: Rule, step: Step, found: Sequence[Candidate]) -> dict[str, Any] | str:
        del found
        if step.name not in self._book.pools:
            return "there is no such pool"
        others = self.demands(step.name)
        if APPROVAL in others and self._asked.fallback and APPROVAL not in rule.then.require:
            return "a rule demands a person's approval for it"
        one = self._candidate(rule, step.name, _ANYWHERE)
        self._trail.append(one.as_json())
        if not one.usable:
            return "; ".join(map(str, one.reasons))
        # That its own rule sends it there is a person's word; whatever else is demanded holds.
        more = tuple(name for name in others if name != APPROVAL)
        return {"candidate": one, "requires": tuple(dict.fromkeys((*self._requires(rule), *more)))}

    def _to_cache(self, rule: Rule, step: Step, found: Sequence[Candidate]) -> dict[str, Any]:
        del rule, step, found
        return {"candidate": None, "action": "cache"}

    def _to_window(self, rule: Rule, step: Step, found: Sequence[Candidate]) -> dict[str, Any] | str:
        window = self._book.windows.get(step.name)
        if window is None:
            return "there is no such window"
        if window.is_open(self._now_ms):
            return "it is open, and that does not help"
        later = replace(self._asked, not_before_ms=window.next_open_ms(self._now_ms), tried=())
        for one in found:
            then = self._candidate(rule, one.pool, rule.where, later)
            if then.patient:
                start = then.start_ms or later.not_before_ms
                return {"candidate": then, "not_before_ms": start, "waits": False}
        return "no candidate could answer then"

    def _to_class(self, rule: Rule, step: Step, found: Sequence[Candidate]) -> dict[str, Any] | str:
        del rule
        patient = [one for one in found if one.patient]
        if step.name == self._asked.priority:
            return "it is in that class"
        if not patient:
            return "no candidate can be waited for"
        return {"candidate": pick("soonest", patient), "priority": step.name}

    def _to_person(self, rule: Rule, step: Step, found: Sequence[Candidate]) -> dict[str, Any] | str:
        del step
        patient = [one for one in found if one.patient]
        requires = tuple(dict.fromkeys((*rule.then.require, "approval")))
        unmet = tuple(name for name in requires if name not in self._asked.satisfied)
        if "approval" not in unmet:
            return "a person has approved already"
        return {"candidate": patient[0] if patient else None, "action": "review", "requires": unmet}

    def _wait(self, rule: Rule, found: Sequence[Candidate]) -> Decision | None:
        settled = [one for one in found if not one.unknown or rule.then.unknown == "first"]
        patient = [one for one in settled if one.patient]
        if not patient:
            return None
        chosen = pick("soonest", patient)
        self._note("wait", pool=chosen.pool, why=[str(reason) for reason in chosen.reasons])
        others = tuple(one.pool for one in patient if one is not chosen)
        return self._run(rule, chosen, fallback=self._chain(rule), others=others)

    def _without_pool(self, rule: Rule, more: dict[str, Any]) -> Decision:
        quality = self._quality(rule)
        self._note("decided", rule=rule.name, action=more["action"])
        more = {**more, "windows": self._windows(rule), "quality": quality, "trail": tuple(self._trail)}
        return Decision(rule=rule.name, version=self._book.version, **more)

    def _refuse(self, rule: Rule, problems: Sequence[Problem]) -> Decision:
        told = [problem.as_record() for problem in problems]
        self._note("refused", rule=rule.name, problems=told)
        return Decision(
            rule=rule.name,
            version=self._book.version,
            action="refuse",
            problems=tuple(problems),
            trail=tuple(self._trail),
        )

    def _problems(self, found: Sequence[Candidate]) -> list[Problem]:
        """Return what a refusal says: the deadline where a pool is just too slow, else all that is wrong."""
        late = [one for one in found if all(reason.kind != "never" for reason in one.reasons)]
        return [
            _problem(one.pool, reason)
            for one in late or found
            for reason in one.reasons
            if reason.kind == ("late" if late else "never")
        ]

    def _note(self, step: str, **told: Any) -> None:
        self._trail.append({"step": step, **told})


#: Term of a job that does not fit -> code and place: the field that would have to be another one.
_MISFITS = {
    "mode": ("SB-1110", "$.mode"),
    "problem": ("SB-1110", "$.problem"),
    "observables": ("SB-1107", "$.observables"),
    "qubits": ("SB-1116", "$.circuit"),
    "depth": ("SB-1117", "$.circuit"),
    "native": ("SB-1118", "$.circuit"),
    "role": ("SB-1110", "$.roles"),
    "price": ("SB-1110", "$.max_cost"),
    "opening hours": ("SB-1110", "$.window"),
    "gain": ("SB-1110", "$.value"),
}


def _problem(pool: str, reason: Reason) -> Problem:
    if reason.kind == "late":
        return Problem("SB-1152", "$.deadline", limit=reason.limit, actual=f"{pool}: {reason.actual}")
    if reason.term == "data class":
        limit = f"{pool}: {reason.limit}"
        return Problem("SB-1153", "$.data_class", limit=limit, actual=reason.actual)
    code, path = _MISFITS.get(reason.term, ("SB-1110", "$.backend"))
    return Problem(code, path, limit=f"{pool}: {reason.term} {reason.limit}", actual=reason.actual)
