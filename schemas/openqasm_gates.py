"""Gate tables of OpenQASM: what ``stdgates.inc`` and ``qelib1.inc`` define. Pure data.

``qelib1.inc`` comes in two sizes: the paper's, and the one that Qiskit ships and exports to. A parser
that knows only the first must be told of :data:`QELIB1_EXTRA` (``qasm2.LEGACY_CUSTOM_INSTRUCTIONS``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Gate(NamedTuple):
    """A gate's signature and what one call of it expands to.

    ``entangling`` counts the gates on two qubits or more; ``depth`` bounds the layers of the expansion.
    ``key`` is what its calls are counted under: the SDKs' name of a gate that is not expanded, or the name
    of a definition after :data:`DEFINED`. ``edges`` are the pairs of its qubits (by their places in a call)
    that interact inside a definition; None is each with each.
    """

    parameters: int
    qubits: int
    operations: int
    entangling: int
    depth: int
    key: str = ""
    edges: tuple[tuple[int, int], ...] | None = None


#: Begins the key of a defined gate; no name of a language has a space in it.
DEFINED = "gate "
#: What the SDKs call a gate that the languages call otherwise.
SDK_NAMES: Mapping[str, str] = {
    "U": "u",
    "CX": "cx",
    "phase": "p",
    "cphase": "cp",
    "rc3x": "rcccx",
    "c3x": "mcx",
    "c4x": "mcx",
    "c3sqrtx": "c3sx",
}


def _table(spec: str) -> dict[str, Gate]:
    """Read ``name/parameters/qubits`` triples; each of these gates is one operation."""
    table = {}
    for entry in spec.split():
        name, parameters, qubits = entry.split("/")
        key = SDK_NAMES.get(name, name)
        table[name] = Gate(int(parameters), int(qubits), 1, int(int(qubits) > 1), 1, key)
    return table


#: Known without any include, OpenQASM 3.
BUILTIN_3: Mapping[str, Gate] = _table("U/3/1")

#: Known without any include, OpenQASM 2.
BUILTIN_2: Mapping[str, Gate] = _table("U/3/1 CX/0/2")

STDGATES: Mapping[str, Gate] = _table(
    "p/1/1 x/0/1 y/0/1 z/0/1 h/0/1 s/0/1 sdg/0/1 t/0/1 tdg/0/1 sx/0/1 rx/1/1 ry/1/1 rz/1/1"
    " cx/0/2 cy/0/2 cz/0/2 cp/1/2 crx/1/2 cry/1/2 crz/1/2 ch/0/2 swap/0/2 ccx/0/3 cswap/0/3 cu/4/2"
    " CX/0/2 phase/1/1 cphase/1/2 id/0/1 u1/1/1 u2/2/1 u3/3/1"
)

#: ``qelib1.inc`` as in the paper (arXiv:1707.03429).
QELIB1: Mapping[str, Gate] = _table(
    "u3/3/1 u2/2/1 u1/1/1 cx/0/2 id/0/1 x/0/1 y/0/1 z/0/1 h/0/1 s/0/1 sdg/0/1 t/0/1 tdg/0/1"
    " rx/1/1 ry/1/1 rz/1/1 cz/0/2 cy/0/2 ch/0/2 ccx/0/3 crz/1/2 cu1/1/2 cu3/3/2"
)

#: What Qiskit's own ``qelib1.inc`` has besides, and its exporter takes for granted.
QELIB1_EXTRA: Mapping[str, Gate] = _table(
    "u0/1/1 u/3/1 p/1/1 sx/0/1 sxdg/0/1 swap/0/2 cswap/0/3 crx/1/2 cry/1/2 cp/1/2 csx/0/2 cu/4/2"
    " rxx/1/2 rzz/1/2 rccx/0/3 rc3x/0/4 c3x/0/4 c3sqrtx/0/4 c4x/0/5"
)

#: Gates whose inverse has another name; those of the other library gates keep theirs.
INVERSES: Mapping[str, str] = {"s": "sdg", "sdg": "s", "t": "tdg", "tdg": "t", "sx": "sxdg", "sxdg": "sx"}

#: Gates whose singly controlled form is one gate of the standard library, its name with a "c" before it.
SINGLY_CONTROLLED = frozenset(("x", "y", "z", "h", "p", "phase", "rx", "ry", "rz", "swap", "cx", "CX"))
