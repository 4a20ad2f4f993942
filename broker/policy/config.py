"""The shapes of ``[routing]``, ``[windows]``, ``[families]``, ``[flags]`` and ``[latency]``. Pure.

Empty means "no condition" everywhere, so that a rule says only what it is about.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Self

CHOICES = ("first", "cheapest", "soonest", "fidelity", "gain")
REQUIREMENTS = ("budget", "baseline", "green_run", "approval")
CONNECTIVITY = ("none", "line", "ring", "tree")
UNKNOWN = ("next", "default", "first")
SHARE_KEYS = ("job", "session", "tenant")


class Span(str):
    """A range as text, both ends included: ``"5..20"``, ``"..20"``, ``"5.."``, ``"7"``; empty is any.

    Raises ValueError for anything else.
    """

    __slots__ = ()
    wanted = 'a range such as "5..20", "..20", "5.." or "7"'

    def __new__(cls, text: str | float = "") -> Self:
        """Check the form."""
        made = super().__new__(cls, text)
        low, high = made.ends
        if math.isnan(low) or math.isnan(high) or low > high:
            raise ValueError(text)
        return made

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the largest value."""
        low, dots, high = self.partition("..")
        if not dots:
            return (float(low), float(low)) if low.strip() else (-math.inf, math.inf)
        return float(low) if low.strip() else -math.inf, float(high) if high.strip() else math.inf

    def holds(self, value: float) -> bool:
        """Tell whether the value lies in the range."""
        low, high = self.ends
        return low <= value <= high


ANY = Span()


class Share(float):
    """A percentage, 0 to 100; ``true`` is 100 and ``false`` 0. Raises ValueError for anything else."""

    __slots__ = ()
    wanted = "true, false, or a percentage from 0 to 100"
    takes_bool = True

    def __new__(cls, value: float | str = 0.0) -> Self:
        """Check the range."""
        words = {"true": 100.0, "false": 0.0}
        text = str(value).strip().lower()
        made = super().__new__(cls, words[text] if text in words else float(value))
        if not 0 <= made <= 100:
            raise ValueError(value)
        return made


@dataclass(frozen=True, slots=True)
class WhenConfig:
    """What a job must be for the rule to take it; all of it must hold.

    Lists hold alternatives: a word, a beginning with ``*`` behind it, ``*`` for anything that is there, and
    ``!word`` for what must not be. Ranges are :class:`Span`; a fact that is not known fails its condition.
    """

    classes: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    principals: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    intents: tuple[str, ...] = ()
    data_classes: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    window: str = ""
    qubits: Span = ANY
    depth: Span = ANY
    operations: Span = ANY
    two_qubit_gates: Span = ANY
    two_qubit_ratio: Span = ANY
    parameters: Span = ANY
    points: Span = ANY
    shots: Span = ANY
    degree: Span = ANY
    gates: tuple[str, ...] = ()
    connectivity: str = ""
    mid_circuit: str = ""
    confidence: Span = ANY
    value: Span = ANY
    deadline_seconds: Span = ANY


@dataclass(frozen=True, slots=True)
class WhereConfig:
    """What a candidate pool must be, measured or declared; all of it must hold."""

    kinds: tuple[str, ...] = ()
    native: bool = False
    price: Span = ANY
    fidelity: Span = ANY
    t1_us: Span = ANY
    t2_us: Span = ANY
    calibration_age_seconds: Span = ANY
    wait_seconds: Span = ANY
    success: Span = ANY
    turnaround_seconds: Span = ANY
    deviation: Span = ANY
    cost: Span = ANY


@dataclass(frozen=True, slots=True)
class PrescreenConfig:
    """A cheap pool that sees the job first; it goes on when ``quantity`` of that answer is in ``keep``."""

    pool: str = ""
    quantity: str = ""
    keep: Span = ANY


@dataclass(frozen=True, slots=True)
class ShareConfig:
    """A pool for a percentage of the jobs; which ones follows from a stable hash of ``key``."""

    pool: str = ""
    percent: float = 0.0
    key: str = "job"


