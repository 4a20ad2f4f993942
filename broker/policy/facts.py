"""What a decision looks at: the job that asks, the pools as they are, what was measured before. Pure data.

``None`` is "not known" everywhere; times are wall time in milliseconds since 1970, durations seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from shotbus.broker.config import PriceConfig
from shotbus.broker.policy.work import work_class
from shotbus.schemas.openqasm import CircuitFacts

#: Data that any pool may see.
PUBLIC = ("", "public")
#: What a pool can be in; only ``ready`` takes work now, in the others its jobs wait.
POOL_STATES = ("ready", "paused", "draining", "breaker_open", "unserved")


@dataclass(frozen=True, slots=True)
class Asked:
    """A job, as far as routing cares.

    ``backend``: the pool it names, empty lets the policy choose. ``satisfied``: which of
    :data:`~shotbus.broker.policy.config.REQUIREMENTS` it meets already. ``session_pool``: where the session's
    last job went. ``tried``: pools where it waited in vain. ``circuits``: measured
    circuits a point, at most one an observable. ``circuit`` is None until it is inspected.
    """

    job_id: str
    tenant: str = "default"
    principal: str = ""
    roles: tuple[str, ...] = ()
    priority: str = "experiment"
    intent: str = "explore"
    data_class: str = ""
    experiment: str = ""
    session: str = ""
    tags: tuple[str, ...] = ()
    mode: str = "sample"
    family: str = ""
    family_version: str = ""
    backend: str = ""
    window: str = ""
    points: int = 1
    shots: int = 1024
    circuits: int = 1
    has_problem: bool = False
    only_problem: bool = False
    value: float | None = None
    value_per_second: float | None = None
    confidence: float | None = None
    max_cost: float | None = None
    deadline_ms: int | None = None
    not_before_ms: int = 0
    fallback: tuple[str, ...] = ()
    satisfied: tuple[str, ...] = ()
    session_pool: str = ""
    tried: tuple[str, ...] = ()
    circuit: CircuitFacts | None = None

    @classmethod
    def of(cls, request: Mapping[str, Any], circuit: CircuitFacts | None = None, **more: Any) -> Self:
        """Take what counts out of a decoded ``circuit_request`` of any version; ``more`` are fields."""
        fields = {name: request[name] for name in _SAME if name in request}
        fields |= {name: tuple(request.get(name) or ()) for name in ("roles", "tags", "fallback")}
        return cls(
            **fields
            | {
                "session": request["session_id"],
                "not_before_ms": request["not_before_ms"] or 0,
                "has_problem": request["problem"] is not None,
                "only_problem": request["mode"] == "estimate" and not request["observables"],
                "circuit": circuit,
                "circuits": measured_circuits(request),
            }
            | more
        )

    @property
    def work(self) -> int:
        """Its class of work."""
        return work_class(self.circuit, self.shots, self.circuits)


def measured_circuits(request: Mapping[str, Any]) -> int:
    """Return the measured circuits a point of a decoded ``circuit_request``, at most one an observable."""
    observables: int = request["expected"]["observables"]
    return min(max(1, observables), _MOST_CIRCUITS)


_MOST_CIRCUITS = 1 << 20
_SAME = (
    *("job_id", "tenant", "principal", "priority", "intent", "data_class", "experiment", "mode", "family"),
    *("family_version", "backend", "window", "points", "shots", "value", "value_per_second", "confidence"),
    *("max_cost", "deadline_ms"),
)


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool as it is now.

    ``wait``: seconds that a job waits there (low, middle, high), its queue at the provider included.
    ``least_seconds_per_point``: in the best case, None for as many as usual.
    ``seconds_per_point``, ``fidelity``, ``t1_us``, ``t2_us`` and ``price`` replace what is configured.
    ``works``: seconds of a point by class of work (:mod:`shotbus.broker.policy.work`), where that has been
    measured: the mean, and the best case.
    """

    state: str = "ready"
    wait: tuple[float, float, float] | None = None
    seconds_per_point: float | None = None
    least_seconds_per_point: float | None = None
    calibration_age_seconds: float | None = None
    fidelity: float | None = None
    t1_us: float | None = None
    t2_us: float | None = None
    price: PriceConfig | None = None
    works: Mapping[int, tuple[float, float]] = field(default_factory=dict)

    def pace(self, work: int, configured: float) -> tuple[float, float]:
        """Return the seconds of a point of a class of work: the mean, and in the best case."""
        if work in self.works:
            mean, least = self.works[work]
            return mean, least
        mean = configured if self.seconds_per_point is None else self.seconds_per_point
        return mean, mean if self.least_seconds_per_point is None else self.least_seconds_per_point


@dataclass(frozen=True, slots=True)
class History:
    """What was measured of a family on a pool: means, each with a count of its own (:data:`MEASURES`).

    ``success`` is the share of ``runs`` (jobs that ended there, or left it after a failure) that were good.
    Of good ones: ``turnaround_seconds`` from the queue of that pool to the answer, ``cost`` there,
    ``deviation`` of estimates from the reference in standard errors, ``distance`` of counts from it (total
    variation, 0 to 1), and ``improvement``: by how much the answer was better than the baseline, as a share
    of the value, usually 0 to 1. What was never measured is None.
    """

    runs: int = 0
    success: float | None = None
    turnaround_seconds: float | None = None
    deviation: float | None = None
    cost: float | None = None
    improvement: float | None = None
    comparisons: int = 0
    distance: float | None = None
    timed: int = 0
    billed: int = 0
    deviations: int = 0
    distances: int = 0

    @classmethod
    def revived(cls, told: Mapping[str, Any]) -> Self:
        """Return what ``asdict`` made of one, in any version of this program.

        A mean without a count of its own is none: runs that measured nothing had been counted into it.
        """
        kept = {one.name: told[one.name] for one in fields(cls) if one.name in told}
        unmeasured = [name for name, count in MEASURES.items() if not told.get(count)]
        return cls(**{name: value for name, value in kept.items() if name not in unmeasured})

    def count(self, measure: str) -> int:
        """Return how often one of :data:`MEASURES` was measured."""
        found: int = getattr(self, MEASURES[measure])
        return found

    def known(self, measure: str, least: int) -> float | None:
        """Return the mean of one of :data:`MEASURES`; None when it was measured less than ``least`` times."""
        mean: float | None = getattr(self, measure)
        return mean if self.count(measure) >= least else None

    def expected_improvement(self, least: int) -> float | None:
        """Return what a job sent there can expect: a run that fails improves nothing; None is unknown."""
        improvement, success = self.known("improvement", least), self.known("success", least)
        if improvement is None:
            return None
        return improvement if success is None else improvement * success


#: Measure -> which field of a history counts how often it was measured.
MEASURES: Mapping[str, str] = {
    "success": "runs",
    "turnaround_seconds": "timed",
    "deviation": "deviations",
    "distance": "distances",
    "cost": "billed",
    "improvement": "comparisons",
}


#: Views by pool, and history by (family, pool).
Views = Mapping[str, PoolView]
Histories = Mapping[tuple[str, str], History]
IDLE = PoolView()
NO_HISTORY = History()
