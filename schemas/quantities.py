"""What rules may look at in an answer: one number of each kind, over all its points. Pure numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from shotbus.schemas.packed import Array
from shotbus.schemas.pub import Counts, Estimates
from shotbus.schemas.quantity_names import QUANTITIES


def _shares(answer: Counts) -> list[Array]:
    """Return, for each point that has shots, the share of each outcome."""
    spans = zip(answer.indptr[:-1].tolist(), answer.indptr[1:].tolist(), strict=True)
    rows = [answer.counts[start:stop].astype(float) for start, stop in spans]
    return [row / row.sum() for row in rows if row.sum() > 0]


def _entropy(answer: Counts) -> float:
    positive = [row[row > 0] for row in _shares(answer)]
    return float(np.mean([-(row * np.log2(row)).sum() for row in positive]))


_OF_ESTIMATES: Mapping[str, Callable[[Array], float]] = {
    "min_ev": lambda evs: float(evs.min()),
    "max_ev": lambda evs: float(evs.max()),
    "mean_ev": lambda evs: float(evs.mean()),
}
_OF_COUNTS: Mapping[str, Callable[[Counts], float]] = {
    "max_probability": lambda answer: max(float(row.max()) for row in _shares(answer)),
    "entropy": _entropy,
}
assert (*_OF_ESTIMATES, *_OF_COUNTS) == QUANTITIES, "each name has its function"


def quantity(name: str, answer: Counts | Estimates | None) -> float | None:
    """Return a quantity of an answer; None where it has none: another kind, nothing in it, not finite."""
    value: float | None = None
    if isinstance(answer, Estimates) and name in _OF_ESTIMATES and answer.evs.size:
        value = _OF_ESTIMATES[name](answer.evs)
    elif isinstance(answer, Counts) and name in _OF_COUNTS and _shares(answer):
        value = _OF_COUNTS[name](answer)
    return value if value is not None and np.isfinite(value) else None
