"""What a pool must be able to do for a job, as bits: what is left of a request while its job waits. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ESTIMATE, EXACT, PROBLEM, OBSERVABLES = 1, 2, 4, 8
_QUBITS_SHIFT = 8


def traits_of(request: Mapping[str, Any], qubits: int = 0) -> int:
    """Return a request's traits; ``qubits`` 0 is not known."""
    traits = qubits << _QUBITS_SHIFT
    if request["mode"] == "estimate":
        traits |= ESTIMATE
    if request["shots"] == 0:
        traits |= EXACT
    if request["problem"] is not None:
        traits |= PROBLEM
    if request["observables"]:
        traits |= OBSERVABLES
    return traits


def qubits_of(traits: int) -> int:
    """Return the circuit's qubits, 0 when they are not known."""
    return traits >> _QUBITS_SHIFT
