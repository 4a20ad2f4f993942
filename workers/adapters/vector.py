"""The vector pool: small circuits, all points of a batch simulated at once, in numpy. Computes, no I/O.

See ``vector_plan`` for how; a circuit without gates that vary is simulated once for all its points.
"""

from __future__ import annotations

from collections.abc import Mapping

from shotbus.workers.adapters.base import AdapterCapabilities
from shotbus.workers.adapters.gate_compile import FlatCircuit
from shotbus.workers.adapters.options import take_none
from shotbus.workers.adapters.states import Prepared, StateAdapter
from shotbus.workers.adapters.vector_plan import plan_of

#: Beyond it a state is larger than a core's cache, and Aer is as fast.
MAX_QUBITS = 14
#: A chunk and what is computed from it should stay in a core's own cache.
_CHUNK_BYTES = 1 << 19

_CAPABILITIES = AdapterCapabilities(
    pool="vector",
    kind="simulator",
    modes=("sample", "estimate"),
    max_qubits=MAX_QUBITS,
    inline=False,
    paid=False,
    executed_on="shotbus_vector",
)


class VectorAdapter(StateAdapter):
    """Runs batches by plans of our own."""

    def __init__(self) -> None:
        super().__init__(_CAPABILITIES, ("shotbus",), _CHUNK_BYTES)

    def _prepare(self, circuit: FlatCircuit) -> Prepared:
        plan = plan_of(circuit)
        return Prepared(plan.run, plan.meaning)


def create(options: Mapping[str, str]) -> VectorAdapter:
    """Return the adapter, which has no options; Qiskit is imported when it meets its first circuit."""
    take_none(options)
    return VectorAdapter()
