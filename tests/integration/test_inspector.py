"""The inspection process for real: hostile texts, what they may take, what becomes of who kills it."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from shotbus.broker.children.process import ChildProcess, ChildStartError
from shotbus.broker.config import Config, InspectionConfig
from shotbus.broker.inspection.inspector import Inspector, InspectorBusyError
from shotbus.schemas.ids import circuit_id

TESTS = Path(__file__).parents[1]
HEAD = 'OPENQASM 3.0; include "stdgates.inc"; qubit[4] q; bit[4] c; '
HEAD_2 = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[4]; creg c[4]; '
GOOD = HEAD + "h q; c = measure q;"
# A loaded machine is slower than the limit of one second that the process has.
PATIENCE = 3.0


def doubling(levels):
    calls = "".join(f"gate g{n + 1} a {{ g{n} a; g{n} a; }} " for n in range(levels))
    return f"gate g0 a {{ x a; x a; }} {calls} g{levels} q[0];"


HOSTILE = {
    "include of a file": (HEAD + 'include "/etc/passwd";', "SB-1202"),
    "include upwards": (HEAD + 'include "../x";', "SB-1202"),
    "include of a device": (HEAD_2 + 'include "/dev/stdin";', "SB-1202"),
    "two billion qubits": (HEAD_2 + "qreg r[2000000000];", "SB-1204"),
    "no qubit": (HEAD + "qubit[0] r;", "SB-1204"),
    "doubling gates": (HEAD + doubling(29), "SB-1205"),
    "recursive gate": (HEAD + "gate g a { g a; }", "SB-1208"),
    "a million broadcasts": (HEAD + "qubit[990] r; " + "U(0, 0, 0) r; " * 20_000, "SB-1205"),
    "parentheses": (HEAD + f"rx({'(' * 10_000}1{')' * 10_000}) q[0];", "SB-1207"),
    "infinite angle": (HEAD + "rx(1e999) q[0]; rx(1/0) q[0]; rx(log(-1)) q[0];", "SB-1214"),
    "nested branches": (HEAD + "if (c[0]) { " * 100 + "}" * 100, "SB-1207"),
    "endless loop": (HEAD + "for int i in [0:1000000000000] { x q[0]; }", "SB-1206"),
    "while": (HEAD + "while (true) { x q[0]; }", "SB-1206"),
    "unclosed comment": (HEAD + "/*" + "x" * 1_000_000, "SB-1203"),
    "too long": (HEAD + "x q[0]; " * 200_000, "SB-1201"),
    "qubit twice": (HEAD + "cx q[1], q[1];", "SB-1212"),
    "homoglyph": (HEAD + "c\N{CYRILLIC SMALL LETTER HA} q[0], q[1];", "SB-1213"),
    "QPY": ("QISKIT\x0d\x00\x00", "SB-1200"),
}


def planted(monkeypatch, *, seconds=1.0, megabytes=256, wait=None, **named):
    """An inspector whose process has the faults of planted_inspector."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    child = ChildProcess(
        "planted_inspector", ["--seconds", str(seconds)], memory_bytes=megabytes << 20, start_seconds=30
    )
    return Inspector(child, seconds=wait or seconds, **named)


def configured(**inspection):
    return Inspector.configured(Config(inspection=InspectionConfig(**inspection)))


@pytest.fixture
async def closing():
    made = []
    yield lambda inspector: made.append(inspector) or inspector
    for inspector in made:
        await inspector.close()


async def timed(inspector, text):
    begin = time.monotonic()
    inspected = await inspector.inspect(text.encode())
    return inspected, time.monotonic() - begin


async def test_hostile_texts_are_refused_with_their_own_codes_by_a_process_that_lives_on(closing):
    inspector = closing(configured())
    await inspector.start()
    told = {}
    for case, (text, _) in HOSTILE.items():
        inspected, seconds = await timed(inspector, text)
        told[case] = [problem.code for problem in inspected.problems]
        assert seconds < PATIENCE, case
        assert inspected.circuit_id == circuit_id(text)
    assert {case: codes for case, codes in told.items() if HOSTILE[case][1] not in codes} == {}
    assert (await inspector.inspect(GOOD.encode())).facts.gates == (("h", 4), ("measure", 4))
    assert inspector._child.starts == 1
    assert (inspector.counters.refused, inspector.counters.accepted) == (len(HOSTILE), 1)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("segfault", "signal 11"),
        ("hang", "no answer within 1 s"),
        ("sleep", "no answer within 1 s"),
        ("eat", "out of memory"),
        ("defect", "exit status 1"),
        ("exit", "exit status 0"),
        ("noise", "signal 9"),
        ("lie", "signal 9"),
    ],
)
async def test_a_text_that_the_process_does_not_survive_is_refused_and_the_next_is_not(
    monkeypatch, closing, fault, told
):
    inspector = closing(planted(monkeypatch))
    await inspector.start()
    (inspected, seconds) = await timed(inspector, f"{GOOD} // {fault}")
    (problem,) = inspected.problems
    assert (problem.code, problem.detail) == ("SB-1221", told)
    assert seconds < PATIENCE
    assert inspected.circuit_id == circuit_id(f"{GOOD} // {fault}")
    assert (await inspector.inspect(GOOD.encode())).facts.qubits == 4
    assert inspector._child.starts == 2


