"""A calibration as a Qiskit Target holds it: its snapshot, and what it says of the device. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from shotbus.workers.adapters.base import BackendState, content_address
from shotbus.workers.providers.device import Shape, both_ways, summary


class TargetCalibration:
    """A device as its Target describes it now.

    Args:
        name: of the device.
        target: Qiskit's.
        calibrated_ms: wall time of the last measurement, 0 is unknown.
        more: further facts for the snapshot, in JSON's types; ``version`` is the device's.

    """

    #: The device makes its own.
    noise_model = None

    def __init__(self, name: str, target: Any, calibrated_ms: int, more: Mapping[str, Any]) -> None:
        self.target, self.calibrated_ms = target, calibrated_ms
        self.version = str(more.get("version", ""))
        self._told = _measured(target)
        document = {"device": name, "calibrated_ms": calibrated_ms, **more, **self._told}
        self.snapshot = json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
        self.calibration_id = content_address(self.snapshot)
        pairs = [tuple(one["qubits"]) for one in self._told["gates"] if len(one["qubits"]) == 2]
        self.model = Shape(name, target.num_qubits, both_ways(pairs))

    @cached_property
    def _state(self) -> BackendState:
        qubits = self._told["properties"]
        return summary(
            self.calibration_id,
            self.calibrated_ms,
            errors=[one["error"] for one in self._told["gates"] if len(one["qubits"]) == 2],
            t1=[one["t1"] for one in qubits],
            t2=[one["t2"] for one in qubits],
        )

    def state(self) -> BackendState:
        """Return what this calibration says of the device."""
        return self._state


def _measured(target: Any) -> dict[str, Any]:
    """Return what was measured, in an order that follows from the device alone."""
    qubits = target.qubit_properties or [None] * target.num_qubits
    gates = [
        {"gate": name, "qubits": list(places), "duration": gate.duration, "error": gate.error}
        for name in sorted(target.operation_names)
        for places, gate in sorted((target[name] or {}).items(), key=str)
        if places is not None and gate is not None
    ]
    properties = [{"t1": getattr(one, "t1", None), "t2": getattr(one, "t2", None)} for one in qubits]
    return {"properties": properties, "gates": gates}
