"""What rules may look at in an answer, by name. Pure data: who only checks names needs no numpy.

Smallest, largest and mean expectation value over points and observables; the probability of the likeliest
outcome of any point; the mean entropy of the points' outcomes, bits.
"""

from __future__ import annotations

_OF_ESTIMATES = ("min_ev", "max_ev", "mean_ev")
_OF_COUNTS = ("max_probability", "entropy")
#: Names of all quantities.
QUANTITIES: tuple[str, ...] = (*_OF_ESTIMATES, *_OF_COUNTS)
