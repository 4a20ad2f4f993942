"""Modelled devices for Aer: a coupling map, and calibrations that drift. Imports Qiskit when first used.

A calibration holds for ``drift_seconds``, an *epoch*; the next epoch has other coherence times and gate
errors, drawn by Qiskit's ``GenericBackendV2`` from a seed that follows from the model's seed and the epoch's
number. So a device is the same everywhere and after every restart, and its snapshots have the same addresses.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from shotbus.broker.clock import Clock
from shotbus.broker.lru import Lru
from shotbus.workers.adapters.base import BackendState, content_address
from shotbus.workers.adapters.options import OptionReader

COUPLINGS = ("line", "ring", "grid", "full")
MAX_QUBITS = 63
_DEFAULT_QUBITS = 5
_LONGEST_DRIFT = 1e9
_MOST_SHOTS = 2**31 - 1
_OF_MODELS = ("qubits", "coupling", "seed", "drift_seconds")
# A new calibration may begin while a run of the one before is being described.
_KEPT = 4
_MICRO = 1e6


@dataclass(frozen=True, slots=True)
class DeviceModel:
    """A device that does not exist: how many qubits, which of them are coupled, how it drifts.

    ``seed`` makes one device of many. A calibration is good for ``drift_seconds``; 0 is for ever, and then
    nothing is known of its age.
    """

    name: str = "generic"
    qubits: int = _DEFAULT_QUBITS
    coupling: str = "line"
    seed: int = 0
    drift_seconds: float = 0.0

    @property
    def backend_name(self) -> str:
        """What Qiskit calls it."""
        return f"{self.name}_backend_{self.qubits}q"

    def epoch(self, now_ms: int) -> int:
        """Return the number of the epoch that a time, wall milliseconds, falls into."""
        return math.floor(now_ms / (self.drift_seconds * 1000)) if self.drift_seconds else 0

    def begin_ms(self, epoch: int) -> int:
        """Return when an epoch began, wall milliseconds; 0 where it has always been."""
        return math.ceil(epoch * self.drift_seconds * 1000)

    def edges(self) -> list[tuple[int, int]]:
        """Return the coupled pairs, both ways round."""
        pairs = _PAIRS[self.coupling](self.qubits)
        return sorted({edge for a, b in pairs for edge in ((a, b), (b, a))})


@dataclass(frozen=True, slots=True)
class AerSettings:
    """What a pool's options make of the adapter: where Aer computes, and which device it is to imitate.

    ``max_shots``: a call with more of them for one row is refused, as devices do; 0 is no limit.
    """

    device: str = "CPU"
    model: DeviceModel | None = None
    max_shots: int = 0


def read_settings(options: Mapping[str, str]) -> AerSettings:
    """Read a pool's options. Raises ShotbusError (SB-2001, SB-2002) with everything that is wrong."""
    reader = OptionReader(options)
    device = reader.word("device", "CPU", ("CPU", "GPU"))
    model = _read_model(reader)
    max_shots = reader.whole("max_shots", 0, 0, _MOST_SHOTS)
    reader.close()
    return AerSettings(device, model, max_shots)


def _read_model(reader: OptionReader) -> DeviceModel | None:
    name = reader.word("device_model", "", ("", "generic"))
    model = DeviceModel(
        name,
        reader.whole("qubits", _DEFAULT_QUBITS, 2, MAX_QUBITS),
        reader.word("coupling", "line", COUPLINGS),
        reader.whole("seed", 0, 0, 2**63 - 1),
        reader.number("drift_seconds", 0.0, 0.0, _LONGEST_DRIFT),
    )
    if name:
        return model
    for option in _OF_MODELS:
        if reader.given(option):
            reader.refuse(option, "with a device_model", "no device_model")
    return None


def _line(qubits: int) -> Iterator[tuple[int, int]]:
    return ((k, k + 1) for k in range(qubits - 1))


def _ring(qubits: int) -> Iterator[tuple[int, int]]:
    return ((k, (k + 1) % qubits) for k in range(qubits))


def _grid(qubits: int) -> Iterator[tuple[int, int]]:
    """Yield the pairs of the squarest grid, row by row; its last row may be short."""
    columns = math.ceil(math.sqrt(qubits))
    for k in range(qubits):
        if (k + 1) % columns and k + 1 < qubits:
            yield k, k + 1
        if k + columns < qubits:
            yield k, k + columns


