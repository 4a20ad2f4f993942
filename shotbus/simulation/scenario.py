"""What a simulation is told and what it tells: the scenario and its outcome. Pure data."""

from __future__ import annotations

from dataclasses import dataclass, field

from shotbus.broker.invariants import Violation
from shotbus.simulation.child import Temper
from shotbus.simulation.provider import Manners


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens in a simulation; everything else follows from the seed.

    ``seconds`` of submissions and faults, after which the world has ``settle`` seconds to come to rest, and
    should within ``heal_seconds``. ``faults`` a minute are drawn from the table of
    :mod:`shotbus.simulation.faults`, or from ``kinds`` alone, and strike any host, or one of ``victims``;
    ``jump_seconds`` is how far a clock may be wrong. ``workers`` of the first pool; the slow one has one, the
    paid one two. ``features``: rules, budgets and a Treasury, see :mod:`shotbus.simulation.features`; None
    has them in every other seed. Of those with features every other one has prices and budgets of seconds.
    """

    seed: int
    features: bool | None = None
    jobs: int = 64
    seconds: float = 16.0
    settle: float = 300.0
    heal_seconds: float = 120.0
    dispatchers: int = 2
    workers: int = 2
    reducers: int = 2
    faults: float = 36.0
    kinds: tuple[str, ...] = ()
    victims: tuple[str, ...] = ()
    jump_seconds: float = 30.0
    temper: Temper = field(default_factory=lambda: Temper(dies=0.03, hangs=0.005, fails=0.05, rejects=0.02))
    manners: Manners = field(default_factory=Manners)

    @property
    def in_full(self) -> bool:
        """Whether this seed has the features."""
        return self.seed % 2 == 1 if self.features is None else self.features

    @property
    def timed(self) -> bool:
        """Whether this seed has prices and budgets of backend seconds, too."""
        return self.in_full and self.seed % 4 > 1


@dataclass(slots=True)
class Outcome:
    """What a simulation came to.

    ``story`` ends with the lives of those that came to harm, ``answers`` counts by kind, ``bites`` by kind
    of fault, ``digest`` is a hash of all that was published.
    """

    violations: list[Violation]
    story: list[str]
    answers: dict[str, int]
    bites: dict[str, int]
    judged: dict[str, int]
    ended_at: float
    digest: str

    @classmethod
    def stuck(cls, seen: str) -> Outcome:
        """Return what a world came to that stood still."""
        return cls([Violation("I16", "the-world-goes-on", "", seen)], [seen], {}, {}, {}, 0.0, "")
