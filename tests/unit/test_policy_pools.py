"""Candidates: what is held against a pool, what is chosen, and what becomes of a job that nobody can take."""

import pytest
from policy_kit import NOW, busy, circuit, config_of, decide, job, looked_at, rule

from shotbus.broker.config import PriceConfig
from shotbus.broker.policy.facts import History, PoolView
from shotbus.broker.policy.policy import Policy
from shotbus.broker.treasury.periods import stamp

BOTH = 'pools = ["cheap", "good"]'
HOUR = 3_600_000


def rejected(decision, pool):
    return next(step["rejected"] for step in looked_at(decision, "candidate") if step["pool"] == pool)


@pytest.mark.parametrize(
    ("choose", "views", "pool"),
    [
        ("first", {}, "cheap"),
        ("cheapest", {"cheap": PoolView(price=PriceConfig(per_task=9.0))}, "good"),
        ("soonest", {"cheap": busy(5.0), "good": busy(4.0)}, "good"),
        ("soonest", {"good": busy(4.0)}, "good"),
        ("fidelity", {}, "good"),
        ("fidelity", {"cheap": PoolView(fidelity=0.999)}, "cheap"),
    ],
)
def test_a_criterion_chooses_and_what_is_not_known_comes_last(choose, views, pool):
    assert decide(rule(f'then = {{ {BOTH}, choose = "{choose}" }}'), views=views).pool == pool


