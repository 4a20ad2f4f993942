"""The circuits whose facts a machine remembers. Pure."""

from __future__ import annotations

from shotbus.broker.inspection.facts import Inspected
from shotbus.broker.lru import Lru
from shotbus.schemas.openqasm import CircuitFacts

#: Together they take about so much memory, whatever their number: 16,384 circuits of 4 KB each.
BOOK_BYTES = 64 * 1_048_576
_PLAIN_BYTES = 600


class FactsBook:
    """Facts of accepted circuits by circuit id; the one used longest ago is forgotten first.

    It is a memory, not a state: it is in no ledger, and a machine that does not find a circuit here asks
    again. Refusals are not kept, since the next inspection may end otherwise when the host was the cause.
    """

    def __init__(self, limit: int = 16_384, *, budget: int = BOOK_BYTES) -> None:
        self._facts: Lru[str, CircuitFacts] = Lru(limit, budget)

    def __len__(self) -> int:
        return len(self._facts)

    def get(self, circuit_id: str) -> CircuitFacts | None:
        """Return the facts and count the use; None when they are not known here."""
        return self._facts.get(circuit_id)

    def put(self, inspected: Inspected) -> None:
        """Remember an answer; a refusal is left out."""
        if inspected.facts is not None:
            self._facts.put(inspected.circuit_id, inspected.facts, weight_of(inspected.facts))


def weight_of(facts: CircuitFacts) -> int:
    """Return about how many bytes of memory the facts of a circuit take."""
    names = sum(60 + len(name) for name in facts.parameters)
    pairs = sum(150 + len(name) for name, _ in (*facts.registers, *facts.gates))
    return _PLAIN_BYTES + names + pairs + len(facts.packed_edges)
