"""What judges share: violations, counts of what was judged, the bounds, and the judge's contract. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from shotbus.broker.bus.base import Record
from shotbus.broker.invariants.witnesses import History, ProviderLedger

if TYPE_CHECKING:
    from shotbus.broker.invariants.lives import Life


class Violation(NamedTuple):
    """One broken promise: the invariant, its rule, the id it is about, and what was seen."""

    invariant: str
    rule: str
    about: str
    seen: str


@dataclass(frozen=True, slots=True)
class Bounds:
    """Numbers to judge by; what is None is not judged.

    ``wait_seconds``: longest wait in a queue. ``healed_ms`` (by the topics' clock) and ``heal_seconds``: when
    the last fault healed and how long the broker has from then on. ``now_ms``: the time of the look, by which
    a wait and a life that have not ended are judged; None judges those that have. ``budgets``: limits by
    tenant.
    """

    wait_seconds: float | None = None
    healed_ms: int | None = None
    heal_seconds: float | None = None
    now_ms: int | None = None
    budgets: Mapping[str, float] | None = None


class Findings:
    """Violations, and how often each invariant was looked at."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.judged: Counter[str] = Counter()

    def broke(self, invariant: str, rule: str, about: str, seen: str) -> None:
        """Note a broken promise."""
        self.violations.append(Violation(invariant, rule, about, seen))

    def judge(self, invariant: str, rule: str, about: str, seen: str, *, holds: bool) -> None:
        """Count a look, and what it found when it does not hold."""
        self.judged[invariant] += 1
        if not holds:
            self.broke(invariant, rule, about, seen)


@dataclass(frozen=True, slots=True)
class Look:
    """What a judge sees at the end.

    ``over``: nothing is under way any more. ``complete``: every record since the beginning was fed.
    ``settled`` tells whether everything that a life's last event made was fed too.
    """

    lives: Mapping[str, Life]
    history: History
    ledger: ProviderLedger
    bounds: Bounds
    over: bool
    complete: bool
    settled: Callable[[Life], bool] = field(default=lambda _: True)


class Judge(Protocol):
    """Judges some invariants from some topics."""

    @property
    def takes(self) -> Mapping[str, Callable[[Record], None]]:
        """What it reads, by logical topic; each record is given once, in its partition's order.

        May raise ShotbusError for an unreadable record.
        """
        ...

    def finish(self, look: Look) -> None:
        """Judge what can only be judged at the end; may be called once."""
        ...
