"""Modelled devices: calibrations that drift by a clock that is handed in, real noise, circuits of their target."""

import json

import numpy as np
import pytest
from worker_kit import angles, batch, item, request, rotations

from shotbus.schemas.pub import PauliSums, pack_observables, unpack_result
from shotbus.workers.adapters.aer_device import AerSettings, Calibration, DeviceModel, ModelledDevice
from shotbus.workers.adapters.aer_run import SEED_STRIDE
from shotbus.workers.adapters.aer_sensing import SensingAerAdapter
from shotbus.workers.adapters.base import load
from shotbus.workers.running import run_bundle

TEXT, NAMES = rotations(3)
BELL = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[2] q;\nh q[0];\ncx q[0], q[1];\n'
PAULIS = PauliSums.from_terms([[("ZZ", 1.0)], [("XX", 1.0)], [("YY", -1.0)]])
HOUR = 3_600_000
MODEL = DeviceModel("generic", 5, "line", 7, 3_600.0)


class Clock:
    """Stands still unless it is told to tick: then every look takes so many milliseconds."""

    def __init__(self, now=400_000 * HOUR, tick=0):
        self.now, self.tick = now, tick

    def wall_ms(self):
        self.now += self.tick
        return self.now

    def monotonic(self):
        return self.now / 1000


def device(clock=None, model=MODEL):
    return SensingAerAdapter(AerSettings("CPU", model), clock or Clock())


def test_an_epoch_is_one_calibration_and_the_next_another_with_other_numbers():
    clock = Clock()
    made = ModelledDevice(MODEL, clock)
    first = made.current()
    clock.now += HOUR - 1
    assert made.current() is first
    clock.now += 1
    second = made.current()
    one, two = first.state(), second.state()
    assert (two.calibrated_ms - one.calibrated_ms, two.calibrated_ms) == (HOUR, clock.now)
    for name in ("calibration_id", "fidelity", "t1_us", "t2_us"):
        assert getattr(one, name) != getattr(two, name)
    assert made.find(one.calibration_id) is first


def test_a_calibration_is_the_same_in_every_process_and_says_what_was_measured():
    once, again = Calibration(MODEL, 12), Calibration(MODEL, 12)
    assert once.snapshot == again.snapshot
    told = json.loads(once.snapshot)
    errors = [gate["error"] for gate in told["gates"] if gate["gate"] == "cx"]
    state = once.state()
    assert state.fidelity == pytest.approx(1 - np.mean(errors))
    assert state.t1_us == pytest.approx(1e6 * np.mean([qubit["t1"] for qubit in told["qubits"]]))
    assert 50 < state.t2_us < 500
    assert (state.provider_queue_seconds, state.unhealthy) == (0.0, "")


@pytest.mark.parametrize(
    ("coupling", "pairs"),
    [
        ("line", {(0, 1), (1, 2), (2, 3), (3, 4)}),
        ("ring", {(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)}),
        ("grid", {(0, 1), (1, 2), (3, 4), (0, 3), (1, 4)}),
        ("full", {(a, b) for b in range(5) for a in range(b)}),
    ],
)
def test_couplings_are_those_that_were_asked_for(coupling, pairs):
    edges = set(DeviceModel(coupling=coupling).edges())
    assert {(a, b) for a, b in edges if a < b} == pairs
    assert {(b, a) for a, b in edges} == edges


def test_a_device_that_never_drifts_has_a_calibration_of_unknown_age():
    state = device(model=DeviceModel()).sense()
    assert (bool(state.calibration_id), state.calibrated_ms) == (True, 0)


def test_circuits_are_compiled_for_its_couplings_and_gates():
    adapter = device()
    text = TEXT.replace("cx q[0], q[1];", "cx q[0], q[2];")
    adapter.run(batch([item(request(text, angles(NAMES, 1)))], text))
    known = list(adapter._compiler._transpiled._entries.values())[0][0].circuit
    assert set(known.count_ops()) <= {"cx", "rz", "sx", "x", "measure", "barrier"}
    pairs = {tuple(known.find_bit(q).index for q in one.qubits) for one in known.data if len(one.qubits) == 2}
    assert pairs <= set(MODEL.edges())