def _full(qubits: int) -> Iterator[tuple[int, int]]:
    return ((a, b) for a in range(qubits) for b in range(a + 1, qubits))


_PAIRS = {"line": _line, "ring": _ring, "grid": _grid, "full": _full}


class Shape(Protocol):
    """What compiling has to know of a device."""

    @property
    def qubits(self) -> int: ...

    @property
    def backend_name(self) -> str: ...

    def edges(self) -> list[tuple[int, int]]:
        """Return the coupled pairs, both ways round."""
        ...


class Calibrated(Protocol):
    """A device as it was measured once, of whatever make."""

    @property
    def model(self) -> Shape: ...

    @property
    def calibration_id(self) -> str: ...

    @property
    def calibrated_ms(self) -> int:
        """Wall time, 0 is unknown."""
        ...

    @property
    def target(self) -> Any:
        """Qiskit's Target: gates, couplings, errors."""
        ...

    @property
    def noise_model(self) -> Any:
        """Aer's noise, for whoever imitates the device."""
        ...


class Calibration:
    """A device as it was measured at the begin of an epoch.

    ``snapshot`` is the measurement as canonical JSON: T1, T2 (seconds) and frequency (hertz) of each qubit,
    duration (seconds) and error of each gate on each qubit or pair. ``calibration_id`` is its address.
    """

    def __init__(self, model: DeviceModel, epoch: int) -> None:
        self.model = model
        self.calibrated_ms = model.begin_ms(epoch)
        self._backend = _backend(model, epoch)
        self.snapshot = json.dumps(
            {"model": asdict(model), "calibrated_ms": self.calibrated_ms, **_measured(self.target)},
            separators=(",", ":"),
            sort_keys=True,
        ).encode()
        self.calibration_id = content_address(self.snapshot)

    @property
    def target(self) -> Any:
        """Qiskit's Target: gates, couplings, errors."""
        return self._backend.target

    @cached_property
    def noise_model(self) -> Any:
        """Aer's noise: depolarising and thermal relaxation for each gate, and wrong readouts."""
        from qiskit_aer.noise import NoiseModel

        return NoiseModel.from_backend(self._backend)

    def state(self) -> BackendState:
        """Return what a backend with this calibration says of itself."""
        qubits = self.target.qubit_properties
        errors = [gate.error for gate in self.target["cx"].values()]
        return BackendState(
            calibration_id=self.calibration_id,
            calibrated_ms=self.calibrated_ms,
            provider_queue_seconds=0.0,
            fidelity=1.0 - _mean(errors),
            t1_us=_mean([qubit.t1 for qubit in qubits]) * _MICRO,
            t2_us=_mean([qubit.t2 for qubit in qubits]) * _MICRO,
        )


class ModelledDevice:
    """A device and its calibration at each moment of a clock."""

    def __init__(self, model: DeviceModel, clock: Clock) -> None:
        self.model = model
        self._clock = clock
        self._kept: Lru[int, Calibration] = Lru(_KEPT)
        self._by_id: Lru[str, Calibration] = Lru(_KEPT)

    def current(self) -> Calibration:
        """Return the calibration that holds now."""
        epoch = self.model.epoch(self._clock.wall_ms())
        if (known := self._kept.get(epoch)) is not None:
            return known
        made = self._kept.put(epoch, Calibration(self.model, epoch))
        return self._by_id.put(made.calibration_id, made)

    def find(self, calibration_id: str) -> Calibration | None:
        """Return one of the last calibrations."""
        return self._by_id.get(calibration_id)


def _backend(model: DeviceModel, epoch: int) -> Any:
    from qiskit.providers.fake_provider import GenericBackendV2

    drawn = np.random.SeedSequence((model.seed, epoch)).generate_state(1, np.uint64)
    return GenericBackendV2(
        model.qubits,
        coupling_map=[list(edge) for edge in model.edges()],
        control_flow=True,
        seed=int(drawn[0]),
    )


def _measured(target: Any) -> dict[str, Any]:
    """Return what a calibration measures, in an order that follows from the device alone."""
    qubits = [{"t1": one.t1, "t2": one.t2, "frequency": one.frequency} for one in target.qubit_properties]
    gates = [
        {"gate": name, "qubits": list(places), "duration": gate.duration, "error": gate.error}
        for name in sorted(target.operation_names)
        for places, gate in sorted((target[name] or {}).items(), key=str)
        if places is not None and gate is not None
    ]
    return {"qubits": qubits, "gates": gates}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
