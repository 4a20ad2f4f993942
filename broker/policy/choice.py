"""Which of the candidates: the criteria, expected gain among them. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from shotbus.broker.policy.candidates import Candidate, Reason
from shotbus.broker.policy.facts import Asked


def expected_gain(candidate: Candidate, asked: Asked, *, least_runs: int) -> None:
    r"""Set the candidate's ``gain`` with every term, in currency units (budget units).

    .. math:: gain = value \cdot success \cdot improvement - price - value\_per\_second \cdot eta

    - *value* [currency]: what the job says a perfect answer is worth to it
    - *success* [1]: share of this family's jobs that this pool answered; one that it fails improves nothing
    - *improvement* [1]: mean improvement over the baseline measured for this family on this pool
    - *price* [currency]: the estimate for this job on this pool
    - *value_per_second* [currency/s]: what the job says a second of waiting costs it, 0 when it does not
    - *eta* [s]: the middle of the expected time to the answer, run time included

    Too little history (fewer than ``least_runs`` comparisons), no declared value, or a cost of waiting
    without a known wait make it unknown, which is an answer of its own. A gain that is not above 0
    speaks against the candidate for good.
    """
    history, lost = candidate.history, asked.value_per_second or 0.0
    eta = None if candidate.eta is None else candidate.eta[1]
    terms = {
        "value": asked.value,
        "success": history.success,
        "improvement": history.improvement,
        "comparisons": history.comparisons,
        "needed": least_runs,
        "price": candidate.price,
        "value_per_second": lost,
        "eta_seconds": eta,
    }
    candidate.terms = terms
    if asked.value is None:
        candidate.unknown.append("gain (the job declares no value)")
    if history.comparisons < least_runs:
        candidate.unknown.append(f"gain ({history.comparisons} of {least_runs} comparisons)")
    if lost and eta is None:
        candidate.unknown.append("gain (waiting costs, and the wait is not known)")
    improvement = history.expected_improvement(least_runs)
    if not candidate.unknown and asked.value is not None and improvement is not None:
        candidate.gain = asked.value * improvement - candidate.price - lost * (eta or 0.0)
        terms["gain"] = candidate.gain
        if candidate.gain <= 0:
            candidate.reasons.append(Reason("never", "gain", "above 0", f"{candidate.gain:g}"))


def pick(choose: str, candidates: Sequence[Candidate]) -> Candidate:
    """Return the best by a criterion; of equals the first, and what is not known comes last."""
    return min(candidates, key=_SCORES[choose])


def _first(candidate: Candidate) -> float:
    del candidate
    return 0.0


def _price(candidate: Candidate) -> float:
    return candidate.price


def _eta(candidate: Candidate) -> float:
    return math.inf if candidate.eta is None else candidate.eta[1]


def _fidelity(candidate: Candidate) -> float:
    fidelity = candidate.numbers["fidelity"]
    return math.inf if fidelity is None else -fidelity


def _gain(candidate: Candidate) -> float:
    return math.inf if candidate.gain is None else -candidate.gain


_SCORES: Mapping[str, Callable[[Candidate], float]] = {
    "first": _first,
    "cheapest": _price,
    "soonest": _eta,
    "fidelity": _fidelity,
    "gain": _gain,
}