@pytest.mark.parametrize(
    ("where", "views", "why"),
    [
        ('price = "2.."', {}, "price"),
        ('kinds = ["hardware"]', {}, "kind"),
        ('fidelity = "0.99.."', {}, "fidelity"),
        ('wait_seconds = "..3"', {"cheap": busy(4.0), "good": busy(1.0)}, "wait_seconds"),
        (
            'calibration_age_seconds = "..60"',
            {"cheap": PoolView(calibration_age_seconds=61), "good": PoolView(calibration_age_seconds=1)},
            "calibration_age_seconds",
        ),
        (
            't1_us = "100.."',
            {"cheap": PoolView(t1_us=99)},
            "t1_us",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_pool_that_is_not_as_the_rule_wants_it_is_passed_over_with_the_number(where, views, why):
    decision = decide(rule(f"where = {{ {where} }}\nthen = {{ {BOTH} }}"), views=views)
    assert decision.pool == "good"
    assert rejected(decision, "cheap")[0].startswith(why)


def test_native_wants_the_pools_own_gates_and_couplings():
    policy = rule('where = { native = true }\nthen = { pools = ["good", "secret"] }')
    assert decide(policy, job(circuit=circuit("qubit[3] q; sx q[0]; cx q[1], q[2];"))).pool == "good"
    decision = decide(policy, job(circuit=circuit("qubit[3] q; h q[0]; cx q[0], q[2];")))
    assert decision.pool == "secret"
    assert "gates h, 1 couplings missing" in rejected(decision, "good")[0]


@pytest.mark.parametrize("state", ["paused", "draining", "breaker_open", "unserved"])
def test_a_pool_that_takes_no_work_is_passed_over_or_waited_for_when_there_is_no_other(state):
    views = {"cheap": PoolView(state=state)}
    assert decide(rule(f"then = {{ {BOTH} }}"), views=views).pool == "good"
    alone = decide(rule('then = { pools = ["cheap"] }'), views=views)
    assert (alone.pool, alone.waits, alone.action) == ("cheap", True, "run")


def test_a_job_that_fits_nowhere_is_refused_with_the_numbers_of_every_candidate():
    decision = decide(rule(f"then = {{ {BOTH} }}"), job(circuit=circuit("qubit[40] q; h q;")))
    assert decision.refused
    assert [(one.code, one.limit, one.actual) for one in decision.problems] == [
        ("SB-1116", "cheap: qubits 8", "40"),
        ("SB-1116", "good: qubits 30", "40"),
    ]


def test_a_circuit_that_is_too_deep_for_every_pool_is_refused_with_the_numbers():
    decision = decide(
        rule(f"then = {{ {BOTH} }}"), job(circuit=circuit("qubit q; for int i in [1:30000] { h q; }"))
    )
    assert {(one.code, one.path) for one in decision.problems} == {("SB-1117", "$.circuit")}
    assert decision.problems[0].limit == "cheap: depth 20000"


def test_a_job_that_asks_too_little_money_is_refused_at_that_field():
    problems = decide(rule('then = { pools = ["secret"] }'), job(max_cost=-1.0)).problems
    assert [(one.code, one.path) for one in problems] == [("SB-1110", "$.max_cost")]


def test_a_deadline_that_no_pool_can_meet_is_refused_with_the_numbers():
    views = {"cheap": busy(20.0), "good": busy(40.0)}
    decision = decide(rule(f"then = {{ {BOTH} }}"), job(deadline_ms=NOW + 5_000), views)
    assert {one.code for one in decision.problems} == {"SB-1152"}
    assert decision.problems[0].limit == "in 5.000 s"
    assert decision.problems[0].actual.startswith("cheap: 10.002 s at best (20.002 s, up to 30.002 s)")


def test_a_deadline_is_not_refused_for_a_guess():
    policy = rule('then = { pools = ["cheap"] }')
    assert not decide(policy, job(deadline_ms=NOW + 5_000)).refused
    assert not decide(policy, job(deadline_ms=NOW + 11_000), {"cheap": busy(20.0)}).refused


def test_a_deadline_that_only_a_slower_choice_misses_takes_the_other_pool():
    asked, views = job(deadline_ms=NOW + 5_000), {"cheap": busy(20.0), "good": busy(1.0)}
    assert decide(rule(f'then = {{ {BOTH}, choose = "cheapest" }}'), asked, views).pool == "good"


def test_a_default_pool_without_any_rule_refuses_a_hopeless_deadline_too():
    policy = Policy.compile(config_of('[routing]\ndefault = "good"'))
    assert decide(policy, job(deadline_ms=NOW + 1_000), {"good": busy(9.0)}).problems[0].code == "SB-1152"


def test_a_price_above_what_the_job_may_cost_is_refused():
    assert decide(rule(f"then = {{ {BOTH} }}"), job(max_cost=0.5)).problems[0].actual == "1"
    assert decide(rule('then = { pools = ["good", "cheap"] }'), job(max_cost=2.0)).pool == "cheap"


HOURS = """
[windows.night]
cron = "0 22 * * *"
minutes = 120
[pools.good.access]
hours = "night"
"""


def test_a_closed_pool_is_passed_over_and_waited_for_until_it_opens():
    policy = rule(f'then = {{ pools = ["good", "cheap"] }}\n{HOURS}')
    assert decide(policy).pool == "cheap"
    alone = decide(policy, job(backend="good"))
    assert (alone.pool, alone.not_before_ms) == ("good", NOW + 12 * HOUR)
    assert decide(policy, job(backend="good"), now_ms=NOW + 13 * HOUR).not_before_ms == 0


def test_opening_hours_behind_the_deadline_are_a_refusal():
    policy = rule(f'then = {{ pools = ["good"] }}\n{HOURS}')
    decision = decide(policy, job(deadline_ms=NOW + HOUR))
    assert decision.problems[0].code == "SB-1152"


def test_a_reserved_pool_is_its_tenants_alone_in_that_window():
    reserved = HOURS.replace('hours = "night"', 'reservations = ["acme@night"]')
    policy = rule(f'then = {{ pools = ["good"] }}\n{reserved}')
    inside = NOW + 13 * HOUR
    assert decide(policy, job(tenant="acme"), now_ms=inside).not_before_ms == 0
    assert decide(policy, job(tenant="other"), now_ms=inside).not_before_ms == NOW + 14 * HOUR
    assert decide(policy, job(tenant="other")).not_before_ms == 0


def test_a_refusal_by_a_reservation_says_who_has_the_pool_and_until_when():
    always = '[windows.always]\ncron = "0 0 * * *"\nminutes = 1440\n[pools.good.access]\n'
    policy = rule(f'then = {{ pools = ["good"] }}\n{always}reservations = ["acme@always"]')
    (problem,) = decide(policy, job(tenant="other")).problems
    assert (problem.code, problem.path, problem.actual) == ("SB-1110", "$.backend", "tenant other")
    assert problem.limit == "good: reserved for acme, window always, without end"


def test_a_refusal_by_a_reservation_of_the_jobs_own_window_says_until_when_that_is():
    reserved = HOURS.replace('hours = "night"', 'reservations = ["acme@night"]')
    policy = rule(f'then = {{ pools = ["good"] }}\n{reserved}')
    (problem,) = decide(policy, job(tenant="other", window="night")).problems
    assert problem.limit == f"good: reserved for acme, window night, until {stamp(NOW + 14 * HOUR)}"
    assert decide(policy, job(tenant="acme", window="night")).problems == ()


def test_a_rules_window_and_the_jobs_own_defer_it():
    policy = rule(f'then = {{ pools = ["cheap"], window = "night" }}\n{HOURS}')
    assert decide(policy).not_before_ms == NOW + 12 * HOUR
    plain = rule(f'then = {{ pools = ["cheap"] }}\n{HOURS}')
    assert decide(plain, job(window="night")).not_before_ms == NOW + 12 * HOUR


def test_a_measured_condition_needs_history_and_then_goes_by_it():
    policy = rule(f'where = {{ success = "0.9.." }}\nthen = {{ {BOTH}, unknown = "next" }}')
    asked = job(family="f")
    assert decide(policy, asked).rule == "(default)"
    history = {("f", "cheap"): History(runs=20, success=0.5), ("f", "good"): History(runs=20, success=0.95)}
    decision = decide(policy, asked, history=history)
    assert decision.pool == "good"
    assert rejected(decision, "cheap") == ["success: 0.5 is not 0.9.., limit 0.9.."]
