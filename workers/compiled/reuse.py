"""Whether a circuit that was compiled for an earlier calibration may run under the one that holds. Pure.

Which errors a circuit meets is decided by where it was placed: a calibration that moved others changes
nothing for it. So it is good until it is old, or one of the errors that it uses has moved too far. The idea
is that of arXiv:2207.08205 (place anew only when reported errors have changed significantly); that circuits
outlive calibrations without a loss that could be measured is reported in arXiv:2507.01195.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

#: A gate, or ``measure``, and the device's qubits that it acts on.
Place = tuple[str, tuple[int, ...]]


class Rule(NamedTuple):
    """When to compile anew.

    Attributes:
        after_seconds: a circuit is used while the calibration that it was compiled for is younger than that,
            counted to the one that holds; 0 compiles for every calibration.
        error_shift: and while no error that it uses has moved by more than this part of what it was.

    """

    after_seconds: float = 0.0
    error_shift: float = 0.0


#: Every calibration has circuits of its own.
EVERY_CALIBRATION = Rule()


class Fit(NamedTuple):
    """A calibration as a circuit sees it: the errors where it acts.

    ``calibrated_ms`` is wall time, 0 is unknown. An error of None was not measured.
    """

    calibration_id: str
    calibrated_ms: int
    errors: Mapping[Place, float | None]

    def as_json(self) -> dict[str, Any]:
        """Return it in JSON's types, which :meth:`read` takes back."""
        errors = [[gate, list(qubits), error] for (gate, qubits), error in self.errors.items()]
        return {"calibration_id": self.calibration_id, "calibrated_ms": self.calibrated_ms, "errors": errors}

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Fit:
        """Return what :meth:`as_json` has told."""
        errors = {(gate, tuple(qubits)): error for gate, qubits, error in told["errors"]}
        return cls(told["calibration_id"], told["calibrated_ms"], errors)


class Verdict(NamedTuple):
    """Whether a circuit is used, and why: for provenance."""

    reuse: bool
    why: str


def judge(kept: Fit, now: Fit, rule: Rule) -> Verdict:
    """Say whether a circuit may run under another calibration of the same topology.

    Args:
        kept: what it was compiled for.
        now: the calibration that holds, at the same places.
        rule: when to compile anew.

    """
    if not rule.after_seconds:
        return Verdict(reuse=False, why="every calibration is compiled for")
    if not (kept.calibrated_ms and now.calibrated_ms):
        return Verdict(reuse=False, why="how old the calibration is is not known")
    # Either may be the older one: a worker of this host may have learned of the new one before this.
    age_ms = abs(now.calibrated_ms - kept.calibrated_ms)
    apart = f"the calibrations are {age_ms // 1000} s apart"
    if age_ms >= rule.after_seconds * 1000:
        return Verdict(reuse=False, why=f"{apart}, {rule.after_seconds:g} s is too much")
    worst, place = _worst(kept, now)
    if worst > rule.error_shift:
        limit = f"more than {rule.error_shift:.4g}"
        return Verdict(reuse=False, why=f"the error of {_named(place)} moved by {worst:.4g}, {limit}")
    return Verdict(reuse=True, why=f"{apart}, no error moved by more than {worst:.4g}")


def shift(before: float | None, after: float | None) -> float:
    """Return by what part of what it was an error has moved; infinite from 0, or where one is not known."""
    if before == after:
        return 0.0
    if not before or after is None:
        return math.inf
    return abs(after - before) / before


def _worst(kept: Fit, now: Fit) -> tuple[float, Place]:
    """Return the greatest shift and the first place that has it."""
    shifts = ((shift(error, now.errors.get(place)), place) for place, error in kept.errors.items())
    return max(shifts, key=lambda one: one[0], default=(0.0, ("", ())))


def _named(place: Place) -> str:
    gate, qubits = place
    return f"{gate} on {'-'.join(map(str, qubits))}"
