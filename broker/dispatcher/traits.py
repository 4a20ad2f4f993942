"""What a pool must be able to do for a job, as bits: what is left of a request while its job waits. Pure.

From bit 8 on stand the circuit's qubits, from bit 24 on how many measured circuits a point is beyond one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shotbus.broker.policy.facts import measured_circuits
from shotbus.schemas.ids import digest

ESTIMATE, EXACT, PROBLEM, OBSERVABLES = 1, 2, 4, 8
# Four bits tell options apart, not which they are; 0 is none.
_OPTIONS_SHIFT, _OPTIONS_MASK = 4, 0xF0
_QUBITS_SHIFT, _QUBITS_MASK = 8, 0xFFFF
_CIRCUITS_SHIFT = 24


def traits_of(request: Mapping[str, Any], qubits: int = 0) -> int:
    """Return a request's traits; ``qubits`` 0 is not known."""
    traits = min(qubits, _QUBITS_MASK) << _QUBITS_SHIFT | (measured_circuits(request) - 1) << _CIRCUITS_SHIFT
    if request["mode"] == "estimate":
        traits |= ESTIMATE
    if request["shots"] == 0:
        traits |= EXACT
    if request["problem"] is not None:
        traits |= PROBLEM
    if request["observables"]:
        traits |= OBSERVABLES
    if request["options"]:
        traits |= _mark(request["options"]) << _OPTIONS_SHIFT
    return traits


def _mark(options: Mapping[str, str]) -> int:
    told = [part for pair in sorted(options.items()) for part in pair]
    return 1 + digest(*told, size=1)[0] % 15


def compiled_apart(traits: int) -> int:
    """Return what jobs of one circuit must have in common to be compiled as one, as far as traits tell.

    Different options look alike once in fifteen times: then those of one job are taken for those of all.
    """
    return traits & (ESTIMATE | _OPTIONS_MASK)


def qubits_of(traits: int) -> int:
    """Return the circuit's qubits, 0 when they are not known."""
    return traits >> _QUBITS_SHIFT & _QUBITS_MASK


def circuits_of(traits: int) -> int:
    """Return the measured circuits a point, at most one an observable."""
    return 1 + (traits >> _CIRCUITS_SHIFT)
