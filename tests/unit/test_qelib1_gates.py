"""OpenQASM 2's library: what the inspection accepts, the parser that the workers use takes as well."""

import pytest
from worker_kit import batch, item, request

from shotbus.schemas.openqasm import inspect
from shotbus.schemas.openqasm_gates import QELIB1, QELIB1_EXTRA
from shotbus.workers.adapters.aer_compile import _load
from shotbus.workers.adapters.base import load

GATES = {**QELIB1, **QELIB1_EXTRA}
HEAD = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[5];\ncreg c[5];\n'


def program(*lines):
    return HEAD + "\n".join([*lines, "measure q -> c;", ""])


@pytest.mark.parametrize("name", sorted(GATES))
def test_every_gate_is_parsed_with_angles_that_are_no_whole_numbers(name):
    gate = GATES[name]
    angles = ", ".join(["0.3", "-pi/5", "2.1", "0.7"][: gate.parameters])
    places = ", ".join(f"q[{number}]" for number in range(gate.qubits))
    text = program(f"{name}({angles}) {places};" if angles else f"{name} {places};")
    assert inspect(text).operations == 6
    assert len(_load(text, "openqasm2").data) == 6


@pytest.mark.parametrize("argument", ["0.5", "pi", "-1", "1e9"])
@pytest.mark.parametrize("adapter", ["aer", "vector"])
def test_u0_is_the_identity_whatever_its_argument_and_also_in_a_gate_of_ones_own(adapter, argument):
    plain = program("h q[0];", "h q[0];")
    waiting = program(
        "gate g(a) x { u0(a) x; }", "h q[0];", f"u0({argument}) q[0];", f"g({argument}) q[0];", "h q[0];"
    )
    inspect(waiting)
    found = [load(adapter).run(batch([item(request(text))], text)) for text in (plain, waiting)]
    assert [one.error_class for (one,) in found] == ["", ""]
    assert found[0][0].payload == found[1][0].payload
