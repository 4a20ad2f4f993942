"""Plans of our own statevector simulation: what to do with all points of a batch at once. Pure numpy.

A state is points x 2^n, one array for a whole chunk. Gates that only move or turn amplitudes one by one
(CX, swap, phases) move nothing when they are met: they change what the places of the array mean, and at most
multiply by phases. The others gather in blocks of a few qubits, side by side; when one comes that cannot join
any more, all blocks are applied, by one product of small matrices from the left and one from the right.

Every product is made point by point (numpy calls BLAS once a point, with the same shapes), everything else
element by element: what comes out for a point does not depend on how many others were with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import cast

import numpy as np

from shotbus.schemas.packed import Array
from shotbus.workers.adapters.gate_angles import Columns
from shotbus.workers.adapters.gate_compile import FlatCircuit
from shotbus.workers.adapters.vector_matrices import Fixed, Node, Turn, Values
from shotbus.workers.adapters.vector_stages import SPAN, Block, Stage, staged


@dataclass(frozen=True, slots=True)
class Phases:
    """Multiply place j by entry ``kinds[j]`` of a diagonal that depends on the point."""

    turn: Turn
    kinds: Array

    def apply(self, state: Array, values: Values) -> Array:
        """Return the state behind it."""
        turned: Array = state * np.take(self.turn.phases(values), self.kinds, axis=1)
        return turned


@dataclass(frozen=True, slots=True)
class FixedPhases:
    """Multiply place j by ``factors[j]``."""

    factors: Array

    def apply(self, state: Array, values: Values) -> Array:
        """Return the state behind it."""
        del values
        return state * self.factors


@dataclass(frozen=True, slots=True)
class Begin:
    """The state in which every qubit is 0, with blocks applied; the first is that of the highest bits."""

    blocks: tuple[Node, ...]
    qubits: int

    def apply(self, state: Array, values: Values) -> Array:
        """Return the state, whatever there was."""
        state = np.ones((1, 1), dtype=complex)
        for block in self.blocks:
            column = block.value(values)[:, :, 0]
            state = (state[:, :, None] * column[:, None, :]).reshape(-1, state.shape[1] * column.shape[1])
        full = np.zeros((len(state), 1 << self.qubits), dtype=complex)
        full[:, :: full.shape[1] // state.shape[1]] = state
        return full


@dataclass(frozen=True, slots=True)
class Blocks:
    """Bring amplitudes to their places, then apply one block to the highest bits and one to the lowest."""

    places: Array
    high: Node
    low: Node | None

    def apply(self, state: Array, values: Values) -> Array:
        """Return the state behind it."""
        size = state.shape[1]
        moved = np.take(state, self.places, axis=1)
        high = self.high.value(values)
        moved = np.matmul(high, moved.reshape(len(moved), high.shape[1], -1))
        if self.low is not None:
            low = self.low.value(values).transpose(0, 2, 1)
            moved = np.matmul(moved.reshape(len(moved), -1, low.shape[1]), low)
        return cast("Array", moved.reshape(-1, size))


Step = Phases | FixedPhases | Begin | Blocks


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps from the first state to the last; place j of that is basis state ``meaning[j]``."""

    qubits: int
    steps: tuple[Step, ...]
    meaning: Array

    def run(self, columns: Columns, state: Array | None = None) -> Array:
        """Return amplitudes, points x 2^n; one point where nothing varies. Raises ShotbusError (SB-1220).

        ``state`` is the first one, in standard order, for a plan that was made for that.
        """
        values = Values(columns)
        current = np.ones((1, 1), dtype=complex) if state is None else state
        for step in self.steps:
            current = step.apply(current, values)
        return current


def in_standard_order(state: Array, meaning: Array) -> Array:
    """Return a state whose place j is basis state j."""
    if (meaning[1:] > meaning[:-1]).all():
        return state
    return np.take(state, np.argsort(meaning), axis=1)


