"""Which results may be served to which other jobs, and what counts as the same work."""

from dataclasses import replace

import pytest
from dispatcher_kit import config, request

from shotbus.broker.config import PoolConfig
from shotbus.broker.dispatcher.keys import Target, Targets, anywhere, cache_key, history_key, placed_key
from shotbus.broker.policy.config import DeviceConfig

PLAIN = Target("p", "m")
DEVICE = Target("p", "m", repeats=False)


def problem(payload=b"1", kind="ising", version=1):
    return {"kind": kind, "version": version, "payload": payload}


def key(target=PLAIN, **changes):
    return cache_key(request(1, **({"seed": 3} | changes)), target)


def test_a_simulators_answer_does_not_depend_on_the_problem_behind_the_circuit():
    assert key(problem=problem()) == key(problem=problem(b"2")) == key(problem=None) != ""


def test_a_solvers_answer_does():
    solver = PLAIN._replace(solves=True)
    stated = [problem(), problem(b"2"), problem(kind="hamiltonian"), problem(version=2)]
    assert len({key(solver, problem=one) for one in stated}) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"tenant": "t2"},
        {"circuit_id": "d" * 64},
        {"mode": "estimate"},
        {"shots": 9},
        {"points": 2},
        {"seed": 4},
        {"intent": "production"},
        {"bindings": b"x"},
        {"observables": b"x"},
        {"options": {"method": "statevector"}},
    ],
    ids=str,
)
def test_what_changes_the_answer_changes_the_key(changes):
    assert key(**changes) not in ("", key())


@pytest.mark.parametrize(
    "changes", [{"pool": "q"}, {"mark": "n"}, {"calibration": "c1"}, {"calibration": "c2"}], ids=str
)
def test_so_does_what_it_runs_on(changes):
    other = PLAIN._replace(**changes)
    assert key(other) not in ("", key())
    assert len({key(PLAIN._replace(calibration=one)) for one in ("", "c1", "c2")}) == 3


def test_an_unseeded_sample_is_served_to_nobody_else():
    assert key(seed=None) == ""


def test_a_device_does_not_repeat_itself_so_only_a_declared_age_lets_its_results_be_served_again():
    assert key(DEVICE) == key(DEVICE, mode="estimate", shots=0) == ""
    assert key(DEVICE, seed=None, max_result_age_ms=1_000) != ""


def test_another_backend_behind_a_pools_name_is_another_target():
    settings = config()
    pool = settings.pools["aer"]
    others = [
        replace(pool, adapter="noop"),
        replace(pool, kind="hardware"),
        replace(pool, device=DeviceConfig(basis_gates=("cz",))),
    ]
    marks = {Targets(replace(settings, pools={"aer": one})).of("aer").mark for one in (pool, *others)}
    assert len(marks) == 4
    # How many slots it has changes nothing of an answer.
    wider = replace(settings, pools={"aer": replace(pool, slots=9)})
    assert Targets(wider).of("aer") == Targets(settings).of("aer")


def test_a_target_is_what_the_pool_is_calibrated_to_now():
    told = {"aer": "monday"}
    targets = Targets(
        replace(config(), pools={"aer": PoolConfig(kind="hardware")}), lambda pool: told.get(pool, "")
    )
    assert (targets.of("aer").calibration, targets.of("aer").drifts) == ("monday", False)
    told["aer"] = ""
    assert targets.of("aer").drifts
    assert targets.of("gone").drifts


def history(**changes):
    return history_key(request(1, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"tenant": "t2"},
        {"circuit_id": "d" * 64},
        {"mode": "estimate"},
        {"points": 2},
        {"bindings": b"x"},
        {"observables": b"x"},
        {"problem": problem()},
    ],
    ids=str,
)
def test_another_question_has_another_history(changes):
    assert history(**changes) != history()


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 4},
        {"shots": 9},
        {"intent": "production"},
        {"options": {"a": "b"}},
        {"backend": "q"},
        {"precision": 0.1},
    ],
    ids=str,
)
def test_the_same_question_asked_otherwise_has_the_same_history(changes):
    assert history(**changes) == history()


def test_answers_add_up_only_where_place_and_options_are_the_same():
    def placed(target=PLAIN, **changes):
        return placed_key(request(1, **changes), target)

    others = [PLAIN._replace(pool="q"), PLAIN._replace(mark="n"), PLAIN._replace(calibration="c")]
    keys = {placed(), *map(placed, others), placed(options={"a": "b"})}
    assert len(keys) == 5
    assert {anywhere(one) for one in keys} == {history()}
    assert placed(DEVICE) == history()
    assert placed(DEVICE, max_result_age_ms=9) != history()
