"""A device of Braket's as it tells of itself: health, calibration, Qiskit's target. Asks the API.

Circuits are compiled for its couplings and for gates that Braket compiles further to the device's own: the
error of a gate is that of the best that its pair has.
"""

from __future__ import annotations

import json
from dataclasses import replace

from shotbus.broker.clock import Clock
from shotbus.broker.lru import Lru
from shotbus.workers.adapters.braket_api import AskedInVainError, BraketApi
from shotbus.workers.adapters.braket_facts import Facts, read_facts
from shotbus.workers.adapters.braket_settings import BraketSettings
from shotbus.workers.providers.base import DownError
from shotbus.workers.providers.lately import Lately, Told
from shotbus.workers.providers.target import TargetCalibration

#: Gates on two qubits that a device with couplings is compiled for: the first that it has.
_COUPLERS = ("cz", "cx")
_SINGLES = ("rz", "sx", "x")
_KEPT = 8


class BraketDevice(Lately):
    """One device; what it says of itself is remembered for a while."""

    def __init__(self, api: BraketApi, settings: BraketSettings, clock: Clock) -> None:
        super().__init__(self._tell, settings.device_seconds, clock)
        self._api, self._settings = api, settings
        self._facts: Lru[str, Facts] = Lru(_KEPT)

    def facts(self, calibration_id: str) -> Facts:
        """Return what it could do at one of its last calibrations: labels may have changed since.

        Raises DownError for one that is too long ago.
        """
        found = self._facts.get(calibration_id)
        if found is None:
            raise DownError("it was calibrated anew too often since the circuit was compiled")
        return found

    def _tell(self) -> Told:
        self._api.check()
        try:
            told = self._api.device()
        except AskedInVainError as error:
            raise DownError(f"no answer about the device: {error.refusal.problem.detail}") from None
        try:
            facts = read_facts(json.loads(told["deviceCapabilities"]))
            calibration = calibrated(self._settings.device, facts)
            self._facts.put(calibration.calibration_id, facts)
        except DownError:
            raise
        except Exception as error:  # noqa: BLE001 (a stranger's word, of any form)
            raise DownError(f"its capabilities cannot be read: {type(error).__name__}") from None
        status = str(told.get("deviceStatus", ""))
        return calibration, replace(
            calibration.state(), unhealthy="" if status == "ONLINE" else f"off line: {status[:40]}"
        )


def calibrated(name: str, facts: Facts) -> TargetCalibration:
    """Return what circuits are compiled for, and what is known of its quality."""
    from qiskit.circuit import Measure
    from qiskit.circuit.library import get_standard_gate_name_mapping
    from qiskit.transpiler import InstructionProperties, QubitProperties, Target

    known = get_standard_gate_name_mapping()
    times = [QubitProperties(t1=t1, t2=t2) for t1, t2 in facts.times]
    target = Target(num_qubits=len(facts.labels), qubit_properties=times)
    if facts.pairs is None:
        for gate in sorted(facts.gates):
            target.add_instruction(known[gate], None, name=gate)
        target.add_instruction(Measure(), None, name="measure")
    else:
        places = [(place,) for place in range(len(facts.labels))]
        coupler = next((gate for gate in _COUPLERS if gate in facts.gates), "")
        if not coupler and facts.pairs:
            raise DownError("it has neither cz nor cnot")
        for gate in (one for one in _SINGLES if one in facts.gates):
            # Turns about Z are free of errors on every device that has them: a change of frame.
            errors = {} if gate == "rz" else facts.errors
            target.add_instruction(
                known[gate], {one: InstructionProperties(error=errors.get(one)) for one in places}, name=gate
            )
        if facts.pairs:
            pairs = {pair: InstructionProperties(error=facts.errors.get(pair)) for pair in facts.pairs}
            target.add_instruction(known[coupler], pairs, name=coupler)
        reads = {one: InstructionProperties(error=facts.readouts.get(one[0])) for one in places}
        target.add_instruction(Measure(), reads, name="measure")
    more = {"labels": list(facts.labels), "program_set": facts.limits.executables > 0}
    return TargetCalibration(name, target, facts.calibrated_ms, more)
