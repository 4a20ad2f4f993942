"""Another placement of a circuit on a device than the usual one. Pure.

A transpiler that knows a device's errors finds the same best place whatever its seed is, so a seed alone is
no remedy for a bad coupling: the first place of each qubit is drawn here, and the transpiler does the rest.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np

from shotbus.schemas.errors import fail
from shotbus.schemas.ids import digest

_WORD = re.compile(r"[A-Za-z0-9_-]{1,32}")
# Even of the two placements on two qubits one is missed so often once in 2**32.
_DRAWS = 32


def layout_word(given: str) -> str:
    """Return the option ``layout`` if it is a word. Raises ShotbusError (SB-1108)."""
    if given and not _WORD.fullmatch(given):
        raise fail(
            "SB-1108", "$.options.layout", limit="a word of at most 32 letters, digits, - and _", actual=given
        )
    return given


def seed_of(word: str) -> int:
    """Return the transpiler seed that a word stands for, 31 bits; no word is 0."""
    return int.from_bytes(digest("layout", word, size=4), "little") >> 1 if word else 0


def another_layout(
    edges: Sequence[tuple[int, int]], qubits: int, seed: int, unlike: Collection[tuple[int, ...]]
) -> list[int]:
    """Return a device's qubit for each of a circuit's, neighbours mostly side by side.

    Args:
        edges: coupled pairs of the device, both ways round; every qubit can be reached from every other.
        qubits: of the circuit, no more than the device has.
        seed: drawn from.
        unlike: placements that shall not come again, if there is any other.

    """
    generator = np.random.default_rng(seed)
    partners: dict[int, list[int]] = {}
    for one, other in edges:
        partners.setdefault(one, []).append(other)
    placed: list[int] = []
    for _ in range(_DRAWS):
        placed = _grown(partners, qubits, generator)
        if tuple(placed) not in unlike:
            break
    return placed


def _grown(partners: dict[int, list[int]], qubits: int, generator: np.random.Generator) -> list[int]:
    """Grow a connected set from a qubit that is drawn, on from the one that came last while that can be."""
    placed = [int(generator.choice(list(partners)))]
    while len(placed) < qubits:
        places = ([q for q in partners[last] if q not in placed] for last in reversed(placed))
        placed.append(int(generator.choice(next(free for free in places if free))))
    return placed
