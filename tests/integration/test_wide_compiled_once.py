"""A hundred qubits on a fake backend of 127: compiled by one process, only read by the next."""

import pytest
from worker_kit import batch, item, request

from shotbus.workers.adapters.base import load
from shotbus.workers.compiled.cache import CompileCache

QUBITS = 100
LINES = [f"ry({0.01 * (k + 1)}) q[{k}];" for k in range(QUBITS)]
LINES += [f"cx q[{k}], q[{k + 1}];" for start in (0, 1) for k in range(start, QUBITS - 1, 2)]
TEXT = "\n".join(
    [
        "OPENQASM 3.0;",
        'include "stdgates.inc";',
        f"qubit[{QUBITS}] q;",
        f"bit[{QUBITS}] c;",
        *LINES,
        "c = measure q;",
        "",
    ]
)


def adapter_with(directory):
    adapter = load("ibm", {"backend": "fake_sherbrooke"})
    cache = CompileCache(directory)
    adapter.keep_in(cache)
    return adapter, cache


def compiled(adapter):
    (told,) = adapter.compile(batch([item(request(TEXT))], TEXT))
    assert told.problems == ()
    return told


def test_a_second_process_neither_parses_nor_transpiles_it(tmp_path, monkeypatch):
    first, cache = adapter_with(tmp_path / "kept")
    assert compiled(first).origin == "anew"
    assert cache.take_counts()["anew"] == 1
    again, kept = adapter_with(tmp_path / "kept")
    for name in ("qiskit.transpile", "qiskit.qasm3.loads", "qiskit.compiler.transpile"):
        monkeypatch.setattr(name, lambda *_, **__: pytest.fail("compiled"))
    assert compiled(again).origin == "disk"
    counts = kept.take_counts()
    assert (counts["disk"], counts["anew"], counts["damaged"]) == (1, 0, 0)
    assert compiled(again).origin == "memory"
