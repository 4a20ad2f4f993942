"""Circuits out of the compile cache run as if they had just been compiled, bit for bit."""

import io
import os
import stat

import pytest
from qiskit import QuantumCircuit, qasm3, qpy
from qiskit.circuit import ParameterVector
from worker_kit import NO_BINDINGS, angles, batch, item, request, rotations

from shotbus.schemas.pub import PauliSums, pack_observables
from shotbus.workers.adapters.base import CanCompile, load
from shotbus.workers.compiled.cache import CompileCache
from shotbus.workers.compiled.entry import Entry, pack, unpack

SAMPLED, NAMES = rotations(4, 2)
BARE, _ = rotations(4, 2, measured=False)
REPEATED = """OPENQASM 3.0;
include "stdgates.inc";
input float[64] theta;
qubit[2] q;
bit[2] low;
bit single;
bit[1] high;
gate twist(a) p { rx(a / 2 + pi / 7) p; rz(-3 * a) p; }
twist(theta) q[0];
low[0] = measure q[0];
if (low[0]) { x q[1]; }
barrier q;
cx q[0], q[1];
single = measure q[0];
high[0] = measure q[1];
"""
OPENQASM_2 = """OPENQASM 2.0;
include "qelib1.inc";
qreg q[3];
creg c[3];
h q[0];
cu3(0.3, 0.2, 0.1) q[0], q[1];
ccx q[0], q[1], q[2];
measure q -> c;
"""
OBSERVABLES = pack_observables(PauliSums.from_terms([[("ZZIX", 1.0), ("IIYY", 0.5)], [("XXXX", -1.0)]]))
CASES = {
    "sampled": (SAMPLED, angles(NAMES, 5), {}),
    "levels": (SAMPLED, angles(NAMES, 2), {"options": {"optimization_level": "3"}}),
    "mid-circuit": (REPEATED, angles(("theta",), 4), {}),
    "OpenQASM 2": (OPENQASM_2, NO_BINDINGS, {}),
    "estimated": (BARE, angles(NAMES, 3), {"mode": "estimate", "observables": OBSERVABLES}),
    "exact": (BARE, angles(NAMES, 3), {"mode": "estimate", "observables": OBSERVABLES, "shots": 0}),
}


def adapter_with(directory):
    adapter = load("aer")
    adapter.keep_in(CompileCache(directory))
    return adapter


def ran(adapter, text, bindings, fields):
    """Return the payload and where the circuit came from."""
    asked = batch([item(request(text, bindings, **fields), seed=11)], text)
    (result,) = adapter.run(asked)
    assert result.problems == ()
    (facts,) = adapter.provenance(asked)["circuits"].values()
    return result.payload, facts


@pytest.mark.parametrize("case", CASES)
def test_results_are_the_same_bytes_compiled_anew_from_memory_and_from_disk(case, tmp_path):
    plain, told = ran(load("aer"), *CASES[case])
    first = adapter_with(tmp_path)
    runs = [ran(first, *CASES[case]), ran(first, *CASES[case]), ran(adapter_with(tmp_path), *CASES[case])]
    assert [facts.pop("compiled") for _, facts in runs] == ["anew", "memory", "disk"]
    assert told.pop("compiled") == "anew"
    assert [payload for payload, _ in runs] == [plain] * 3
    assert [facts for _, facts in runs] == [told] * 3


def test_a_circuit_from_disk_is_not_parsed_and_its_seconds_are_told(tmp_path, monkeypatch):
    adapter_with(tmp_path).compile(batch([item(request(SAMPLED, angles(NAMES, 1)))], SAMPLED))
    monkeypatch.setattr("qiskit.qasm3.loads", lambda _: pytest.fail("parsed"))
    adapter = adapter_with(tmp_path)
    ran(adapter, SAMPLED, angles(NAMES, 1), {})
    ran(adapter, SAMPLED, angles(NAMES, 1), {})
    counts = adapter._compiler.kept.take_counts()  # what a child tells its worker
    assert (counts["disk"], counts["memory"], counts["anew"]) == (1, 1, 0)
    assert 0 < counts["seconds"] < 1
    assert not any(adapter._compiler.kept.take_counts().values())


