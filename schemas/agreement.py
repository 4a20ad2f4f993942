"""Whether two answers to one question may be samples of one distribution. Pure numpy.

Both bounds are kept by chance as often as is asked for, whatever the distribution is: a difference beyond
them is one of what was measured. They are wide for outcomes that are many and seldom.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from shotbus.schemas.deviation import UNKNOWN, deviation
from shotbus.schemas.pub import Counts, Estimates


class Agreement(NamedTuple):
    """How far two answers are apart, and how far chance alone may bring them: the place that is worst.

    In the measure of :func:`shotbus.schemas.deviation.deviation`; negative is unknown.
    """

    deviation: float
    allowed: float

    @property
    def holds(self) -> bool:
        """Whether chance explains the difference."""
        return 0 <= self.deviation <= self.allowed


def agreement(
    one: Counts | Estimates | None, other: Counts | Estimates | None, probability: float
) -> Agreement:
    """Hold two answers against each other.

    Args:
        one: an answer.
        other: another to the same question.
        probability: how often, of two samples of one distribution, a difference this large may come about by
            chance and still be called one, 0 to 1; shared out among all points and observables.

    Counts: the total variation distance of two samples of n and m shots has an expectation of at most
    sum(sqrt(p (1 - p) (1/n + 1/m))) / 2 over the outcomes (Jensen), p taken from both together, and exceeds
    it by t with a probability of at most exp(-2 t^2 / (1/n + 1/m)) (McDiarmid 1989, since one shot moves it
    by at most 1/n or 1/m). Estimates: the difference in standard errors of itself, normally distributed;
    exact values differ by rounding at most.

    """
    apart = deviation(one, other)
    if isinstance(one, Counts) and isinstance(other, Counts) and apart >= 0:
        pairs = [_distance(one, other, point, probability / one.points) for point in range(one.points)]
        return max(pairs, key=lambda pair: pair.deviation - pair.allowed)
    if isinstance(one, Estimates) and apart >= 0:
        return Agreement(apart, -NormalDist().inv_cdf(probability / (2 * one.evs.size)))
    return Agreement(UNKNOWN, UNKNOWN)


def _distance(one: Counts, other: Counts, point: int, probability: float) -> Agreement:
    mine, theirs = one.row(point), other.row(point)
    names = [*mine, *(name for name in theirs if name not in mine)]
    a = np.array([mine.get(name, 0) for name in names], dtype=float)
    b = np.array([theirs.get(name, 0) for name in names], dtype=float)
    rate = 1 / a.sum() + 1 / b.sum()
    shares = (a + b) / (a.sum() + b.sum())
    expected = float(np.sqrt(shares * (1 - shares) * rate).sum()) / 2
    beyond = math.sqrt(rate * math.log(1 / probability) / 2)
    return Agreement(float(np.abs(a / a.sum() - b / b.sum()).sum()) / 2, expected + beyond)
