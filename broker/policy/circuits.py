"""What rules and families ask about a circuit beyond its plain numbers: couplings, ratios, gates. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shotbus.schemas.openqasm import CircuitFacts

Edges = Sequence[tuple[int, int]]
#: What a circuit may have besides gates; never part of a gate set.
NO_GATES = ("measure", "reset", "delay", "barrier")
#: Each kind of couplings with those that it contains.
WITHIN: Mapping[str, tuple[str, ...]] = {
    "none": ("none",),
    "line": ("none", "line"),
    "ring": ("none", "line", "ring"),
    "tree": ("none", "line", "tree"),
}


def numbers(facts: CircuitFacts) -> dict[str, float | None]:
    """Return the numbers that ranges are about, by their names in the configuration."""
    return {
        "qubits": facts.qubits,
        "depth": facts.depth_bound,
        "operations": facts.operations,
        "two_qubit_gates": facts.two_qubit_gates,
        "two_qubit_ratio": facts.two_qubit_gates / facts.operations if facts.operations else 0.0,
        "parameters": len(facts.parameters),
        "degree": degree(facts),
    }


def degree(facts: CircuitFacts) -> int | None:
    """Return the most partners that one qubit has; None when not all couplings are known."""
    if facts.edges_cut:
        return None
    partners: dict[int, int] = {}
    for pair in facts.edges:
        for qubit in pair:
            partners[qubit] = partners.get(qubit, 0) + 1
    return max(partners.values(), default=0)


def connectivity(facts: CircuitFacts) -> str:
    """Return the narrowest of none, line, ring and tree that holds all couplings, else ``any``."""
    most = degree(facts)
    if most is None:
        return "any"
    if most == 0:
        return "none"
    forest = _is_forest(facts.edges)
    if most <= 2:
        return "line" if forest else "ring"
    return "tree" if forest else "any"


def foreign_gates(facts: CircuitFacts, allowed: Sequence[str]) -> list[str]:
    """Return the gates that are not ``allowed``; ``…`` when some gates are not even known."""
    found = [name for name, _ in facts.gates if name not in allowed and name not in NO_GATES]
    return [*found, "…"] if facts.gates_cut else found


def missing_edges(facts: CircuitFacts, edges: Sequence[str]) -> int:
    """Return how many couplings of the circuit a device with these edges (``"0-1"``) lacks."""
    if not edges:
        return 0
    there = {tuple(sorted(map(int, edge.split("-")))) for edge in edges}
    return sum(pair not in there for pair in facts.edges) + facts.edges_cut


def _is_forest(edges: Edges) -> bool:
    above: dict[int, int] = {}

    def root(qubit: int) -> int:
        while (parent := above.setdefault(qubit, qubit)) != qubit:
            above[qubit] = above[parent]
            qubit = parent
        return qubit

    for first, second in edges:
        one, other = root(first), root(second)
        if one == other:
            return False
        above[one] = other
    return True