def test_other_options_and_observables_are_compiled_apart_and_shots_are_not(tmp_path):
    adapter = adapter_with(tmp_path)
    for fields in ({}, {"shots": 9}, {"options": {"method": "statevector"}}, {"mode": "estimate"}):
        more = {"observables": OBSERVABLES} if "mode" in fields else {}
        ran(adapter, SAMPLED, angles(NAMES, 1), fields | more)
    assert len(list(tmp_path.glob("*.qpy"))) == 3


def test_entries_are_the_user_s_alone_and_hold_no_pickle(tmp_path):
    ran(adapter_with(tmp_path), SAMPLED, angles(NAMES, 1), {})
    (path,) = tmp_path.glob("*.qpy")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    entry = unpack(path.stem, path.read_bytes())
    assert entry.body.startswith(b"QISKIT")
    assert entry.told == {"wires": [0, 1, 2, 3], "begins": [0, 1, 2, 3], "fit": None}


def older(body):
    """As an older SDK writes it: such bytes can run code when they are loaded."""
    (circuit,) = qpy.load(io.BytesIO(body))
    written = io.BytesIO()
    qpy.dump(circuit, written, version=13)
    return written.getvalue()


@pytest.mark.parametrize(
    "spoil",
    [
        older,
        lambda body: body[:-40],
        lambda _: b"",
        lambda _: os.urandom(500),
        lambda body: b"\x80\x04" + body,
    ],
    ids=["another version", "cut", "empty", "foreign", "pickled"],
)
def test_a_body_that_qpy_of_this_version_cannot_read_is_compiled_anew(tmp_path, spoil):
    whole, _ = ran(adapter_with(tmp_path), SAMPLED, angles(NAMES, 2), {})
    (path,) = tmp_path.glob("*.qpy")
    entry = unpack(path.stem, path.read_bytes())
    path.write_bytes(pack(path.stem, Entry(entry.told, spoil(entry.body))))
    adapter = adapter_with(tmp_path)
    again, facts = ran(adapter, SAMPLED, angles(NAMES, 2), {})
    assert (again, facts["compiled"]) == (whole, "anew")
    assert adapter._compiler.kept.counts.damaged == 1
    assert ran(adapter_with(tmp_path), SAMPLED, angles(NAMES, 2), {})[1]["compiled"] == "disk"


def test_aer_compiles_without_running_and_tells_what_cannot_be_compiled(tmp_path):
    adapter = adapter_with(tmp_path)
    assert isinstance(adapter, CanCompile)
    items = [
        item(request(SAMPLED, angles(NAMES, 1)), number=0),
        item(request(SAMPLED, angles(NAMES, 1), options={"method": "abacus"}), number=1),
        item(request("nothing that is here"), number=2),
        item(request(SAMPLED, angles(NAMES, 1)), number=3),
    ]
    told = adapter.compile(batch(items, SAMPLED))
    assert [one.origin for one in told] == ["anew", None, None, "memory"]
    assert [[problem.code for problem in one.problems] for one in told] == [[], ["SB-1108"], ["SB-1219"], []]
    assert told[0].seconds > told[3].seconds


def test_the_names_in_a_kept_circuit_are_those_of_its_text(tmp_path):
    circuit = QuantumCircuit(1, 1)
    vector = ParameterVector("v", 2)
    circuit.rx(vector[1], 0)
    circuit.rz(vector[0] * 2, 0)
    circuit.measure(0, 0)
    text = qasm3.dumps(circuit)
    rows = angles(tuple(sorted(one.name for one in qasm3.loads(text).parameters)), 3, seed=4)
    new, _ = ran(adapter_with(tmp_path), text, rows, {})
    kept, facts = ran(adapter_with(tmp_path), text, rows, {})
    assert (kept, facts["compiled"]) == (new, "disk")
