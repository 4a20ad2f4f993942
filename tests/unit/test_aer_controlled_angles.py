"""Controlled gates whose angles are parameters, which Aer by itself would leave out in silence, do happen."""

import numpy as np
import pytest
from circuits_kit import HEAD_3
from qiskit import qasm3
from qiskit.quantum_info import SparsePauliOp, Statevector
from worker_kit import batch, item, request

from shotbus.schemas.pub import Bindings, PauliSums, pack_observables, unpack_result
from shotbus.workers.adapters.base import load

OBSERVABLES = PauliSums.from_terms([[("IZ", 1.0)], [("ZI", 1.0)], [("XY", 1.0)], [("YX", 1.0)]])
POINTS = Bindings(("a",), np.array([[0.3], [2.0], [-1.1]]))


def exact(text):
    circuit = qasm3.loads(text)
    operators = [SparsePauliOp.from_list(OBSERVABLES.terms(k)) for k in range(OBSERVABLES.count)]
    states = [Statevector(circuit.assign_parameters({"a": row[0]})) for row in POINTS.matrix.tolist()]
    return [[state.expectation_value(operator).real for operator in operators] for state in states]


@pytest.mark.parametrize(
    "gate",
    ["cp(a)", "cphase(a)", "crx(a)", "cry(a)", "crz(2*a)", "cu(a,a,a,a)", "ctrl @ rx(a)", "negctrl @ p(a)"],
)
def test_a_controlled_angle_is_bound(gate):
    text = f"{HEAD_3}input float[64] a;\nqubit[2] q;\nry(0.4) q[0];\nrx(0.8) q[1];\n{gate} q[0], q[1];\nsx q[0];\n"
    raw = request(text, POINTS, mode="estimate", shots=0, observables=pack_observables(OBSERVABLES))
    (result,) = load("aer").run(batch([item(raw)], text))
    np.testing.assert_allclose(unpack_result(result.payload).evs, exact(text), rtol=0, atol=1e-9)
