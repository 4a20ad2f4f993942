"""One pool looked at for one job: every number, and every reason against it. Pure.

A reason is either for good (``never``: the job does not fit, or may not go there), for now (``now``: it
could wait there), or ``late``: no answer in time. Sorting them out is for whoever chooses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from shotbus.broker.config import PoolConfig
from shotbus.broker.policy.circuits import foreign_gates, missing_edges
from shotbus.broker.policy.conditions import matches, outside
from shotbus.broker.policy.config import WhereConfig
from shotbus.broker.policy.facts import PUBLIC, Asked, History, PoolView
from shotbus.broker.policy.windows import Window
from shotbus.broker.treasury.periods import stamp
from shotbus.broker.treasury.prices import MICRO, estimate

#: What rules may ask of what was measured, and what it is counted in.
MEASURED = {"success": "runs", "turnaround_seconds": "answers", "deviation": "comparisons", "cost": "answers"}
#: Kinds of pools that do not run the circuit.
_ANY_DEPTH = ("classical", "none")
_DYNAMIC = ("fidelity", "t1_us", "t2_us", "calibration_age_seconds", "wait_seconds")


class Reason(NamedTuple):
    """Why a pool is not taken; ``limit`` and ``actual`` are short texts."""

    kind: str
    term: str
    limit: str
    actual: str

    def __str__(self) -> str:
        return f"{self.term}: {self.actual}" + (f", limit {self.limit}" if self.limit else "")


@dataclass(slots=True)
class Candidate:
    """A pool with its terms for one job.

    ``start_ms``: when it could begin there, None for never. ``eta``: seconds until the answer (low, middle,
    high), None when the wait is not known. ``gain`` is set by the criterion of that name. ``unknown``: terms
    with too little history. ``taken``: who else has it reserved when the job could begin, and until when.
    """

    pool: str
    settings: PoolConfig
    view: PoolView
    history: History
    price: float
    run_seconds: float
    start_ms: int | None
    eta: tuple[float, float, float] | None
    numbers: dict[str, float | None]
    gain: float | None = None
    terms: dict[str, Any] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    taken: str = ""

    @property
    def usable(self) -> bool:
        """Nothing speaks against it."""
        return not self.reasons

    @property
    def patient(self) -> bool:
        """Nothing but the moment speaks against it: the job can wait there."""
        return all(reason.kind == "now" for reason in self.reasons)

    def as_json(self) -> dict[str, Any]:
        """Return the candidate's step of a trail."""
        eta = None if self.eta is None else [round(seconds, 3) for seconds in self.eta]
        known = {name: value for name, value in self.numbers.items() if value is not None}
        told: dict[str, Any] = {"step": "candidate", "pool": self.pool, "state": self.view.state}
        told |= {"price": self.price, "run_seconds": round(self.run_seconds, 6), "eta_seconds": eta, **known}
        if self.terms:
            told["gain"] = self.terms
        if self.unknown:
            told["unknown"] = list(self.unknown)
        return told | {"rejected": [str(reason) for reason in self.reasons]}


@dataclass(frozen=True, slots=True)
class Calendar:
    """When a pool may be used: the windows that must all be open, and those in which others have it.

    ``holders``: of each of these, who has it, as it is configured: ``TENANT@WINDOW``.
    """

    needs: tuple[Window, ...] = ()
    blocked: tuple[Window, ...] = ()
    holders: tuple[str, ...] = ()

    def earliest(self, from_ms: int) -> int | None:
        """Return the first time from ``from_ms`` on that suits; None when there is none to be found."""
        moment = from_ms
        for _ in range(200):
            before = moment
            for window in self.needs:
                moment = window.next_open_ms(moment)
            for window in self.blocked:
                if window.is_open(moment):
                    closes = window.closes_ms(moment)
                    if closes is None:
                        return None
                    moment = closes
            if moment == before:
                return moment
        return None

    def taken(self, from_ms: int) -> str:
        """Return who has the pool when it could be used but for that, and until when; nothing for nobody."""
        first = Calendar(self.needs).earliest(from_ms) if self.blocked else None
        if first is None:
            return ""
        for holder, window in zip(self.holders, self.blocked, strict=True):
            if window.is_open(first):
                closes = window.closes_ms(first)
                tenant, _, name = holder.rpartition("@")
                return f"{tenant}, window {name}, {f'until {stamp(closes)}' if closes else 'without end'}"
        return ""


