"""Admission: each flaw of an envelope has its code, and all of them are said at once."""

import pytest
from dispatcher_kit import START_MS, request

from shotbus.broker.config import Config, LimitsConfig, PoolConfig
from shotbus.broker.dispatcher.admission import MAX_YEAR_MS, check_pool, check_request
from shotbus.schemas.ids import job_id

POOLS = {
    "aer": PoolConfig(adapter="aer"),
    "estimates": PoolConfig(modes=("estimate",)),
    "classical": PoolConfig(kind="classical", modes=("estimate",)),
    "solver": PoolConfig(adapter="classical", modes=("estimate",)),
    "noop": PoolConfig(kind="none"),
}
CONFIG = Config(pools=POOLS, limits=LimitsConfig(max_shots=1_000, max_points=50, max_field=64, max_tags=2))
PROBLEM = {"kind": "ising", "version": 1, "payload": b""}


def found(**changes):
    problems = check_request(request(1, **changes), CONFIG, now_ms=START_MS)
    return [(problem.code, problem.path) for problem in problems]


def pool_found(pool, **changes):
    return [(problem.code, problem.path) for problem in check_pool(request(1, **changes), pool, CONFIG)]


def test_a_good_request_has_no_problem():
    assert found() == []
    assert pool_found("aer") == []


@pytest.mark.parametrize(
    ("changes", "code", "path"),
    [
        ({"tenant": ""}, "SB-1107", "$.tenant"),
        ({"principal": ""}, "SB-1107", "$.principal"),
        ({"circuit_id": ""}, "SB-1107", "$.circuit_id"),
        ({"priority": "urgent"}, "SB-1101", "$.priority"),
        ({"priority": ""}, "SB-1101", "$.priority"),
        ({"shots": -1}, "SB-1103", "$.shots"),
        ({"shots": 1_001}, "SB-1103", "$.shots"),
        ({"shots": 2**63 - 1}, "SB-1103", "$.shots"),
        ({"points": 0}, "SB-1305", "$.points"),
        ({"points": 51}, "SB-1305", "$.points"),
        ({"seed": -1}, "SB-1108", "$.seed"),
        ({"seed": 2**31}, "SB-1108", "$.seed"),
        ({"mode": "estimate"}, "SB-1107", "$.observables"),
        ({"deadline_ms": START_MS}, "SB-1104", "$.deadline"),
        ({"deadline_ms": -1}, "SB-1104", "$.deadline"),
        ({"deadline_ms": MAX_YEAR_MS + 1}, "SB-1108", "$.deadline"),
        ({"not_before_ms": MAX_YEAR_MS + 1}, "SB-1108", "$.not_before"),
        ({"deadline_ms": START_MS + 5, "not_before_ms": START_MS + 5}, "SB-1104", "$.deadline"),
        ({"experiment": "x" * 65}, "SB-1105", "$.experiment"),
        ({"sweep_id": "x" * 65}, "SB-1105", "$.sweep_id"),
        ({"tags": ["a", "b", "c"]}, "SB-1105", "$.tags"),
        ({"options": {"method": "", "layout": "", "seconds": ""}}, "SB-1105", "$.options"),
        ({"options": {"shots_per_cal": "5"}}, "SB-1119", "$.options.shots_per_cal"),
    ],
    ids=str,
)
def test_each_flaw_has_its_code_and_place(changes, code, path):
    assert found(**changes) == [(code, path)]


@pytest.mark.parametrize(
    "changes",
    [
        {"shots": 0, "mode": "estimate", "observables": b"x"},
        {"shots": 1_000, "points": 50},
        {"seed": 0},
        {"seed": 2**31 - 1},
        {"deadline_ms": START_MS + 1},
        {"deadline_ms": MAX_YEAR_MS},
        {"not_before_ms": -5},
        {"experiment": "x" * 64},
        {"mode": "estimate", "problem": PROBLEM},
    ],
    ids=str,
)
def test_the_limits_themselves_are_allowed(changes):
    assert found(**changes) == []


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../../etc/passwd",
        "a" * 31,
        "a" * 33,
        "A" * 32,
        "g" * 32,
        "0x" + "a" * 30,
        " " * 32,
        "a" * 31 + "\n",
    ],
)
def test_a_job_id_that_is_none_is_refused(name):
    assert found(job_id=name) == [("SB-1109", "$.job_id")]


def test_an_id_with_a_key_must_follow_from_tenant_session_and_key():
    mine = job_id("ada", session="s", idempotency_key="k")
    assert found(job_id=mine, session_id="s", idempotency_key="k") == []
    assert found(job_id=mine, session_id="s", idempotency_key="other") == [("SB-1109", "$.job_id")]
    assert found(job_id=mine, session_id="s", idempotency_key="k", tenant="eve") == [("SB-1109", "$.job_id")]


def test_everything_wrong_is_said_at_once():
    wrong = found(tenant="", shots=-1, points=0, seed=-1, deadline_ms=0, priority="urgent", tags=["a"] * 9)
    assert [code for code, _ in wrong] == [
        "SB-1107",
        "SB-1105",
        "SB-1103",
        "SB-1305",
        "SB-1108",
        "SB-1104",
        "SB-1101",
    ]


@pytest.mark.parametrize(
    ("pool", "changes", "code", "path"),
    [
        ("nowhere", {}, "SB-1102", "$.backend"),
        ("", {}, "SB-1102", "$.backend"),
        ("estimates", {}, "SB-1110", "$.mode"),
        ("aer", {"shots": 0}, "SB-1103", "$.shots"),
        ("classical", {"mode": "estimate", "observables": b"x"}, "SB-1110", "$.problem"),
        ("solver", {"mode": "estimate", "observables": b"x"}, "SB-1110", "$.problem"),
        ("aer", {"mode": "estimate", "problem": PROBLEM}, "SB-1107", "$.observables"),
    ],
)
def test_a_pool_that_cannot_run_a_job_says_why(pool, changes, code, path):
    assert pool_found(pool, **changes) == [(code, path)]


def test_a_pool_that_computes_nothing_takes_no_shots_too():
    assert pool_found("noop", shots=0) == []


def test_exact_estimation_and_problems_find_their_pools():
    assert pool_found("aer", shots=0, mode="estimate", observables=b"x") == []
    assert pool_found("classical", shots=0, mode="estimate", problem=PROBLEM) == []
