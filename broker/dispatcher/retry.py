"""Retry is a decision: a failure, its history and what is possible in; what to do next out. Pure.

The table of classes is in :mod:`shotbus.broker.dispatcher.ladders`. Jitter is full-range between half and all
of the backoff and follows from (job, attempt), so that a restored shard decides the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from shotbus.broker.config import RetryConfig
from shotbus.broker.dispatcher.ladders import LADDERS, UNSURE_WHEN_PAID, Action, Ladder, Rung, Wait
from shotbus.broker.dispatcher.remedies import Remedy, remedies
from shotbus.schemas.ids import digest

# Enough doublings for any cap; more would overflow a float.
_STEEPEST = 64
# What costs no attempt must not spin: the shortest and the longest such pause, milliseconds.
_LEAST_FREE_MS, _LONGEST_ASK_MS = 100, 300_000
#: Every class with a decision of its own.
REMEDIES = LADDERS


class Verdict(NamedTuple):
    """What to do about a failed attempt.

    ``delay_ms`` None means that no attempt follows on its own: the job ends with ``outcome``, or, for
    FALL_BACK, takes the next step of its chain. ``charged`` and ``death`` are added to the job's counts.
    ``overrides`` are options of the next attempt, ``remedy`` is the name of what is tried and ``reason``
    says why, both for the trail. ``unsure``: until a look-up answers, nothing may be submitted.
    """

    delay_ms: int | None
    outcome: str = ""
    charged: bool = True
    death: bool = False
    action: Action = Action.RETRY
    overrides: tuple[tuple[str, str], ...] = ()
    remedy: str = ""
    reason: str = ""
    unsure: bool = False


class Failure(NamedTuple):
    """A failed attempt: class, problem records, what the provider asked for.

    ``answered``: it is the provider's own word about a submission, from a look-up.
    """

    error_class: str
    problems: Sequence[Mapping[str, Any]] = ()
    retry_after_ms: int = 0
    answered: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """What has been tried: charged ``failures``, ``deaths``, and how often each rung or remedy.

    ``first_failed_ms`` is wall time, 0 before the first failure.
    """

    attempt: int = 1
    failures: int = 0
    deaths: int = 0
    first_failed_ms: int = 0
    unsure: bool = False
    tried: Mapping[str, int] = field(default_factory=dict)

    def after(self, verdict: Verdict, now_ms: int) -> History:
        """Return the history with one more failure in it."""
        count = self.tried.get(verdict.remedy, 0) + 1
        return replace(
            self,
            failures=self.failures + verdict.charged,
            deaths=self.deaths + verdict.death,
            first_failed_ms=self.first_failed_ms or now_ms,
            unsure=verdict.unsure,
            tried={**self.tried, verdict.remedy: count},
        )


class Means(NamedTuple):
    """What is possible now.

    ``paid``: the pool's provider may have been given the job. ``other_pools``: pools that could take it and
    have not been tried. ``fallback``: its chain has a step left; for a job that a provider may have, one
    that costs nothing. ``breaker_ms``: until its pool may be
    tried again. ``expected_ms``: the shortest time in which an attempt could finish. ``deadline_ms`` is
    wall time, 0 for none. ``dear``: why another attempt there would cost more than the job may; empty when
    it would not.
    """

    paid: bool = False
    other_pools: int = 0
    fallback: bool = False
    breaker_ms: int = 0
    expected_ms: int = 0
    deadline_ms: int = 0
    shots: int = 0
    dear: str = ""


class _Step(NamedTuple):
    """A rung or a remedy under the name by which it is counted."""

    name: str
    rung: Rung


def judge(
    failure: Failure, history: History, means: Means, *, job: str, now_ms: int, policy: RetryConfig
) -> Verdict:
    """Return what to do after a failed attempt.

    Args:
        failure: what happened.
        history: what was tried before it.
        means: what is possible.
        job: job id, source of the jitter.
        now_ms: wall time.
        policy: limits.

    """
    told = failure.error_class if failure.error_class in LADDERS else "INTERNAL"
    asking = history.unsure and not failure.answered
    doubtful = means.paid and told in UNSURE_WHEN_PAID and not failure.answered
    name = "UNKNOWN_OUTCOME" if asking or doubtful else told
    ladder = LADDERS[name]
    # A worker that died while it only asked was not killed by the circuit.
    death = LADDERS[told].death and not asking
    deaths = history.deaths + death
    if deaths >= policy.max_deaths and (death or told == "NOT_ACCEPTED") and not ladder.unsure:
        return _end(ladder, death=death, reason=f"{deaths} workers died of it")
    case = _Case(job, now_ms, policy, ladder, death)
    first: _Hindrance | None = None
    for step in _steps(name, ladder, failure, history, means):
        found = _try(step, failure, history, means, case)
        if isinstance(found, Verdict):
            return found
        first = first or found
    reason = first.why if first else f"nothing is done about {name}"
    return _end(ladder, death=death, reason=reason, expired=first is not None and first.expired)


class _Hindrance(NamedTuple):
    """Why a step is not possible; ``expired`` when it is for want of time before the deadline."""

    why: str
    expired: bool = False


class _Case(NamedTuple):
    job: str
    now_ms: int
    policy: RetryConfig
    ladder: Ladder
    death: bool


def _steps(name: str, ladder: Ladder, failure: Failure, history: History, means: Means) -> Iterator[_Step]:
    """Yield what the ladder offers, the targeted remedies first."""
    if ladder.remedied:
        tried = [key.partition(":")[2] for key in history.tried if key.startswith(f"{name}:")]
        for remedy in remedies(failure.problems, shots=means.shots, tried=tried):
            yield _Step(f"{name}:{remedy.name}", _rung_of(remedy))
    for rung in ladder.rungs:
        yield _Step(f"{name}:{rung.action.value}", rung)


def _rung_of(remedy: Remedy) -> Rung:
    return Rung(remedy.action, 1, Wait.NONE, overrides=remedy.overrides)


def _try(step: _Step, failure: Failure, history: History, means: Means, case: _Case) -> Verdict | _Hindrance:
    """Return the verdict of a step, or why it is not possible."""
    rung = step.rung
    why = _used_up(step, history, means, case)
    if why:
        return _Hindrance(why)
    if rung.action is Action.FALL_BACK:
        reason = f"{failure.error_class}: next step of its chain"
        unsure = case.ladder.unsure
        return Verdict(None, "", rung.charged, case.death, rung.action, (), step.name, reason, unsure)
    delay = _delay_ms(step, failure, history, means, case)
    late = _too_late(rung, history, means, case, delay)
    if late:
        return late
    reason = f"{step.name} after {failure.error_class}, in {delay} ms"
    charged, unsure = rung.charged, rung.action is Action.LOOKUP
    return Verdict(delay, "", charged, case.death, rung.action, rung.overrides, step.name, reason, unsure)


def _used_up(step: _Step, history: History, means: Means, case: _Case) -> str:
    """Say why a step is not to be had; empty when it is."""
    rung = step.rung
    if rung.times and history.tried.get(step.name, 0) >= rung.times:
        return f"{step.name} was tried"
    if rung.action is Action.RETRY and means.dear:
        return f"another attempt {means.dear}"
    if rung.action is Action.REROUTE and not means.other_pools:
        return "no other pool can take it"
    if rung.action is Action.FALL_BACK:
        return "" if means.fallback else "its chain has no step left"
    spent = history.failures + 1 >= case.policy.max_attempts
    if rung.charged and spent and not case.ladder.death:
        return f"{history.failures + 1} failures are enough"
    return ""


def _too_late(rung: Rung, history: History, means: Means, case: _Case, delay: int) -> _Hindrance | None:
    """Say why an attempt after ``delay`` could not help any more; None when it could."""
    begins = case.now_ms + delay
    first = history.first_failed_ms or case.now_ms
    if begins > first + 1000 * case.policy.give_up_seconds:
        return _Hindrance(f"it began to fail more than {case.policy.give_up_seconds:g} s before")
    # What a provider may have been paid for is asked for even then.
    asks = rung.action is Action.LOOKUP
    if means.deadline_ms and not asks and begins + means.expected_ms > means.deadline_ms:
        return _Hindrance("another attempt could not finish before its deadline", expired=True)
    return None


def _delay_ms(step: _Step, failure: Failure, history: History, means: Means, case: _Case) -> int:
    rung = step.rung
    if rung.wait is Wait.NONE:
        return 0
    before = history.failures if rung.charged else history.tried.get(step.name, 0)
    backoff = _backoff_ms(case.job, history.attempt, before, case.policy)
    if rung.wait is Wait.RETRY_AFTER:
        backoff = max(failure.retry_after_ms, backoff)
    elif rung.wait is Wait.BREAKER:
        backoff = max(means.breaker_ms, backoff)
    elif rung.wait is Wait.ASK_LATER:
        backoff = min(_LONGEST_ASK_MS, max(1_000, failure.retry_after_ms) << min(before, 16))
    return backoff if rung.charged else max(_LEAST_FREE_MS, backoff)


def _end(ladder: Ladder, *, death: bool, reason: str, expired: bool = False) -> Verdict:
    outcome = "expired" if expired else ladder.outcome
    return Verdict(None, outcome, death=death, action=Action.END, reason=reason, unsure=ladder.unsure)


def decide(
    error_class: str,
    *,
    job: str,
    attempt: int,
    failures: int,
    deaths: int,
    retry_after_ms: int,
    policy: RetryConfig,
) -> Verdict:
    """Return what to do after a failed attempt when nothing but repeating it is possible.

    Args:
        error_class: as the worker or the dispatcher classified it.
        job: job id, source of the jitter.
        attempt: number of the attempt that failed, from 1.
        failures: charged failures before this one.
        deaths: workers this job has killed or lost before this one.
        retry_after_ms: what the provider asked for.
        policy: limits.

    """
    tried = {f"{error_class}:{Action.RETRY.value}": failures}
    history = History(attempt, failures, deaths, tried=tried)
    failure = Failure(error_class, retry_after_ms=retry_after_ms)
    told = judge(failure, history, Means(), job=job, now_ms=0, policy=policy)
    return Verdict(told.delay_ms, told.outcome, told.charged, told.death)


def _backoff_ms(job: str, attempt: int, failures: int, policy: RetryConfig) -> int:
    ceiling = min(policy.cap, policy.base * policy.factor ** min(failures, _STEEPEST))
    share = int.from_bytes(digest("jitter", job, str(attempt), size=4), "little") / 2**32
    return int(1000 * ceiling * (0.5 + 0.5 * share))