def look(
    asked: Asked,
    pool: str,
    settings: PoolConfig,
    view: PoolView,
    history: History,
    *,
    now_ms: int,
    calendar: Calendar,
) -> Candidate:
    """Return the pool's numbers for the job, without any judgement."""
    mean, best = view.pace(asked.work, settings.seconds_per_point)
    # A job is late only if it is in the best case: other jobs of the pool may take much longer than this.
    run, least = asked.points * mean, asked.points * best
    new_session = bool(asked.session) and asked.session_pool != pool
    price = estimate(
        settings.price if view.price is None else view.price,
        points=asked.points,
        shots=asked.shots,
        seconds=run,
        circuits=asked.circuits,
        sessions=int(new_session),
    )
    from_ms = max(now_ms, asked.not_before_ms)
    start = calendar.earliest(from_ms)
    taken = "" if start == from_ms else calendar.taken(from_ms)
    delay = 0.0 if start is None else (start - now_ms) / 1000
    eta = None if view.wait is None else (view.wait[0], view.wait[1], view.wait[2])
    if eta is not None:
        # What waits there now is done while the job waits for the window: the longer of the two counts.
        eta = (max(delay, eta[0]) + least, max(delay, eta[1]) + run, max(delay, eta[2]) + run)
    device = settings.device
    numbers = {
        "fidelity": device.fidelity or None if view.fidelity is None else view.fidelity,
        "t1_us": device.t1_us or None if view.t1_us is None else view.t1_us,
        "t2_us": device.t2_us or None if view.t2_us is None else view.t2_us,
        "calibration_age_seconds": view.calibration_age_seconds,
        "wait_seconds": None if view.wait is None else view.wait[1],
    }
    money = price.money / MICRO
    return Candidate(pool, settings, view, history, money, run, start, eta, numbers, taken=taken)


def judge(
    candidate: Candidate, asked: Asked, where: WhereConfig, *, now_ms: int, due_ms: int, least_runs: int
) -> None:
    """Write down all that speaks against the candidate; ``due_ms``: when the job itself could begin."""
    reasons = candidate.reasons
    reasons += _fit(candidate, asked)
    reasons += _present(candidate, asked, now_ms, due_ms)
    reasons += _late(candidate, asked, now_ms)
    reasons += _wanted(candidate, asked, where)
    for name, what in MEASURED.items():
        if span := getattr(where, name):
            # Counts are apart from their reference in shares, estimates in standard errors.
            measure = "distance" if name == "deviation" and asked.mode != "estimate" else name
            value = candidate.numbers[name] = candidate.history.known(measure, least_runs)
            if value is None:
                candidate.unknown.append(
                    f"{name} ({candidate.history.count(measure)} of {least_runs} {what})"
                )
            elif why := outside(span, value):
                reasons.append(Reason("never", name, str(span), why))


def admits(settings: PoolConfig, data_class: str) -> bool:
    """Tell whether a pool may see data of this class; a class that nobody names is seen by nobody."""
    return data_class in PUBLIC or data_class in settings.access.data_classes


def lacks_role(settings: PoolConfig, asked: Asked) -> bool:
    """Tell whether a pool asks for a role that the submitter has not."""
    wanted = settings.access.roles
    return bool(wanted) and not set(wanted).intersection(asked.roles)


