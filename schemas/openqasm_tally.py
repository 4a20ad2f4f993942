"""What a program adds up to when its definitions are expanded: gates by name, pairs of qubits. Pure.

Nothing is expanded. Definitions only call what was defined before them, so one pass from the last to the
first turns calls into counts; and a definition keeps the pairs of its own qubits that interact, so that a
call costs those and not its body. Both stay in proportion to the text, pairs by a budget besides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from shotbus.schemas.openqasm_gates import DEFINED, Gate

#: As many names are told, the most frequent ones; the standard libraries together have fewer.
MAX_GATES = 64
#: As many pairs are told: more than all of 90 qubits, or the couplings of any device of a thousand.
MAX_EDGES = 4_096
# In either order, hence twice as many, and some more before they are looked at.
_MAX_COLLECTED = 4 * MAX_EDGES
# Pairs made one by one, out of definitions and of gates on three qubits or more: a twentieth of a second.
_MAX_WORK = 250_000


class Tally:
    """Counts calls and collects pairs for one check. ``edges_cut``: some pairs may be missing."""

    def __init__(self) -> None:
        self._definitions: dict[str, Mapping[str, int]] = {}
        self._work = 0
        self.edges_cut = False

    def define(self, name: str, calls: Mapping[str, int]) -> str:
        """Keep what a definition calls; return the key of its gate."""
        key = DEFINED + name
        self._definitions.setdefault(key, calls)
        return key

    def connect(self, edges: set[tuple[int, ...]], gate: Gate, rows: Sequence[tuple[int, ...]]) -> None:
        """Add the pairs of ``gate`` on every row of qubits to ``edges``."""
        if len(edges) >= _MAX_COLLECTED:
            self.edges_cut |= not edges.issuperset(rows)
        elif gate.qubits == 2 and gate.edges is None:
            edges.update(rows)
        else:
            self._connect_places(edges, gate, rows)

    def _connect_places(
        self, edges: set[tuple[int, ...]], gate: Gate, rows: Sequence[tuple[int, ...]]
    ) -> None:
        pairs = gate.qubits * (gate.qubits - 1) // 2 if gate.edges is None else len(gate.edges)
        self._work += pairs * len(rows)
        if self._work > _MAX_WORK:
            self.edges_cut = True
            return
        for row in rows:
            places = combinations(row, 2) if gate.edges is None else ((row[a], row[b]) for a, b in gate.edges)
            edges.update(places)

    def counts(self, calls: Mapping[str, int]) -> list[tuple[str, int]]:
        """Return names and how often each is run, definitions expanded, the most frequent first."""
        totals = dict(calls)
        for key in reversed(self._definitions):
            times = totals.pop(key, 0)
            # A definition without operations is one, under its own name.
            body = self._definitions[key] or {key.removeprefix(DEFINED): 1}
            if times:
                for called, count in body.items():
                    totals[called] = totals.get(called, 0) + times * count
        return sorted(((name, n) for name, n in totals.items() if n), key=lambda one: (-one[1], one[0]))


def undirected(edges: Iterable[tuple[int, ...]]) -> list[tuple[int, int]]:
    """Return each pair once, the lower qubit first, in order."""
    return sorted({(a, b) if a < b else (b, a) for a, b in edges})
