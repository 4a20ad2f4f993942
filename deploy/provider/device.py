"""The device for sale: a coupling map, and calibrations that drift. Imports Qiskit when first used; no I/O.

It is the provider's own, not the one that workers imitate: what a broker holds against it must not come from
the broker. Calibrations follow from the device's seed, the epoch and how often it was recalibrated.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np

from shotbus.broker.clock import Clock
from shotbus.broker.lru import Lru
from shotbus.deploy.provider.settings import DeviceSettings

_KEPT = 8


class Calibration:
    """The device as it was measured once.

    ``snapshot`` is what the provider publishes, canonical JSON: T1 and T2 (seconds) of each qubit, duration
    (seconds) and error of each gate on each qubit or pair. ``id`` is its SHA-256.
    """

    def __init__(self, settings: DeviceSettings, epoch: int, times: int, calibrated_ms: int) -> None:
        self.calibrated_ms = calibrated_ms
        self._backend = _backend(settings, epoch, times)
        told = {**asdict(settings), "calibrated_ms": calibrated_ms, **_measured(self._backend.target)}
        self.snapshot = json.dumps(told, separators=(",", ":"), sort_keys=True).encode()
        self.id = hashlib.sha256(self.snapshot).hexdigest()

    @property
    def gates(self) -> dict[str, Any]:
        """The device's gates with the places they work on."""
        target = self._backend.target
        return {name: [places for places in target[name] or () if places] for name in target.operation_names}

    @cached_property
    def simulator(self) -> Any:
        """What computes the device's answers: Aer with its noise, one thread."""
        from qiskit_aer import AerSimulator
        from qiskit_aer.noise import NoiseModel

        noise = NoiseModel.from_backend(self._backend)
        return AerSimulator(noise_model=noise, max_parallel_threads=1)


class Device:
    """Which calibration holds when. ``offline`` is the reason why it takes nothing, empty while it does."""

    def __init__(self, settings: DeviceSettings, clock: Clock) -> None:
        self.settings = settings
        self.offline = ""
        self._clock = clock
        self._times, self._again_ms = 0, 0
        self._kept: Lru[tuple[int, int], Calibration] = Lru(_KEPT)

    def current(self) -> Calibration:
        """Return the calibration that holds now."""
        drift_ms = self.settings.drift_seconds * 1000
        epoch = math.floor(self._clock.wall_ms() / drift_ms) if drift_ms else 0
        key = (epoch, self._times)
        begun_ms = max(math.ceil(epoch * drift_ms), self._again_ms)
        known = self._kept.get(key)
        return known or self._kept.put(key, Calibration(self.settings, epoch, self._times, begun_ms))

    def recalibrate(self) -> None:
        """Measure anew now, out of turn."""
        self._times, self._again_ms = self._times + 1, self._clock.wall_ms()


def _backend(settings: DeviceSettings, epoch: int, times: int) -> Any:
    from qiskit.providers.fake_provider import GenericBackendV2
    from qiskit.transpiler import CouplingMap

    seed = np.random.SeedSequence((settings.seed, epoch, times)).generate_state(1, np.uint64)
    makers = {"line": CouplingMap.from_line, "ring": CouplingMap.from_ring, "full": CouplingMap.from_full}
    if settings.coupling == "grid":
        side = math.isqrt(settings.qubits)
        coupling = CouplingMap.from_grid(side, settings.qubits // side)
    else:
        coupling = makers[settings.coupling](settings.qubits)
    return GenericBackendV2(coupling.size(), coupling_map=coupling, control_flow=False, seed=int(seed[0]))


def _measured(target: Any) -> dict[str, Any]:
    gates = [
        {"gate": name, "qubits": list(places), "duration": gate.duration, "error": gate.error}
        for name in sorted(target.operation_names)
        for places, gate in sorted((target[name] or {}).items(), key=str)
        if places is not None and gate is not None
    ]
    return {"properties": [{"t1": one.t1, "t2": one.t2} for one in target.qubit_properties], "gates": gates}
