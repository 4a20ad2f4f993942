"""What a device says of itself, remembered for a while, and its last calibrations. Reads a clock."""

from __future__ import annotations

import math
from collections.abc import Callable

from shotbus.broker.clock import Clock
from shotbus.broker.lru import Lru
from shotbus.workers.adapters.base import BackendState
from shotbus.workers.providers.base import DownError
from shotbus.workers.providers.target import TargetCalibration

_KEPT = 8
Told = tuple[TargetCalibration, BackendState]


class Lately:
    """A device of which one can ask what it is like now.

    Args:
        ask: asks it; raises DownError when nothing is known.
        seconds: how long its word holds.
        clock: to measure that.

    """

    def __init__(self, ask: Callable[[], Told], seconds: float, clock: Clock) -> None:
        self._ask, self._seconds, self._clock = ask, seconds, clock
        self._asked = -math.inf
        self._known: Told | None = None
        self._kept: Lru[str, TargetCalibration] = Lru(_KEPT)

    def current(self) -> TargetCalibration:
        """Return the calibration that holds now. Raises DownError if the device is off line."""
        calibration, state = self._look()
        if state.unhealthy:
            raise DownError(state.unhealthy)
        return calibration

    def state(self) -> BackendState:
        """Return how the device is. Raises DownError when nothing is known."""
        return self._look()[1]

    def find(self, calibration_id: str) -> TargetCalibration | None:
        """Return one of the last calibrations."""
        return self._kept.get(calibration_id)

    def ran_under(self, compiled_for: str, started_ms: int, finished_ms: int) -> tuple[str, str]:
        """Return the calibrations at the begin and at the end of a run, as far as they can be told.

        Args:
            compiled_for: the calibration that held when the job was handed in; it may have waited since.
            started_ms: when it began to run, wall time.
            finished_ms: when it had run.

        """
        try:
            now = self._look()[0]
        except DownError:
            return compiled_for, compiled_for
        if now.calibrated_ms <= started_ms or not compiled_for:
            return now.calibration_id, now.calibration_id
        return compiled_for, now.calibration_id if now.calibrated_ms < finished_ms else compiled_for

    def _look(self) -> Told:
        now = self._clock.monotonic()
        if self._known is None or now - self._asked >= self._seconds:
            made, state = self._ask()
            # The same object again: what was made of it is kept by it.
            same = self._kept.get(made.calibration_id) or self._kept.put(made.calibration_id, made)
            self._known, self._asked = (same, state), now
        return self._known