async def test_a_process_whose_parent_looks_away_is_ended_by_its_processor_time(monkeypatch, closing):
    inspector = closing(planted(monkeypatch, seconds=0.5, wait=30))
    inspected, seconds = await timed(inspector, GOOD + "// hang")
    assert inspected.problems[0].detail == "signal 24"
    assert seconds < 10


async def test_a_text_that_really_takes_too_long_is_refused(closing):
    inspector = closing(configured(seconds=0.05))
    await inspector.start()
    names = "".join(f"gate n{k} a {{ }}" for k in range(30_000))
    inspected, _ = await timed(inspector, HEAD + names)
    assert [problem.code for problem in inspected.problems] == ["SB-1221"]
    assert inspector.counters.timed_out == 1


async def test_a_text_that_really_takes_too_much_memory_is_refused(closing):
    child = ChildProcess(
        "shotbus.broker.inspection.child",
        ["--seconds", "5", "--max-bytes", "5000000"],
        memory_bytes=48 << 20,
        start_seconds=30,
    )
    inspector = closing(Inspector(child, seconds=5))
    inspected, _ = await timed(inspector, HEAD + "".join(f"gate n{k} a {{ }}" for k in range(100_000)))
    (problem,) = inspected.problems
    assert (problem.code, problem.detail) == ("SB-1221", "out of memory")


async def test_texts_of_a_megabyte_stay_far_below_the_limit_of_memory(closing):
    inspector = closing(configured(seconds=10))
    qubits = ", ".join(f"q{k}" for k in range(600))
    wide = (
        f"qubit[601] r; gate g {qubits} {{ }} " + "ctrl @ g " + ", ".join(f"r[{k}]" for k in range(601)) + ";"
    )
    assert (await inspector.inspect((HEAD + wide * 1 + "x q[0]; " * 120_000).encode())).facts.edges_cut
    peak = Path(f"/proc/{inspector._child.pid}/status").read_text().split("VmPeak:")[1].split()[0]
    assert int(peak) < 160_000


async def test_the_process_sees_no_secrets(monkeypatch, closing):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do not look")
    inspector = closing(configured())
    await inspector.start()
    assert b"do not look" not in Path(f"/proc/{inspector._child.pid}/environ").read_bytes()
    assert "Qiskit" not in Path(f"/proc/{inspector._child.pid}/maps").read_text()


async def test_the_process_is_replaced_after_a_number_of_texts(closing):
    inspector = closing(Inspector(configured()._child, seconds=5, recycle=2))
    pids = []
    for _ in range(5):
        await inspector.inspect(GOOD.encode())
        pids.append(inspector._child.pid)
    assert [pids.index(pid) for pid in pids] == [0, 0, 2, 2, 4]


async def test_callers_take_turns_and_each_gets_its_own_answer(closing):
    inspector = closing(configured())
    texts = [f"{HEAD} qubit[{n}] more;" for n in range(1, 30)]
    answers = await asyncio.gather(*(inspector.inspect(text.encode()) for text in texts))
    assert [answer.facts.qubits for answer in answers] == [4 + n for n in range(1, 30)]
    assert inspector._child.starts == 1


async def test_no_more_callers_wait_than_may(closing):
    inspector = closing(Inspector(configured()._child, seconds=5, queue=2))
    calls = [asyncio.ensure_future(inspector.inspect(GOOD.encode())) for _ in range(3)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(answer, InspectorBusyError) for answer in answers] == [False, False, True]


async def test_a_caller_that_gives_up_takes_nobody_with_it(monkeypatch, closing):
    inspector = closing(planted(monkeypatch, seconds=20))
    await inspector.start()
    hanging = asyncio.ensure_future(inspector.inspect(f"{GOOD} // sleep".encode()))
    waiting = asyncio.ensure_future(inspector.inspect(GOOD.encode()))
    pid = inspector._child.pid
    await asyncio.sleep(0.1)
    hanging.cancel()
    assert (await waiting).facts.qubits == 4
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_process_that_cannot_start_is_no_fault_of_the_text():
    child = ChildProcess("shotbus.broker.inspection.child", [], memory_bytes=1 << 20, start_seconds=30)
    with pytest.raises(ChildStartError):
        await Inspector(child, seconds=1).inspect(GOOD.encode())