def plan_of(circuit: FlatCircuit, *, given: bool = False) -> Plan:
    """Return the plan of a circuit, on all zeros or, if one is ``given``, on any state in standard order."""
    writer = _Writer(circuit.qubits, given=given)
    for stage in staged(circuit):
        writer.write(stage)
    return Plan(circuit.qubits, tuple(writer.steps), writer.layout)


class _Writer:
    """Writes down stage after stage; ``layout[j]`` is the basis state at place j of what there is then."""

    def __init__(self, qubits: int, *, given: bool) -> None:
        self._qubits = qubits
        self._begun = given
        self._standard: Array = np.arange(1 << qubits)
        self.layout = self._standard
        self.steps: list[Step] = []

    def write(self, stage: Stage) -> None:
        """Write down a stage's blocks, then what is behind them."""
        groups = _grouped(stage.blocks, min(SPAN, -(-self._qubits // 2)))
        if not self._begun:
            self.layout = self._ordered(groups)
            self.steps.append(Begin(tuple(group.full for group in groups), self._qubits))
            self._begun = True
        else:
            for high, low in zip_longest(groups[::2], groups[1::2]):
                self._apply(high, low)
        for qubits, node in stage.tail:
            self._move(qubits, node)

    def _apply(self, high: Block, low: Block | None) -> None:
        layout = self._ordered([high], [low] if low else [])
        places = np.argsort(self.layout)[layout]
        self.steps.append(Blocks(places, high.full, low.full if low else None))
        self.layout = layout

    def _move(self, qubits: tuple[int, ...], node: Fixed | Turn) -> None:
        """Change what places mean, and multiply by phases where there are any."""
        kinds = np.array([(self.layout >> qubit & 1) << bit for bit, qubit in enumerate(qubits)]).sum(axis=0)
        if isinstance(node, Turn):
            self.steps.append(Phases(node, kinds))
            return
        assert node.moves is not None, "others are in blocks"
        targets, factors = node.moves.targets, node.moves.factors
        if (factors != 1).any():
            self._multiply(factors[kinds])
        for bit, qubit in enumerate(qubits):
            self.layout = self.layout & ~(1 << qubit) | (targets[kinds] >> bit & 1) << qubit

    def _multiply(self, factors: Array) -> None:
        last = self.steps[-1] if self.steps else None
        if isinstance(last, FixedPhases):
            self.steps[-1] = FixedPhases(last.factors * factors)
        else:
            self.steps.append(FixedPhases(factors))

    def _ordered(self, high: Sequence[Block], low: Sequence[Block] = ()) -> Array:
        """Return the layout in which some blocks are the highest bits, the first of them highest."""
        upper = [qubit for block in high for qubit in reversed(block.qubits)]
        lower = [qubit for block in low for qubit in reversed(block.qubits)]
        others = [qubit for qubit in range(self._qubits) if qubit not in {*upper, *lower}]
        order = [*upper, *others, *lower]
        layout = np.zeros_like(self._standard)
        for place, qubit in enumerate(reversed(order)):
            layout |= (self._standard >> place & 1) << qubit
        return layout


def _grouped(blocks: Sequence[Block], span: int) -> list[Block]:
    """Put blocks side by side while they span no more than so many qubits, the largest first."""
    groups: list[list[Block]] = []
    for block in sorted(blocks, key=lambda one: (-len(one.qubits), one.qubits)):
        sizes = [sum(len(one.qubits) for one in group) for group in groups]
        fitting = (
            group for group, size in zip(groups, sizes, strict=True) if size + len(block.qubits) <= span
        )
        group = next(fitting, None)
        if group is None:
            groups.append([block])
        else:
            group.append(block)
    return [_joined(group) for group in groups]


def _joined(blocks: Sequence[Block]) -> Block:
    """Put blocks side by side by halves: products of small matrices with large ones are slow."""
    if len(blocks) == 1:
        return blocks[0]
    half = len(blocks) // 2
    return _joined(blocks[:half]).beside(_joined(blocks[half:]))
