"""What transpiling made of a circuit, as provenance tells it. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Any


def counted(circuit: Any) -> dict[str, Any]:
    """Return depth and gates of a transpiled circuit; barriers and their like are none."""
    # The SDK counts names alone, and has no public word for what is only an instruction to itself.
    operations = [item for item in circuit.data if not item.operation._directive]  # noqa: SLF001
    gates = Counter(item.operation.name for item in operations)
    return {
        "depth": int(circuit.depth()),
        "operations": len(operations),
        "two_qubit_gates": sum(len(item.qubits) == 2 for item in operations),
        "gates": dict(sorted(gates.items())),
    }


def layouts_of(circuit: Any, qubits: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return where each qubit of the text ends up, and where it begins, on the target's qubits."""
    layout = circuit.layout
    if layout is None:
        return tuple(range(qubits)), tuple(range(qubits))
    return tuple(layout.final_index_layout()), tuple(layout.initial_index_layout(True))


def registers_of(circuit: Any) -> tuple[tuple[str, int], ...]:
    """Name registers as Qiskit does; a bit declared alone has lost its name and is called after its place."""
    registers: dict[str, int] = {}
    for number, bit in enumerate(circuit.clbits):
        homes = circuit.find_bit(bit).registers
        name, width = (homes[0][0].name, homes[0][0].size) if homes else (f"bit{number}", 1)
        registers[name] = width
    return tuple(registers.items())
