"""The circuit of the sweep benchmark: 8 qubits, 48 parameters, hardware efficient. Pure."""

from __future__ import annotations

import numpy as np

from shotbus.schemas.packed import Array

QUBITS = 8
LAYERS = 3
PARAMETERS = 2 * QUBITS * LAYERS
NAMES = tuple(f"t{number}" for number in range(PARAMETERS))
SEED_STRIDE = 2113


def text() -> str:
    """Return OpenQASM 3: per layer RY and RZ on each qubit, then a chain of CX; all qubits measured."""
    lines = ["OPENQASM 3.0;", 'include "stdgates.inc";']
    lines += [f"input float[64] {name};" for name in NAMES]
    lines += [f"qubit[{QUBITS}] q;", f"bit[{QUBITS}] c;"]
    names = iter(NAMES)
    for _ in range(LAYERS):
        for qubit in range(QUBITS):
            lines += [f"ry({next(names)}) q[{qubit}];", f"rz({next(names)}) q[{qubit}];"]
        lines += [f"cx q[{qubit}], q[{qubit + 1}];" for qubit in range(QUBITS - 1)]
    lines += ["c = measure q;", ""]
    return "\n".join(lines)


def points(rows: int, *, changing: int = PARAMETERS) -> Array:
    """Return angles, rows x 48, of which the first ``changing`` columns differ from row to row."""
    generator = np.random.default_rng(48)
    matrix = np.repeat(generator.uniform(-np.pi, np.pi, (1, PARAMETERS)), rows, axis=0)
    matrix[:, :changing] = generator.uniform(-np.pi, np.pi, (rows, changing))
    return matrix
