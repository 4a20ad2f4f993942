"""A provider's device as it tells of itself: health, queue, calibration, and Qiskit's target. Asks the API.

A snapshot is believed only if it has the address it is called by; what it measures becomes the target that
circuits are compiled for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from shotbus.broker.clock import Clock
from shotbus.broker.lru import Lru
from shotbus.workers.adapters.base import BackendState, content_address
from shotbus.workers.adapters.remote_http import Api
from shotbus.workers.adapters.remote_settings import RemoteSettings
from shotbus.workers.providers.base import DownError, ImplausibleError, NoAnswerError, NotSentError
from shotbus.workers.providers.device import Shape, both_ways, summary

_LONGEST_VERSION = 64
_KEPT = 8
_MOST_QUBITS = 100_000


class RemoteCalibration:
    """What a snapshot says. Raises ImplausibleError for one that is not to be understood.

    Args:
        name: of the device.
        snapshot: canonical JSON: ``properties`` of each qubit (``t1``, ``t2``, seconds) and ``gates``
            (``gate``, ``qubits``, ``duration`` in seconds, ``error``).

    """

    #: The device makes its own.
    noise_model = None

    def __init__(self, name: str, snapshot: bytes) -> None:
        self.snapshot, self.calibration_id = snapshot, content_address(snapshot)
        try:
            told = json.loads(snapshot)
            self._times = [(_number(one["t1"]), _number(one["t2"])) for one in told["properties"]]
            self._gates = [_gate(one, len(self._times)) for one in told["gates"]]
            self.calibrated_ms = int(told["calibrated_ms"])
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
            raise ImplausibleError(f"snapshot of {type(error).__name__}") from None
        pairs = [(places[0], places[1]) for _, places, _, _ in self._gates if len(places) == 2]
        self.model = Shape(name, len(self._times), both_ways(pairs))

    @cached_property
    def target(self) -> Any:
        """Qiskit's Target; gates that Qiskit has no name for are left out."""
        from qiskit.circuit.library import get_standard_gate_name_mapping
        from qiskit.transpiler import InstructionProperties, QubitProperties, Target

        known = get_standard_gate_name_mapping()
        properties = [QubitProperties(t1=t1, t2=t2) for t1, t2 in self._times]
        target = Target(num_qubits=len(properties), qubit_properties=properties)
        places: dict[str, dict[tuple[int, ...], Any]] = {}
        for name, where, duration, error in self._gates:
            places.setdefault(name, {})[where] = InstructionProperties(duration=duration, error=error)
        for name in sorted(places):
            if name in known:
                target.add_instruction(known[name], places[name])
        return target

    def state(self) -> BackendState:
        """Return what this calibration says of the device."""
        errors = [error for _, where, _, error in self._gates if len(where) == 2]
        t1, t2 = zip(*self._times, strict=True) if self._times else ((), ())
        return summary(self.calibration_id, self.calibrated_ms, errors=errors, t1=t1, t2=t2)


class RemoteDevice:
    """One device of a provider; what it says of itself is remembered for a while."""

    def __init__(self, api: Api, settings: RemoteSettings, clock: Clock) -> None:
        self._api, self._settings, self._clock = api, settings, clock
        self._told: Mapping[str, Any] = {}
        self._asked = -math.inf
        self._kept: Lru[str, RemoteCalibration] = Lru(_KEPT)

    @property
    def version(self) -> str:
        """The device's version as it was told last, empty where it tells none."""
        told = self._told.get("version", "")
        return told[:_LONGEST_VERSION] if isinstance(told, str) else ""

    def current(self) -> RemoteCalibration:
        """Return the calibration that holds now. Raises DownError."""
        told = self._ask()
        if told.get("status") != "online":
            raise DownError(f"off line: {told.get('reason', '')}")
        calibration = told.get("calibration")
        name = calibration.get("id") if isinstance(calibration, dict) else None
        if not isinstance(name, str):
            raise DownError("it tells no calibration")
        return self._kept.get(name) or self._fetch(name)

    def state(self) -> BackendState:
        """Return how the device is. Raises DownError."""
        state = self.current().state()
        queue = self._told.get("queue")
        seconds = queue.get("seconds") if isinstance(queue, dict) else None
        waits = float(seconds) if isinstance(seconds, int | float) else -1.0
        return replace(state, provider_queue_seconds=waits)

    def find(self, calibration_id: str) -> RemoteCalibration | None:
        """Return a calibration: one of the last, or as its provider has it; None where it cannot be had."""
        try:
            return self._kept.get(calibration_id) or self._fetch(calibration_id)
        except DownError:
            return None

    def _ask(self) -> Mapping[str, Any]:
        now = self._clock.monotonic()
        if now - self._asked < self._settings.device_seconds:
            return self._told
        try:
            answer = self._api.device()
        except (NotSentError, NoAnswerError) as error:
            raise DownError(str(error)) from None
        if answer.status in (401, 403):
            raise DownError("its provider does not take the credentials")
        if answer.status != 200 or answer.document is None:
            raise DownError(f"its provider answers HTTP {answer.status}")
        if (name := answer.document.get("name")) != self._settings.device:
            raise DownError(f"asked for {self._settings.device}, but the provider has {str(name)[:64]}")
        self._told, self._asked = answer.document, now
        return self._told

    def _fetch(self, name: str) -> RemoteCalibration:
        try:
            answer = self._api.calibration(name)
            if answer.status != 200 or content_address(answer.raw) != name:
                raise DownError("its calibration is not what it is called by")
            made = RemoteCalibration(self._settings.device, answer.raw)
        except (NotSentError, NoAnswerError, ImplausibleError) as error:
            raise DownError(str(error)) from None
        return self._kept.put(name, made)


def _gate(told: Mapping[str, Any], qubits: int) -> tuple[str, tuple[int, ...], float | None, float | None]:
    places = tuple(int(one) for one in told["qubits"])
    if not places or not all(0 <= one < qubits for one in places) or qubits > _MOST_QUBITS:
        raise ValueError("places")
    return str(told["gate"]), places, _number(told["duration"]), _number(told["error"])


def _number(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    if not 0 <= number < math.inf:
        raise ValueError("number")
    return number