def _fit(candidate: Candidate, asked: Asked) -> Iterator[Reason]:
    settings, circuit = candidate.settings, asked.circuit
    if lacks_role(settings, asked):
        yield Reason("never", "role", " or ".join(settings.access.roles), ", ".join(asked.roles) or "none")
    if not admits(settings, asked.data_class):
        allowed = ", ".join(settings.access.data_classes) or "public data only"
        yield Reason("never", "data class", allowed, asked.data_class)
    if asked.mode not in settings.modes:
        yield Reason("never", "mode", ", ".join(settings.modes), asked.mode)
    if "classical" in (settings.kind, settings.adapter or candidate.pool):
        if not asked.has_problem:
            yield Reason("never", "problem", "it answers problems", "none is stated")
    elif asked.only_problem and asked.has_problem and settings.kind != "none":
        yield Reason("never", "observables", "it runs circuits", "none")
    if circuit is not None and settings.kind != "classical" and circuit.qubits > settings.max_qubits:
        yield Reason("never", "qubits", str(settings.max_qubits), str(circuit.qubits))
    if circuit is not None and settings.kind not in _ANY_DEPTH and circuit.depth_bound > settings.max_depth:
        yield Reason("never", "depth", str(settings.max_depth), str(circuit.depth_bound))
    if asked.max_cost is not None and candidate.price > asked.max_cost:
        yield Reason("never", "price", f"{asked.max_cost:g} asked", f"{candidate.price:g}")


def _present(candidate: Candidate, asked: Asked, now_ms: int, due_ms: int) -> Iterator[Reason]:
    if candidate.view.state != "ready":
        yield Reason("now", "state", "ready", candidate.view.state)
    if candidate.start_ms is None and candidate.taken:
        yield Reason("never", "reserved for", candidate.taken, f"tenant {asked.tenant}")
    elif candidate.start_ms is None:
        hours = candidate.settings.access.hours
        limit = f"window {hours}" if hours else "the windows of rule and job"
        yield Reason("never", "opening hours", limit, "these windows are never open together")
    elif candidate.start_ms > due_ms:
        opens = f"opens in {(candidate.start_ms - now_ms) / 1000:.0f} s"
        whose = f"not reserved for {candidate.taken}" if candidate.taken else "open"
        yield Reason("now", "opening hours", whose, opens)
    age, good = candidate.view.calibration_age_seconds, candidate.settings.device.calibration_seconds
    if good and age is not None and age > good:
        yield Reason("now", "calibration age", f"{good:g} s", f"{age:.0f} s")
    if candidate.pool in asked.tried:
        yield Reason("now", "queue", "", "it waited there too long already")


def _late(candidate: Candidate, asked: Asked, now_ms: int) -> Iterator[Reason]:
    """Even the best case must be too late: a job is not refused for a guess."""
    if asked.deadline_ms is None or candidate.start_ms is None:
        return
    left = (asked.deadline_ms - now_ms) / 1000
    delay = (candidate.start_ms - now_ms) / 1000
    best = delay + candidate.run_seconds if candidate.eta is None else candidate.eta[0]
    # Without a view of the queue only the opening hours can be held against the deadline.
    if (candidate.eta is not None or delay > left) and best > left:
        low, middle, high = candidate.eta or (best, best, best)
        eta = f"{low:.3f} s at best ({middle:.3f} s, up to {high:.3f} s)"
        yield Reason("late", "deadline", f"in {left:.3f} s", eta)


def _wanted(candidate: Candidate, asked: Asked, where: WhereConfig) -> Iterator[Reason]:
    settings = candidate.settings
    if where.kinds and not matches(where.kinds, (settings.kind,)):
        yield Reason("never", "kind", ", ".join(where.kinds), settings.kind)
    if where.native and (why := _foreign(settings, asked)):
        yield Reason("never", "native", "its own gates and couplings", why)
    if where.price and (why := outside(where.price, candidate.price)):
        yield Reason("never", "price", str(where.price), why)
    for name in _DYNAMIC:
        span = getattr(where, name)
        if span and (why := outside(span, candidate.numbers[name])):
            yield Reason("now", name, str(span), why)


def _foreign(settings: PoolConfig, asked: Asked) -> str:
    if asked.circuit is None:
        return "unknown until the circuit is inspected"
    told: Sequence[str] = ()
    if settings.device.basis_gates:
        told = foreign_gates(asked.circuit, settings.device.basis_gates)
    missing = missing_edges(asked.circuit, settings.device.connectivity)
    parts = [f"gates {', '.join(told)}"] if told else []
    return ", ".join([*parts, f"{missing} couplings missing"] if missing else parts)