@dataclass(frozen=True, slots=True)
class QualityConfig:
    """What the answer to a job that the rule takes must be, besides its own gate; 0 and empty ask nothing.

    :mod:`shotbus.broker.quality` says what each means. A job is asked only for what its kind of answer has.
    """

    max_stderr: float = 0.0
    range: Span = ANY
    outcomes: tuple[str, ...] = ()
    share: float = 0.0
    parity: str = ""

    def as_options(self) -> dict[str, str]:
        """Return what is asked for, as a request would say it."""
        words = {"range": str(self.range), "outcomes": ",".join(self.outcomes), "parity": self.parity}
        numbers = {"max_stderr": self.max_stderr, "share": self.share}
        told = {name: text for name, text in words.items() if text}
        return told | {name: repr(float(number)) for name, number in numbers.items() if number}


@dataclass(frozen=True, slots=True)
class ThenConfig:
    """What becomes of a job that the rule takes.

    ``pools`` are the candidates, empty is the default pool; ``unknown`` says what to do when ``gain`` or a
    measured condition has too little history; negative ``explore`` and ``max_queue_seconds`` are not set.
    """

    pools: tuple[str, ...] = ()
    choose: str = "first"
    fallback: tuple[str, ...] = ()
    unknown: str = "next"
    explore: float = -1.0
    prescreen: PrescreenConfig = field(default_factory=PrescreenConfig)
    shadow: ShareConfig = field(default_factory=ShareConfig)
    canary: ShareConfig = field(default_factory=ShareConfig)
    require: tuple[str, ...] = ()
    window: str = ""
    sticky: bool = False
    max_queue_seconds: float = -1.0
    latency_budget: str = ""
    quality: QualityConfig = field(default_factory=QualityConfig)


@dataclass(frozen=True, slots=True)
class RuleConfig:
    """A named rule: the first whose flag is on and whose ``when`` holds decides."""

    name: str = ""
    flag: str = ""
    when: WhenConfig = field(default_factory=WhenConfig)
    where: WhereConfig = field(default_factory=WhereConfig)
    then: ThenConfig = field(default_factory=ThenConfig)


@dataclass(frozen=True, slots=True)
class RoutingConfig:
    """Where a job goes that names no pool. Going from simulator to QPU is this one line.

    ``min_history`` runs make a measurement known; until then ``explore_percent`` of the jobs try the pool.
    Jobs that wait at a pool which has taken no work for ``down_seconds`` go elsewhere, those that can.
    """

    default: str = "aer"
    rules: tuple[RuleConfig, ...] = ()
    min_history: int = 20
    explore_percent: float = 0.0
    down_seconds: float = 15.0


@dataclass(frozen=True, slots=True)
class CronWindowConfig:
    """A recurring stretch of time: begins as ``cron`` says in ``utc_offset``, lasts ``minutes``."""

    cron: str = "0 0 * * *"
    minutes: int = 60
    utc_offset: str = "+00:00"


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """What a pool's backend is like; 0 and empty are unknown, and not held against it.

    ``fidelity`` is the mean of its two-qubit gates, ``t1_us`` and ``t2_us`` mean coherence times; a measured
    calibration replaces them, and is good for ``calibration_seconds`` (0: for ever). ``connectivity`` lists
    the coupled qubits as ``"0-1"``; empty is all with all. Empty ``basis_gates`` is any gate.
    """

    fidelity: float = 0.0
    t1_us: float = 0.0
    t2_us: float = 0.0
    calibration_seconds: float = 0.0
    connectivity: tuple[str, ...] = ()
    basis_gates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AccessConfig:
    """Who may use a pool, and when.

    ``data_classes`` are those that it may see besides public data. ``hours`` names the window in which it
    works, empty is always. ``reservations`` are ``TENANT@WINDOW``: nobody else runs there in that window.
    Whoever submits has one of the ``roles``; empty asks for none.
    """

    data_classes: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    hours: str = ""
    reservations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FamilyConfig:
    """A registered circuit family: what every circuit that declares it must be.

    ``versions`` are those that may be declared, oldest first; empty admits any.
    """

    versions: tuple[str, ...] = ()
    qubits: Span = ANY
    depth: Span = ANY
    operations: Span = ANY
    two_qubit_gates: Span = ANY
    two_qubit_ratio: Span = ANY
    parameters: Span = ANY
    degree: Span = ANY
    gates: tuple[str, ...] = ()
    connectivity: str = ""
    mid_circuit: bool = True


@dataclass(frozen=True, slots=True)
class LatencyConfig:
    """A budget from acceptance to result, split by stage, seconds; 0 is no limit of that stage."""

    admit: float = 0.0
    queue: float = 0.0
    compile: float = 0.0
    execute: float = 0.0
    deliver: float = 0.0
    total: float = 0.0
