"""Conformance: what a worker relies on in every adapter, whatever stands behind it."""

import json
import sys

import numpy as np
import pytest
from braket_kit import FakeBraket
from provider_kit import Provider
from worker_kit import angles, batch, item, request, rotations

from shotbus.broker.config import Config
from shotbus.broker.dispatcher.bundles import RUN
from shotbus.broker.invariants.lives import ALWAYS_TOLD
from shotbus.broker.job_options import READ_BY
from shotbus.schemas.errors import ShotbusError
from shotbus.schemas.pub import PauliSums, ProblemStatement, unpack_result
from shotbus.workers.adapters.base import (
    MAX_PAYLOAD_BYTES,
    REGISTRY,
    BackendState,
    CanCancel,
    CanCompile,
    CanLookUp,
    CanSense,
    content_address,
    load,
)
from shotbus.workers.backend import calibration_of, plausible, state_of
from shotbus.workers.compiled.cache import CompileCache
from shotbus.workers.running import run_bundle

TEXT, NAMES = rotations(2)
ISING = ProblemStatement.ising(np.ones(2), np.array([[0, 1]]), np.ones(1))
PROBLEM = {"kind": ISING.kind, "version": ISING.version, "payload": ISING.payload}
GOOD = request(TEXT, angles(NAMES, 2), problem=PROBLEM)


DEVICE = {"device_model": "generic", "qubits": "4", "coupling": "ring", "drift_seconds": "1e6"}
#: What an adapter cannot do without.
NEEDED = {
    "braket": {"device": "braket_sv"},
    "ibm": {"backend": "fake_manila"},
    "remote": {"url": "http://127.0.0.1:1", "device": "fake_qpu"},
}
ADAPTERS = {
    **{name: (name, NEEDED.get(name, {})) for name in REGISTRY},
    "aer as a device": ("aer", DEVICE),
}
#: They need a server.
SERVED = {"remote": Provider, "braket at AWS": FakeBraket}


@pytest.fixture(params=sorted({*ADAPTERS, *SERVED}), scope="module")
def adapter(request, tmp_path_factory):
    if request.param not in SERVED:
        yield load(*ADAPTERS[request.param])
        return
    with SERVED[request.param](tmp_path_factory.mktemp("provider")) as server:
        yield server.adapter()


def test_capabilities_say_what_the_dispatcher_asks(adapter):
    said = adapter.capabilities
    assert said.kind in {"simulator", "classical", "hardware", "none"}
    assert set(said.modes) <= {"sample", "estimate"}
    assert said.modes
    assert said.max_qubits > 0
    assert said.executed_on
    assert not (said.inline and said.paid)


def test_a_good_item_succeeds_with_a_payload_that_can_be_read(adapter):
    (result,) = adapter.run(batch([item(GOOD)], TEXT))
    assert (result.error_class, result.problems) == ("", ())
    assert len(result.payload) <= MAX_PAYLOAD_BYTES
    unpack_result(result.payload)


def test_results_come_one_an_item_in_the_order_of_the_batch(adapter):
    items = [item(GOOD, number=k, seed=k) for k in range(5)]
    results = adapter.run(batch(items, TEXT))
    assert len(results) == 5
    alone = [adapter.run(batch([one], TEXT))[0].payload for one in items]
    assert [result.payload for result in results] == alone


def test_an_empty_batch_has_no_results(adapter):
    assert adapter.run(batch([])) == []


def test_running_again_gives_the_same_bytes(adapter):
    once, again = (adapter.run(batch([item(GOOD)], TEXT))[0].payload for _ in range(2))
    assert once == again


def test_failures_name_a_problem_and_a_class_that_the_dispatcher_knows(adapter):
    from shotbus.broker.dispatcher.retry import REMEDIES

    bad = request(options={"fault": "transient"}, mode="estimate", observables=b"junk")
    for result in adapter.run(batch([item(bad)], TEXT)):
        assert bool(result.error_class) == bool(result.problems)
        assert result.error_class in {"", *REMEDIES}


def test_whoever_costs_can_be_asked_and_whoever_is_asked_answers_for_each_item_in_known_words(adapter):
    assert isinstance(adapter, CanLookUp) or not adapter.capabilities.paid
    if isinstance(adapter, CanLookUp):
        # Numbers that no other test submits: who answers "absent" may take them no more.
        results = adapter.look_up(batch([item(GOOD, number=100 + k) for k in range(3)], TEXT))
        assert len(results) == 3
        assert {result.found for result in results} <= {"done", "running", "absent", "unknown"}


def test_whoever_can_cancel_hands_in_nothing_that_nobody_wants_and_runs_it_when_it_is_wanted_again(adapter):
    if not isinstance(adapter, CanCancel):
        assert not adapter.capabilities.paid, "what costs can be cancelled"
        return
    one, other = item(GOOD, number=300), item(GOOD, number=301)
    adapter.cancel({one.token})
    results = adapter.run(batch([one, other], TEXT))
    assert [result.error_class for result in results] == ["REVOKED", ""]
    assert [problem.code for problem in results[0].problems] == ["SB-4002"]
    assert results[0].cost <= 0
    adapter.cancel(frozenset())
    assert adapter.run(batch([one], TEXT))[0].error_class == ""


