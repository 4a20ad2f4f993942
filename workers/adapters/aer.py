"""The Aer adapter: as few calls as there can be, one a group where seeds allow it. Computes, no I/O.

Jobs of one group share a call exactly when their seeds continue one another (shards of one sweep, cut by
rows) or do not matter (exact values): Aer derives a row's seed from its place in the call, so merging
any other two jobs would change what they measure. Those get a call each, with the compile step shared.
A pool's options may have it imitate a device or compute on a GPU: see ``aer_sensing``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from shotbus.broker.clock import SystemClock
from shotbus.broker.stages import Timings
from shotbus.schemas.errors import fail
from shotbus.schemas.pub import Estimates, pack_counts, pack_estimates
from shotbus.workers.adapters.aer_compile import METHODS, Compiler
from shotbus.workers.adapters.aer_device import AerSettings, read_settings
from shotbus.workers.adapters.aer_estimate import Estimator
from shotbus.workers.adapters.aer_jobs import GroupKey, Part, calls_of, merged, share_out, spans
from shotbus.workers.adapters.aer_run import SEED_STRIDE, Rows, rows_a_call
from shotbus.workers.adapters.aer_sample import sample
from shotbus.workers.adapters.base import AdapterCapabilities, Batch, ItemResult
from shotbus.workers.adapters.grouped import GroupedAdapter, Program

_CAPABILITIES = AdapterCapabilities(
    pool="aer",
    kind="simulator",
    modes=("sample", "estimate"),
    max_qubits=METHODS["automatic"],
    inline=False,
    paid=False,
    executed_on="aer_simulator",
)


class AerAdapter(GroupedAdapter):
    """Runs batches on Aer, in this process.

    Args:
        device: CPU, or a GPU that is there.
        max_shots: the most that a call may take of a row; 0 is no limit.

    """

    def __init__(self, device: str = "CPU", max_shots: int = 0) -> None:
        super().__init__(Compiler(device))
        self._device, self._max_shots = device, max_shots

    @property
    def capabilities(self) -> AdapterCapabilities:
        return _CAPABILITIES

    def provenance(self, batch: Batch) -> dict[str, Any]:
        del batch
        packages = ("qiskit", "qiskit-aer", "numpy")
        return {
            "backend": self.capabilities.executed_on,
            "backend_version": version("qiskit-aer"),
            "device": self._device,
            "versions": {name: version(name) for name in packages},
            "seeds": f"row i of basis b, call c: seed + offset(b) + offset(c) + {SEED_STRIDE} i modulo 2**64",
            "circuits": self._ran,
        }

    def _adapted(self, key: GroupKey) -> GroupKey:
        if 0 < self._max_shots < key.increments[0]:
            limit, hint = f"{self._max_shots} shots a call", "shots_per_call takes them in increments"
            raise fail("SB-1110", "$.shots", limit=limit, actual=key.increments[0], hint=hint)
        return super()._adapted(key)

    def _calls(self, program: Program, key: GroupKey, parts: list[Part]) -> list[list[Part]]:
        rows = rows_a_call(key.shots, program.outcome_bits)
        return calls_of(parts, rows=rows, seeded=not program.exact)

    def _run_parts(self, program: Program, key: GroupKey, call: list[Part]) -> dict[int, ItemResult]:
        timings = Timings()
        bindings = merged(call)
        backend = self._compiler.backend(key.options.method)
        rows = Rows(program.body.circuit, bindings.names, bindings.matrix, key.increments, call[0].seed)
        if program.observables is None:
            sampled = sample(backend, rows, program.parsed.facts.clbits, len(call), timings)
            registers = program.body.registers
            payloads = [pack_counts(sampled.rows(*span).with_registers(registers)) for span in spans(call)]
            return share_out(call, payloads, key.shots, timings)
        estimator = Estimator(backend, program.body, program.observables, timings)
        estimates, bases = estimator.exact(rows) if program.exact else estimator.sampled(rows)
        meta = {"bases": bases}
        payloads = [
            pack_estimates(Estimates(estimates.evs[a:b], estimates.stds[a:b]), meta) for a, b in spans(call)
        ]
        return share_out(call, payloads, key.shots * bases, timings)


def create(options: Mapping[str, str]) -> AerAdapter:
    """Return the adapter; Qiskit is imported at its first run, or when its backend is first sensed.

    Raises ShotbusError (SB-2001, SB-2002) for options it does not know or cannot use.
    """
    settings = read_settings(options)
    if settings == AerSettings():
        return AerAdapter()
    from shotbus.workers.adapters.aer_sensing import SensingAerAdapter

    return SensingAerAdapter(settings, SystemClock())
