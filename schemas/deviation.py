"""How far two answers to one question are apart. Pure numpy.

Counts: the total variation distance of the two distributions, 0 to 1. Estimates: the difference in standard
errors of that difference. The point, and the observable, that is farthest apart counts.
"""

from __future__ import annotations

import numpy as np

from shotbus.schemas.pub import Counts, Estimates

#: What is told where two answers cannot be compared.
UNKNOWN = -1.0
_ROUNDING = 1e-9


def deviation(one: Counts | Estimates | None, other: Counts | Estimates | None) -> float:
    """Return how far apart two answers are; negative when they are not of the same kind and shape.

    Exact values that differ by more than rounding are infinitely many standard errors apart.
    """
    if isinstance(one, Counts) and isinstance(other, Counts):
        comparable = (one.registers, one.points) == (other.registers, other.points)
        return _distance(one, other) if comparable and min(one.least_shots, other.least_shots) else UNKNOWN
    if isinstance(one, Estimates) and isinstance(other, Estimates):
        return _errors(one, other) if one.evs.shape == other.evs.shape and one.evs.size else UNKNOWN
    return UNKNOWN


def _distance(one: Counts, other: Counts) -> float:
    farthest = 0.0
    for point in range(one.points):
        mine, theirs = one.row(point), other.row(point)
        shots, others = sum(mine.values()), sum(theirs.values())
        apart = sum(abs(mine.get(o, 0) / shots - theirs.get(o, 0) / others) for o in {**mine, **theirs})
        farthest = max(farthest, apart / 2)
    return farthest


def _errors(one: Estimates, other: Estimates) -> float:
    apart = np.abs(one.evs - other.evs)
    error = np.hypot(one.stds, other.stds)
    exact = np.where(apart <= _ROUNDING * np.maximum(1.0, np.abs(one.evs)), 0.0, np.inf)
    return float(np.where(error > 0, apart / np.where(error > 0, error, 1.0), exact).max())