def test_whoever_compiles_answers_for_each_item_runs_nothing_and_is_ready_to_run(adapter, tmp_path):
    if not isinstance(adapter, CanCompile):
        assert adapter.capabilities.kind in {"classical", "none"}, "circuits are compiled"
        return
    text, names = rotations(3)
    cache = CompileCache(tmp_path / "compiled")
    adapter.keep_in(cache)
    good, bad = request(text, angles(names, 1)), request("nobody has this")
    told = adapter.compile(batch([item(good), item(bad, number=1), item(good, number=2)], text))
    assert [one.origin for one in told] == ["anew", None, "memory"]
    assert [bool(one.problems) for one in told] == [False, True, False]
    assert all(one.seconds >= 0 for one in told)
    assert adapter.compile(batch([])) == []
    counts = cache.take_counts()
    (result,) = adapter.run(batch([item(good, number=50)], text))
    assert result.problems == ()
    assert (counts["anew"], cache.take_counts()["anew"]) == (1, 0)


def test_provenance_is_json_and_names_the_backend(adapter):
    known = batch([item(GOOD)], TEXT)
    adapter.run(known)
    assert json.loads(json.dumps(adapter.provenance(known)))["backend"] == adapter.capabilities.executed_on


def test_a_run_is_told_in_full(adapter):
    known = batch([item(GOOD, number=400)], TEXT)
    (ran,) = run_bundle(adapter, RUN, known.items, known.circuits, lambda: 5)
    told = json.loads(ran.provenance)
    assert all(told[name] for name in ALWAYS_TOLD)
    assert told["kind"] == adapter.capabilities.kind
    if adapter.capabilities.inline:
        return
    assert (told["ran_ms"], told["processing"].keys()) == ([5, 5], {"pre", "post"})
    assert isinstance(told.get("backend_version", ""), str)
    circuits = told.get("circuits", {})
    assert len(circuits) == (1 if adapter.capabilities.needs_circuits else 0)
    for facts in circuits.values():
        assert {"target", "depth", "gates", "seed_transpiler", "compiled", "compiled_key"} <= facts.keys()
        assert [len(facts[name]) for name in ("initial_layout", "layout")] == [2, 2]
        assert sum(facts["gates"].values()) == facts["operations"]


def test_what_it_says_of_its_backend_is_plausible_and_whoever_knows_nothing_is_healthy(adapter):
    state = state_of(adapter)
    assert state == plausible(state)
    assert isinstance(adapter, CanSense) or state == BackendState()
    assert state.unhealthy == ""


def test_a_calibration_is_fetched_by_its_content_address_and_named_by_what_ran_under_it(adapter):
    known = batch([item(GOOD)], TEXT)
    adapter.run(known)
    assert adapter.provenance(known).get("calibration_id", "") == calibration_of(adapter)
    if name := calibration_of(adapter):
        assert content_address(adapter.calibration(name)) == name
        assert adapter.calibration("0" * 64) is None


class Watched(dict):
    """Options that note which of them are asked for."""

    def __init__(self):
        super().__init__()
        self.read = set()

    def get(self, name, default=None):
        self.read.add(name)
        return super().get(name, default)


def test_a_request_may_have_just_the_options_that_the_adapter_reads(adapter):
    told = batch([item(GOOD, number=200)], TEXT)
    told.items[0].request["options"] = options = Watched()
    adapter.run(told)
    if adapter.capabilities.executed_on == "faulty":
        adapter.look_up(told)
    assert sorted(options.read) == sorted(READ_BY[adapter.capabilities.pool])


def test_every_adapter_says_which_options_of_a_request_it_reads():
    assert sorted(READ_BY) == sorted(REGISTRY)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_unknown_options_are_refused_all_at_once_where_they_stand(name):
    with pytest.raises(ShotbusError) as refused:
        load(name, {**NEEDED.get(name, {}), "warp": "9", "tea": "hot"}, place="$.pools.p.options")
    told = [(problem.code, problem.path) for problem in refused.value.problems]
    assert told == [("SB-2001", "$.pools.p.options.tea"), ("SB-2001", "$.pools.p.options.warp")]


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(ShotbusError, match="SB-1102") as refused:
        load("telepathy")
    assert "aer" in refused.value.problems[0].limit


def test_every_pool_of_the_default_configuration_has_its_adapter():
    for name, pool in Config().pools.items():
        said = load(pool.adapter or name).capabilities
        assert said.kind == pool.kind
        assert set(pool.modes) <= set(said.modes)
        assert pool.max_qubits <= said.max_qubits or pool.kind == "classical"


def test_asking_for_capabilities_imports_no_sdk():
    import subprocess

    code = "import sys; from shotbus.workers.adapters.base import REGISTRY, load; "
    code += f"[load(n, {NEEDED}.get(n, {{}})).capabilities for n in REGISTRY]; load('aer', {DEVICE}).capabilities; "
    code += "print('qiskit' in sys.modules, 'scipy' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]


def test_observables_of_many_terms_are_one_call():
    packed = PauliSums.from_terms([[("ZZ", 1.0), ("XX", 1.0)]])
    assert packed.count == 1
