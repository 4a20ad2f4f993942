"""What a decision says: where the job goes, under which conditions, and the whole trail of why. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from shotbus.broker.policy.config import LatencyConfig, PrescreenConfig
from shotbus.broker.policy.steps import Step
from shotbus.schemas.errors import Problem

#: ``run``: on ``pool``; ``cache``: look for an earlier result as ``step`` says; ``review``: a person decides.
Action = Literal["run", "cache", "review", "refuse"]
#: A step of the trail: ``step`` names its kind, everything in it is JSON.
TrailStep = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a job goes.

    ``pool`` is empty when it is refused (``problems`` say why) or only looked up in the cache. ``fallback``
    are the steps left when this one cannot answer: :meth:`Policy.follow` goes on with them. ``step`` is the
    step that this decision itself is, None for the rule's own choice. ``waits``: the pool takes no work right
    now. ``not_before_ms`` is what the policy adds to the job's own, 0 for nothing.
    ``windows``: names of those in which alone it runs.
    ``priority``: the class it is demoted to, empty to keep its own. ``requires``: what must be met before it
    runs. ``price`` is the estimate in currency units. ``max_queue_seconds``: when it has waited so long it
    goes to the next of ``others``, the rule's other pools that could run it, and then down its chain.
    ``quality``: what the rule demands of its answers, as options (:mod:`shotbus.broker.quality`).
    """

    rule: str
    version: str
    pool: str = ""
    action: Action = "run"
    problems: tuple[Problem, ...] = ()
    fallback: tuple[Step, ...] = ()
    step: Step | None = None
    waits: bool = False
    not_before_ms: int = 0
    windows: tuple[str, ...] = ()
    priority: str = ""
    shadow: str = ""
    canary: bool = False
    explore: bool = False
    prescreen: PrescreenConfig | None = None
    requires: tuple[str, ...] = ()
    sticky: bool = False
    price: float = 0.0
    max_queue_seconds: float | None = None
    others: tuple[str, ...] = ()
    latency: LatencyConfig | None = None
    quality: Mapping[str, str] = field(default_factory=dict)
    trail: tuple[TrailStep, ...] = ()

    @property
    def unusual(self) -> bool:
        """Tell whether there is more to tell than that no rule took it."""
        return len(self.trail) > 2

    @property
    def refused(self) -> bool:
        """Tell whether the job is refused."""
        return self.action == "refuse"
