"""What calibrations of devices have in common, whoever tells them. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from shotbus.workers.adapters.base import BackendState

_MICRO = 1e6


class Shape(NamedTuple):
    """A device's name, width and coupled pairs, both ways round."""

    backend_name: str
    qubits: int
    pairs: tuple[tuple[int, int], ...]

    def edges(self) -> list[tuple[int, int]]:
        """Return the coupled pairs, both ways round."""
        return list(self.pairs)


def both_ways(pairs: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return coupled pairs both ways round, in order."""
    one_way = set(pairs)
    return tuple(sorted(one_way | {(b, a) for a, b in one_way}))


def summary(
    calibration_id: str,
    calibrated_ms: int,
    *,
    errors: Iterable[float | None],
    t1: Iterable[float | None],
    t2: Iterable[float | None],
) -> BackendState:
    """Return how a device is by its calibration.

    Args:
        calibration_id: its content address.
        calibrated_ms: wall time, 0 is unknown.
        errors: of the two-qubit gates; None is not known, nor counted.
        t1: relaxation times of the qubits, seconds.
        t2: dephasing times, seconds.

    """
    error = _mean(errors)
    return BackendState(
        calibration_id=calibration_id,
        calibrated_ms=calibrated_ms,
        fidelity=None if error is None else 1.0 - error,
        t1_us=_micro(_mean(t1)),
        t2_us=_micro(_mean(t2)),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _micro(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * _MICRO
