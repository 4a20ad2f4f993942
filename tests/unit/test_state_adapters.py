"""Adapters with state vectors: rows whose outcomes are their own, right counts, refusals of what is no state."""

import numpy as np
import pytest
from circuits_kit import HEAD_3, ghz
from worker_kit import angles, batch, item, request, rotations

from shotbus.schemas.pub import PauliSums, pack_observables, unpack_result
from shotbus.workers.adapters.aer_run import SEED_STRIDE
from shotbus.workers.adapters.base import load
from shotbus.workers.compiled.cache import CompileCache

SAMPLED, NAMES = rotations(3)
BARE, _ = rotations(3, measured=False)
OBSERVABLES = PauliSums.from_terms(
    [[("ZZI", 1.0), ("IIX", 0.5), ("III", 2.0)], [("IYZ", -1.0)], [("XXX", 1.0)]]
)
BELL = HEAD_3 + "qubit[2] q;\nbit[2] c;\nh q[0];\ncx q[0], q[1];\n"


@pytest.fixture(scope="module", params=["vector", "default.qubit", "lightning.qubit"])
def adapter(request):
    return load("vector") if request.param == "vector" else load("pennylane", {"device": request.param})


def payloads(adapter, items, *texts):
    results = adapter.run(batch(items, *texts))
    assert [result.problems for result in results] == [()] * len(items)
    return [result.payload for result in results]


def estimated(bindings, shots, text=BARE, **more):
    packed = pack_observables(OBSERVABLES)
    return request(text, bindings, mode="estimate", shots=shots, observables=packed, **more)


