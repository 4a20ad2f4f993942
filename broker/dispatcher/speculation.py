"""Answer now with the cheap answer that is there, or wait for the better one: the scoring rule. Pure.

    value of waiting = value x success x improvement - value_per_second x ETA

in budget units. *value* is what the job declares its answer to be worth, *success* the share of its family's
jobs that its pool answered, *improvement* the share of the value that answers of this family on this pool
were better by than cheap ones; with too little history the product of both is 1 minus the *confidence* that
the job declares in the cheap answer, and without that it is unknown. *ETA* is the middle of the expected time
to the better answer, in seconds. What is not known counts nothing: below 0 the cheap answer is given at once,
at 0 and above the job waits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from shotbus.schemas.pub import Estimates


class Stake(NamedTuple):
    """What a job declares: worth of its answer, cost of waiting a second, confidence in the cheap answer."""

    value: float | None = None
    per_second: float | None = None
    confidence: float | None = None


class Score(NamedTuple):
    """The value of waiting, in budget units, and its terms as JSON may hold them."""

    value: float
    terms: dict[str, Any]

    @property
    def answers_now(self) -> bool:
        """Whether the cheap answer is the better one."""
        return self.value < 0


def score(stake: Stake, improvement: float | None, eta_seconds: float) -> Score:
    """Weigh waiting against answering; ``improvement`` None: too little was measured."""
    expected, source = improvement, "measured"
    if expected is None and stake.confidence is not None:
        expected, source = 1.0 - stake.confidence, "declared"
    if expected is None or stake.value is None:
        gain, source = 0.0, "unknown"
    else:
        gain = stake.value * expected
    loss = (stake.per_second or 0.0) * eta_seconds
    terms = {"improvement": expected, "source": source, "eta_seconds": eta_seconds}
    return Score(gain - loss, {"value_of_waiting": gain - loss, "gain": gain, "loss": loss, **terms})


def blend(one: Estimates, other: Estimates) -> Estimates | None:
    """Return the mean of two estimates weighted by their inverse variances, with its standard errors.

    None where that has no meaning: other shapes, or a standard error that is not known (0 or not finite).
    """
    if one.evs.shape != other.evs.shape or not one.evs.size:
        return None
    errors = np.stack([one.stds, other.stds])
    if errors.shape[1:] != one.evs.shape or not (np.isfinite(errors).all() and (errors > 0).all()):
        return None
    weights = errors**-2.0
    total = weights.sum(axis=0)
    return Estimates((weights * np.stack([one.evs, other.evs])).sum(axis=0) / total, total**-0.5)
