"""A load for the benchmark of estimates: bursts of arrivals and service times that drift. Pure.

The same seed gives the same load, so a seed is a record of it.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

#: A burst brings so many times the arrivals of quiet times; it is on for this share of the time.
BURST = 4.0
BUSY_SHARE = 0.25
#: Service times swing by this part around their mean, once over the whole load, and scatter around that.
DRIFT = 0.4
SCATTER = 0.3
_CLASSES = ("interactive", "production", "experiment", "bulk")
_CLASS_WEIGHTS = (1, 2, 4, 3)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A job of the load: it comes ``at`` seconds after the beginning and takes ``seconds`` of a slot."""

    at: float
    seconds: float
    priority: str
    tenant: str


def arrivals(jobs: int, *, slots: int, mean_seconds: float, load: float, seed: int) -> list[Arrival]:
    """Return a load in the order of its arrivals.

    Args:
        jobs: how many.
        slots: servers of the pool.
        mean_seconds: of a job.
        load: mean of the work that arrives, over what the slots can do; below 1 a queue grows in bursts only.
        seed: of the load.

    """
    rng = random.Random(seed)
    quiet = load * slots / mean_seconds / (1 + (BURST - 1) * BUSY_SHARE)
    span = jobs * mean_seconds / slots / load
    found: list[Arrival] = []
    at, bursting, until = 0.0, False, 0.0
    for _ in range(jobs):
        at += rng.expovariate(quiet * (BURST if bursting else 1.0))
        if at > until:
            bursting = not bursting and rng.random() < BUSY_SHARE / (1 - BUSY_SHARE)
            until = at + span / 20 * rng.uniform(0.5, 1.5)
        drift = 1 + DRIFT * math.sin(2 * math.pi * at / span)
        scatter = rng.lognormvariate(-(SCATTER**2) / 2, SCATTER)
        (priority,) = rng.choices(_CLASSES, _CLASS_WEIGHTS)
        found.append(Arrival(at, mean_seconds * drift * scatter, priority, f"tenant-{rng.randrange(3)}"))
    return found
