"""A backend of one's own: Qiskit's reference sampler behind shotbus. Computes, no I/O.

Everything an adapter has to do is here: say what it can, run a batch, say how it was run. What it leaves out
(compiling ahead, health, look-ups, cancelling) are further methods that it may have.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from shotbus.broker.stages import Timings
from shotbus.schemas.errors import ShotbusError, fail
from shotbus.schemas.pub import pack_counts, unpack_bindings
from shotbus.workers.adapters.base import (
    AdapterCapabilities,
    Batch,
    BatchItem,
    ItemResult,
    check_payload,
    failed,
    internal,
)
from shotbus.workers.adapters.entries import read_entries
from shotbus.workers.adapters.options import OptionReader


class ReferenceAdapter:
    """Runs sampling jobs of up to ``max_qubits`` qubits."""

    def __init__(self, max_qubits: int) -> None:
        self._max_qubits = max_qubits

    @property
    def capabilities(self) -> AdapterCapabilities:
        """Asked often, also on hosts without Qiskit: nothing is imported for it."""
        return AdapterCapabilities(
            pool="reference",
            kind="simulator",
            modes=("sample",),
            max_qubits=self._max_qubits,
            inline=False,  # it takes longer than microseconds, so it runs in a child process
            paid=False,
            executed_on="qiskit.primitives.StatevectorSampler",
        )

    def run(self, batch: Batch) -> list[ItemResult]:
        """Return one result an item, in order; one job's failure leaves its neighbours alone."""
        return [self._answer(batch, item) for item in batch.items]

    def provenance(self, batch: Batch) -> dict[str, Any]:
        """Say what somebody needs to run it again."""
        del batch
        versions = {name: version(name) for name in ("qiskit", "numpy")}
        return {"backend": self.capabilities.executed_on, "versions": versions}

    def _answer(self, batch: Batch, item: BatchItem) -> ItemResult:
        timings = Timings()
        try:
            begun = time.perf_counter()
            payload, shots = self._sample(batch, item)
            timings.add("execute", time.perf_counter() - begun, bytes_out=len(payload))
            return ItemResult(payload=check_payload(payload), shots=shots, timings=timings)
        except ShotbusError as error:
            return failed(error, timings)
        except Exception as error:  # noqa: BLE001 (a defect fails this job, not the batch)
            return internal(error)

    def _sample(self, batch: Batch, item: BatchItem) -> tuple[bytes, int]:
        from qiskit import qasm3
        from qiskit.primitives import StatevectorSampler

        request = item.request
        record = batch.circuits.get(request["circuit_id"])
        if record is None:
            raise fail("SB-1219", "$.circuit_id", actual=request["circuit_id"])
        circuit = qasm3.loads(record["text"])
        if circuit.num_qubits > self._max_qubits:
            raise fail("SB-1116", "$.circuit", limit=f"{self._max_qubits} qubits", actual=circuit.num_qubits)
        bindings = unpack_bindings(request["bindings"], points=request["points"])
        tables = []
        for number, row in enumerate(bindings.matrix):
            bound = circuit.assign_parameters(dict(zip(bindings.names, row, strict=True)))
            # A row's randomness follows from the job's seed and its place, however a sweep is cut.
            sampler = StatevectorSampler(seed=(item.seed + 2113 * number) % 2**64)
            result = sampler.run([bound], shots=request["shots"]).result()[0]
            tables.append({hex(outcome): n for outcome, n in Counter(_outcomes(circuit, result)).items()})
        registers = [(register.name, register.size) for register in circuit.cregs]
        entries = read_entries(tables, circuit.num_clbits)
        return pack_counts(entries.with_registers(registers)), request["shots"] * len(bindings.matrix)


def _outcomes(circuit: Any, result: Any) -> list[int]:
    """Return each shot's outcome as a number whose bit i is classical bit i."""
    words = [0] * result.data[circuit.cregs[0].name].num_shots
    place = 0
    for register in circuit.cregs:
        strings = result.data[register.name].get_bitstrings()
        words = [word | int(string, 2) << place for word, string in zip(words, strings, strict=True)]
        place += register.size
    return words


def create(options: Mapping[str, str]) -> ReferenceAdapter:
    """Return the adapter, made of ``[pools.NAME.options]``; what is wrong with them is told all at once."""
    reader = OptionReader(options)
    most = reader.whole("max_qubits", 12, 1, 24)
    reader.close()
    return ReferenceAdapter(most)
