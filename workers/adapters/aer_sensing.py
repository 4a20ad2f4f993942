"""Aer on a GPU, or as a modelled device would run it, and how that backend is. Computes, no I/O."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

from shotbus.broker.clock import Clock
from shotbus.schemas.errors import fail
from shotbus.workers.adapters.aer import AerAdapter
from shotbus.workers.adapters.aer_device import AerSettings, ModelledDevice
from shotbus.workers.adapters.base import (
    AdapterCapabilities,
    BackendState,
    Batch,
    Compiled,
    ItemResult,
    failed,
)


class SensingAerAdapter(AerAdapter):
    """Runs batches on Aer and tells how its backend is.

    Args:
        settings: where it computes, and which device it imitates.
        clock: tells which of the device's calibrations holds.

    """

    def __init__(self, settings: AerSettings, clock: Clock) -> None:
        super().__init__(settings.device, settings.max_shots)
        self._imitated = ModelledDevice(settings.model, clock) if settings.model is not None else None
        self._calibration_id = ""

    @cached_property
    def capabilities(self) -> AdapterCapabilities:
        known = super().capabilities
        if self._imitated is None:
            return known
        model = self._imitated.model
        most = min(model.qubits, known.max_qubits)
        return replace(known, max_qubits=most, executed_on=model.backend_name)

    def sense(self) -> BackendState:
        """Return the calibration that holds now, and why the asked-for processor cannot be used."""
        state = self._imitated.current().state() if self._imitated is not None else BackendState()
        return replace(state, unhealthy=self._absent)

    def calibration(self, calibration_id: str) -> bytes | None:
        """Return one of the last snapshots."""
        found = self._imitated.find(calibration_id) if self._imitated is not None else None
        return found.snapshot if found is not None else None

    def run(self, batch: Batch) -> list[ItemResult]:
        """Run the batch under the calibration that holds now, however long it takes."""
        if self._absent:
            return [failed(fail("SB-5008", "$", detail=self._absent)) for _ in batch.items]
        self._calibrate()
        return super().run(batch)

    def compile(self, batch: Batch) -> list[Compiled]:
        """Compile for the calibration that holds now; on a processor that is not there, for nothing."""
        if self._absent:
            return [Compiled(problems=fail("SB-5008", "$", detail=self._absent).problems)] * len(batch.items)
        self._calibrate()
        return super().compile(batch)

    def provenance(self, batch: Batch) -> dict[str, Any]:
        told = super().provenance(batch)
        if self._imitated is None:
            return told
        return {**told, "model": asdict(self._imitated.model), "calibration_id": self._calibration_id}

    def _calibrate(self) -> None:
        if self._imitated is not None:
            calibration = self._imitated.current()
            self._calibration_id = calibration.calibration_id
            self._compiler.imitate(calibration)

    @cached_property
    def _absent(self) -> str:
        """Why the processor cannot be used; a CPU never takes a GPU's place in silence."""
        if self._device == "CPU":
            return ""
        from qiskit_aer import AerSimulator

        there = AerSimulator().available_devices()
        if self._device in there:
            return ""
        return f"asked for a {self._device}, but this host's Aer has only {', '.join(there)}"