def bell_values(adapter, shots):
    """<ZZ>, <XX> and -<YY> of a Bell pair, 1 each without noise."""
    raw = request(BELL, mode="estimate", shots=shots, observables=pack_observables(PAULIS))
    (result,) = adapter.run(batch([item(raw)], BELL))
    assert result.problems == ()
    found = unpack_result(result.payload)
    return found.evs[0], found.stds[0]


def test_its_answers_are_noisy_and_exact_ones_are_those_of_the_density_matrix():
    assert bell_values(load("aer"), 0)[0] == pytest.approx([1.0, 1.0, 1.0])
    exact, _ = bell_values(device(), 0)
    again, _ = bell_values(device(), 0)
    assert np.array_equal(exact, again)
    assert np.all((exact > 0.95) & (exact < 0.9999))
    sampled, errors = bell_values(device(), 40_000)
    # Readout errors, up to 0.5 % a qubit here, are in samples alone.
    assert np.all(sampled < exact + 5 * errors)
    assert np.all(sampled > exact - 0.02 - 5 * errors)


def test_seeded_answers_are_the_same_however_they_are_cut_and_others_under_the_next_calibration():
    clock = Clock()
    adapter, bindings = device(clock), angles(NAMES, 5)
    whole = unpack_result(run(adapter, item(request(TEXT, bindings), seed=3)))
    parts = cut(bindings, 2)
    items = [item(request(TEXT, parts[0]), seed=3), item(request(TEXT, parts[1]), seed=3 + 2 * SEED_STRIDE)]
    results = adapter.run(batch(items, TEXT))
    counts = np.concatenate([unpack_result(one.payload).counts for one in results])
    assert np.array_equal(counts, whole.counts)
    assert run(device(clock), items[1]) == results[1].payload
    clock.now += HOUR
    assert run(adapter, items[1]) != results[1].payload


def cut(bindings, row):
    kind = type(bindings)
    return [kind(bindings.names, bindings.matrix[:row]), kind(bindings.names, bindings.matrix[row:])]


def run(adapter, one):
    (result,) = adapter.run(batch([one], TEXT))
    assert result.problems == ()
    return result.payload


def test_a_new_calibration_is_compiled_for_and_named_in_the_provenance():
    clock, known = Clock(), batch([item(request(TEXT, angles(NAMES, 1)))], TEXT)
    adapter = device(clock)
    seen = []
    for _ in range(2):
        adapter.run(known)
        told = adapter.provenance(known)
        seen.append((told["calibration_id"], len(adapter._compiler._transpiled)))
        clock.now += HOUR
    assert [count for _, count in seen] == [1, 2]
    assert seen[0][0] != seen[1][0]
    assert (told["backend"], told["device"], told["model"]["seed"]) == ("generic_backend_5q", "CPU", 7)
    assert adapter.capabilities.max_qubits == 5


def test_a_calibration_that_begins_under_a_run_makes_it_unstable():
    clock = Clock(tick=HOUR)
    known = batch([item(request(TEXT, angles(NAMES, 1)))], TEXT)
    (ran,) = run_bundle(device(clock), "run", known.items, known.circuits, int)
    assert ran.results[0].error_class == "UNSTABLE"
    clock.tick = 0
    (ran,) = run_bundle(device(clock), "run", known.items, known.circuits, int)
    assert ran.results[0].error_class == ""
    assert ran.calibration_id == json.loads(ran.provenance)["calibration_id"] != ""


@pytest.mark.parametrize(
    ("text", "changes", "code"),
    [
        (rotations(6)[0], {}, "SB-1116"),
        (TEXT, {"options": {"method": "stabilizer"}}, "SB-1108"),
    ],
)
def test_what_the_device_cannot_run_is_refused(text, changes, code):
    names = rotations(6)[1] if code == "SB-1116" else NAMES
    (result,) = device().run(batch([item(request(text, angles(names, 1), **changes))], text))
    assert [problem.code for problem in result.problems] == [code]


def test_an_absent_gpu_is_told_and_nothing_runs_on_the_cpu_instead():
    adapter = load("aer", {"device": "GPU"})
    assert "GPU" in adapter.sense().unhealthy
    known = batch([item(request(TEXT, angles(NAMES, 1)))] * 2, TEXT)
    assert [result.error_class for result in adapter.run(known)] == ["BACKEND_DOWN"] * 2
    assert [one.problems[0].code for one in adapter.compile(known)] == ["SB-5008"] * 2
    assert adapter.provenance(known)["device"] == "GPU"
    assert adapter.calibration("0" * 64) is None