KINDS = {
    "sample": (SAMPLED, lambda rows: request(SAMPLED, rows)),
    "many shots": (SAMPLED, lambda rows: request(SAMPLED, rows, shots=10_000)),
    "increments": (SAMPLED, lambda rows: request(SAMPLED, rows, options={"shots_per_call": "30"})),
    "estimate": (BARE, lambda rows: estimated(rows, 64)),
    "exact": (BARE, lambda rows: estimated(rows, 0)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_neither_cuts_nor_neighbours_nor_chunks_show(adapter, monkeypatch, kind):
    text, make = KINDS[kind]
    rows = angles(NAMES, 12)
    (whole,) = payloads(adapter, [item(make(rows))], text)
    cuts = [(0, 5), (5, 6), (6, 12)]
    shards = [item(make(rows.rows(a, b)), seed=7 + SEED_STRIDE * a) for a, b in cuts]
    together = payloads(adapter, [shards[2], item(make(rows), seed=99), *shards[:2]], text)
    assert [together[2], together[3], together[0]] == [payloads(adapter, [one], text)[0] for one in shards]
    parts = [unpack_result(together[k]) for k in (2, 3, 0)]
    if kind in ("estimate", "exact"):
        joined = np.concatenate([part.evs for part in parts]), np.concatenate([part.stds for part in parts])
        assert [one.tobytes() for one in joined] == [
            getattr(unpack_result(whole), k).tobytes() for k in ("evs", "stds")
        ]
    else:
        joined = [part.row(row) for part in parts for row in range(part.points)]
        assert joined == [unpack_result(whole).row(row) for row in range(12)]
    monkeypatch.setattr(adapter, "_chunk_bytes", 5 * 8 * 16)
    assert payloads(adapter, [item(make(rows))], text) == [whole]


def test_jobs_of_any_seeds_share_one_run(adapter, monkeypatch):
    calls = []
    original = type(adapter)._run_parts
    monkeypatch.setattr(
        type(adapter), "_run_parts", lambda *given: calls.append(len(given[3])) or original(*given)
    )
    payloads(adapter, [item(request(SAMPLED, angles(NAMES, 2)), seed=seed) for seed in (5, 3, 900)], SAMPLED)
    assert calls == [3]


def test_equal_seeds_draw_alike_and_others_do_not(adapter):
    items = [
        item(request(BELL + "c = measure q;\n", shots=50), seed=seed) for seed in (1, 1, 2, 3, -1, 2**63 - 1)
    ]
    counts = [
        tuple(sorted(unpack_result(one).row(0).items()))
        for one in payloads(adapter, items, BELL + "c = measure q;\n")
    ]
    assert counts[0] == counts[1]
    assert len(set(counts)) > 2


def test_registers_order_and_bits_that_are_not_measured_are_as_aer_has_them(adapter):
    text = HEAD_3 + "qubit[3] q;\nbit[2] low;\nbit[70] wide;\nbit one;\nx q[0];\nx q[2];\n"
    text += "low[1] = measure q[0];\nlow[0] = measure q[1];\nwide[69] = measure q[2];\none = measure q[0];\n"
    raw = request(text, shots=20)
    ours, aers = (unpack_result(payloads(one, [item(raw)], text)[0]) for one in (adapter, load("aer")))
    assert ours.registers == aers.registers
    assert ours.row(0) == aers.row(0)
    assert ours.outcomes.tobytes() == aers.outcomes.tobytes()


@pytest.mark.parametrize(
    ("body", "actual"),
    [
        ("c[0] = measure q[0];\nx q[0];\nc[1] = measure q[0];\n", "a gate behind a measurement"),
        ("c[0] = measure q[0];\nif (c[0]) { x q[1]; }\nc[1] = measure q[1];\n", "if_else"),
        ("reset q[0];\nc = measure q;\n", "reset"),
    ],
)
def test_what_needs_more_than_a_state_is_for_other_pools(adapter, body, actual):
    (result,) = adapter.run(batch([item(request(BELL + body))], BELL + body))
    assert (result.error_class, result.problems[0].code, result.problems[0].actual) == (
        "CONSTRAINT",
        "SB-1118",
        actual,
    )


def test_loops_are_unrolled_and_a_reset_at_the_beginning_is_nothing(adapter):
    text = (
        HEAD_3
        + "qubit[2] q;\nbit[2] c;\nreset q;\nfor int i in [0:2] { x q[0]; }\nbarrier q;\nc = measure q;\n"
    )
    assert unpack_result(payloads(adapter, [item(request(text))], text)[0]).row(0) == {"01": 100}


def test_refusals_are_those_of_other_simulators(adapter):
    wide = ghz(adapter.capabilities.max_qubits + 1)
    cases = {
        "SB-1116": (request(wide), wide),
        "SB-1108": (request(SAMPLED, angles(NAMES, 1), options={"method": "stabilizer"}), SAMPLED),
        "SB-1301": (request(SAMPLED), SAMPLED),
        "SB-1218": (request(BARE, angles(NAMES, 1)), BARE),
        "SB-1219": (request("unknown"), SAMPLED),
        "SB-1402": (estimated(angles((), 1), 0, ghz()), ghz()),
    }
    good = item(request(SAMPLED, angles(NAMES, 1)))
    for code, (raw, text) in cases.items():
        bad, fine = adapter.run(batch([item(raw), good], text, SAMPLED))
        assert ({one.code for one in bad.problems}, fine.problems) == ({code}, ())


def test_an_angle_that_divides_by_zero_fails_alone(adapter):
    text = HEAD_3 + "input float[64] a;\nqubit[1] q;\nbit[1] c;\nrx(1/a) q[0];\nc = measure q;\n"
    rows = angles(("a",), 3)
    zero = type(rows)(rows.names, np.zeros((1, 1)))
    bad, fine = adapter.run(batch([item(request(text, zero)), item(request(text, rows))], text))
    assert [one.code for one in bad.problems] == ["SB-1220"]
    assert fine.problems == ()


def test_provenance_names_versions_seeds_and_what_compiling_made(adapter):
    known = batch([item(request(SAMPLED, angles(NAMES, 1)))], SAMPLED)
    adapter.run(known)
    told = adapter.provenance(known)
    (circuit,) = told["circuits"].values()
    assert {"qiskit", "numpy"} < set(told["versions"])
    assert "Philox" in told["seeds"]
    assert (circuit["two_qubit_gates"], circuit["seed_transpiler"]) == (2, 0)


def test_a_result_that_fits_no_record_is_refused_before_it_is_whole(adapter):
    text, names = rotations(8)
    (result,) = adapter.run(batch([item(request(text, angles(names, 2_000), shots=4_000))], text))
    assert [one.code for one in result.problems] == ["SB-1113"]


def test_a_circuit_compiled_by_another_process_is_taken_from_the_cache_and_gives_the_same(adapter, tmp_path):
    wanted = batch([item(request(SAMPLED, angles(NAMES, 3)))], SAMPLED)
    name = adapter.capabilities.executed_on
    first, second = (
        load("vector") if "vector" in name else load("pennylane", {"device": name}) for _ in range(2)
    )
    first.keep_in(CompileCache(tmp_path / "kept"))
    assert [one.origin for one in first.compile(wanted)] == ["anew"]
    second.keep_in(CompileCache(tmp_path / "kept"))
    (result,) = second.run(wanted)
    (circuit,) = second.provenance(wanted)["circuits"].values()
    assert circuit["compiled"] == "disk"
    assert [result.payload] == payloads(adapter, wanted.items, SAMPLED)
