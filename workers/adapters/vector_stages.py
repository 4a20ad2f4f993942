"""Gates put into stages for our own simulation: what is applied together, and what only moves. Pure.

A stage is blocks side by side, then gates that move amplitudes or turn their phases one by one. A gate goes
into the earliest stage that it can join: whatever comes in between acts on other qubits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from shotbus.workers.adapters.gate_compile import FlatCircuit, Gate
from shotbus.workers.adapters.vector_matrices import Fixed, Node, Turn, kron, product, turn

#: Qubits that one matrix may span when blocks are applied: for 16 x 16 BLAS pays, and building it is cheap.
SPAN = 4


def staged(circuit: FlatCircuit) -> list[Stage]:
    """Return a circuit's stages, at least one."""
    # Blocks grow while building them costs less than applying them: 8^k against 2^(n + k), with room.
    most = min(SPAN, max(1, (circuit.qubits - 2) // 2))
    stages = [Stage(most)]
    levels = [0] * circuit.qubits
    for gate in circuit.gates:
        for node in _nodes(gate):
            level = max(levels[qubit] for qubit in gate.qubits)
            while not stages[level].take(gate.qubits, node):
                level += 1
                stages += [Stage(most)] if level == len(stages) else []
            for qubit in gate.qubits:
                levels[qubit] = level
    return stages


def _nodes(gate: Gate) -> list[Fixed | Turn]:
    """Return a gate's matrices, the first to be applied first."""
    if gate.matrix is not None:
        return [Fixed(gate.matrix)]
    if gate.name == "u":
        theta, phi, lam = gate.angles
        return [turn("p", lam), turn("ry", theta), turn("p", phi)]
    return [turn(gate.name, gate.angles[0])]


@dataclass(eq=False)
class Block:
    """Qubits and what happens to them together; bit k of the matrix is the k-th of them."""

    qubits: tuple[int, ...]
    node: Node | None = None

    def join(self, qubits: tuple[int, ...], node: Fixed | Turn) -> None:
        """Apply a matrix on some of its qubits after what there is."""
        if qubits != self.qubits:
            node = node.widened([self.qubits.index(qubit) for qubit in qubits], len(self.qubits))
        self.node = product(node, self.node)

    def beside(self, lower: Block) -> Block:
        """Return both as one."""
        return Block((*lower.qubits, *self.qubits), kron(self.full, lower.full))

    @property
    def full(self) -> Node:
        """The matrix, which is that of doing nothing if nothing has happened."""
        return self.node or Fixed(np.eye(1 << len(self.qubits), dtype=complex))


@dataclass
class Stage:
    """Blocks of at most ``most`` qubits, unless a single gate has more; then the gates behind them."""

    most: int
    blocks: list[Block] = field(default_factory=list)
    tail: list[tuple[tuple[int, ...], Fixed | Turn]] = field(default_factory=list)
    _behind: set[int] = field(default_factory=set)

    def take(self, qubits: tuple[int, ...], node: Fixed | Turn) -> bool:
        """Add a gate behind all that is here, if there is a way; an empty stage has one for every gate."""
        free = not self._behind & set(qubits)
        home = self._home(qubits) if free else None
        if home is None and node.moves is not None:
            self.tail.append((qubits, node))
            self._behind.update(qubits)
            return True
        home = home or (self._opened(qubits) if free else None)
        if home is not None:
            home.join(qubits, node)
        return home is not None

    def _home(self, qubits: tuple[int, ...]) -> Block | None:
        """Return the block that has all of these qubits; a single one always has one."""
        homes = (block for block in self.blocks if set(qubits) <= set(block.qubits))
        return next(homes, None) or (self._opened(qubits) if len(qubits) == 1 else None)

    def _opened(self, qubits: tuple[int, ...]) -> Block | None:
        """Make a block with these qubits out of those that have some of them, None if that is too many."""
        touched = [block for block in self.blocks if set(qubits) & set(block.qubits)]
        new = [Block((qubit,)) for qubit in qubits if not any(qubit in block.qubits for block in touched)]
        if touched and sum(len(block.qubits) for block in (*touched, *new)) > max(self.most, len(qubits)):
            return None
        merged = reduce(lambda lower, block: block.beside(lower), [*touched, *new])
        self.blocks = [*(block for block in self.blocks if block not in touched), merged]
        return merged
