"""Rules: the first that matches decides, and the trail says why others did not."""

import dataclasses
import json

import pytest
from policy_kit import JOB, NOW, busy, circuit, config_of, decide, job, looked_at, rule

from shotbus.broker.config import Config
from shotbus.broker.policy.facts import PoolView
from shotbus.broker.policy.policy import Policy


def test_without_rules_every_ordinary_job_gets_the_same_object_for_the_default_pool():
    policy = Policy.compile(Config())
    decision = decide(policy)
    assert decision is decide(policy, job(tenant="other", circuit=circuit()))
    assert (decision.pool, decision.action, decision.problems) == ("aer", "run", ())


def test_going_from_simulator_to_qpu_is_one_line():
    assert decide(Policy.compile(config_of('[routing]\ndefault = "good"'))).pool == "good"


@pytest.mark.parametrize(
    ("when", "taken", "passed"),
    [
        ('classes = ["production"]', {"priority": "production"}, {"priority": "bulk"}),
        ('tenants = ["acme*", "!acme-test"]', {"tenant": "acme-1"}, {"tenant": "acme-test"}),
        ('principals = ["ada"]', {"principal": "ada"}, {"principal": "bob"}),
        ('roles = ["admin"]', {"roles": ("user", "admin")}, {"roles": ("user",)}),
        ('intents = ["test"]', {"intent": "test"}, {"intent": "production"}),
        ('experiments = ["*"]', {"experiment": "h2"}, {"experiment": ""}),
        ('sessions = ["!*"]', {"session": ""}, {"session": "s"}),
        ('tags = ["ci"]', {"tags": ("a", "ci")}, {"tags": ()}),
        ('modes = ["estimate"]', {"mode": "estimate"}, {"mode": "sample"}),
        ('points = "..10"', {"points": 10}, {"points": 11}),
        ('shots = "0"', {"shots": 0}, {"shots": 1}),
        ('confidence = "0.9.."', {"confidence": 0.95}, {"confidence": None}),
        ('deadline_seconds = "..60"', {"deadline_ms": NOW + 60_000}, {"deadline_ms": None}),
        ('qubits = "3"', {"circuit": circuit()}, {"circuit": None}),
        ('depth = "..2"', {"circuit": circuit("qubit[3] q; h q;")}, {"circuit": circuit()}),
        ('two_qubit_gates = "2.."', {"circuit": circuit()}, {"circuit": circuit("qubit q; h q;")}),
        ('gates = ["h", "cx"]', {"circuit": circuit()}, {"circuit": circuit("qubit q; t q;")}),
        ('connectivity = "line"', {"circuit": circuit()}, {"circuit": None}),
        (
            'mid_circuit = "no"',
            {"circuit": circuit()},
            {"circuit": circuit("qubit q; bit c; c = measure q; x q;")},
        ),
        ('degree = "2.."', {"circuit": circuit()}, {"circuit": circuit("qubit[2] q; cx q[0], q[1];")}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_condition_takes_what_fits_and_says_why_it_passes_over_the_rest(when, taken, passed):
    policy = rule(f'when = {{ {when} }}\nthen = {{ pools = ["good"] }}')
    assert decide(policy, job(**taken)).pool == "good"
    decision = decide(policy, job(**passed))
    assert decision.pool == "aer"
    first = looked_at(decision, "rule")[0]
    assert not first["matched"]
    assert first["why"].startswith(when.partition(" ")[0])


def test_a_family_is_taken_from_the_version_named_on_and_only_when_it_is_registered():
    rest = '[families.uccsd]\nversions = ["1", "1.5", "2"]\n'
    policy = rule('when = { families = ["uccsd@1.5"] }\nthen = { pools = ["good"] }', rest=rest)
    chosen = {
        version: decide(policy, job(family="uccsd", family_version=version)).pool
        for version in ("1", "1.5", "2")
    }
    assert chosen == {"1": "aer", "1.5": "good", "2": "good"}
    assert decide(policy, job(family="other", family_version="2")).pool == "aer"


def test_the_first_rule_that_matches_wins_and_later_ones_are_not_looked_at():
    text = "".join(
        f'[[routing.rules]]\nname = "{name}"\nthen = {{ pools = ["{pool}"] }}\n'
        for name, pool in (("one", "cheap"), ("two", "good"))
    )
    decision = decide(Policy.compile(config_of(text)))
    assert (decision.rule, decision.pool) == ("one", "cheap")
    assert [step["rule"] for step in looked_at(decision, "rule")] == ["one"]


def test_a_pool_that_the_job_names_is_taken_with_the_demands_of_the_rule_that_has_it():
    policy = rule('then = { pools = ["good"], require = ["approval"], fallback = ["cheap"] }')
    named = decide(policy, job(backend="good"))
    assert (named.pool, named.requires, named.fallback) == ("good", ("approval",), ())
    assert decide(policy, job(backend="cheap")).requires == ()
    assert decide(policy, job(backend="gone")).problems[0].code == "SB-1102"


def test_what_is_required_and_met_already_is_not_asked_for_again():
    policy = rule('then = { require = ["budget", "green_run", "baseline"] }')
    assert decide(policy, job(satisfied=("green_run",))).requires == ("budget", "baseline")


def test_a_flag_switches_a_rule_and_the_switch_at_run_time_goes_over_the_configured_one():
    policy = rule('flag = "new"\nthen = { pools = ["good"] }', rest="[flags]\nnew = false\n")
    off = decide(policy)
    assert (off.pool, looked_at(off, "rule")[0]["why"]) == ("aer", "flag new is off")
    assert decide(policy, flags={"new": True}).pool == "good"
    assert decide(policy, flags={"new": 100.0}).pool == "good"


def test_a_session_stays_on_its_pool_while_that_is_usable():
    policy = rule('then = { pools = ["cheap", "good"], choose = "cheapest", sticky = true }')
    asked = job(session="s", session_pool="good")
    assert decide(policy, asked).pool == "good"
    assert decide(policy, asked, {"good": PoolView(state="breaker_open")}).pool == "cheap"


def test_a_latency_budget_goes_by_class_and_a_rule_may_name_another():
    rest = "[latency.bulk]\nqueue = 60\n[latency.tight]\nqueue = 5\ntotal = 9\n"
    plain = rule('when = { tenants = ["x"] }', rest=rest)
    assert decide(plain, job(priority="bulk")).max_queue_seconds == 60
    assert decide(plain, job(priority="experiment")).latency is None
    named = rule('then = { latency_budget = "tight" }', rest=rest)
    decision = decide(named, job(priority="bulk"))
    assert (decision.latency.total, decision.max_queue_seconds) == (9, 5)


@pytest.mark.parametrize(
    ("budget", "wait", "pool"),
    [
        ("total = 20", 15, "cheap"),
        ("total = 20", 25, "good"),
        ("total = 20\nadmit = 1\ncompile = 4\ndeliver = 1", 15, "good"),
    ],
)
def test_pools_that_would_overrun_a_part_of_the_latency_budget_are_passed_over(budget, wait, pool):
    then = 'then = { pools = ["cheap"], fallback = ["good"], latency_budget = "tight" }'
    policy = rule(then, rest=f"[latency.tight]\n{budget}\n")
    decision = decide(policy, views={"cheap": busy(wait)})
    assert decision.pool == pool
    alone = decide(
        rule(then.replace('"good"', ""), rest=f"[latency.tight]\n{budget}\n"), views={"cheap": busy(wait)}
    )
    assert (alone.pool, alone.waits) == ("cheap", pool == "good")


def test_a_pool_on_which_the_run_takes_longer_than_its_part_is_passed_over():
    then = 'then = { pools = ["cheap"], fallback = ["good"], latency_budget = "tight" }'
    policy = rule(then, rest="[latency.tight]\nexecute = 5\n")
    assert decide(policy, views={"cheap": PoolView(seconds_per_point=4.0)}).pool == "cheap"
    decision = decide(policy, views={"cheap": PoolView(seconds_per_point=6.0)})
    assert decision.pool == "good"
    assert "execute: 6.000 s, limit 5 s" in looked_at(decision, "candidate")[0]["rejected"][0]


def test_a_job_that_waited_too_long_is_routed_to_another_pool():
    policy = rule('then = { pools = ["cheap", "good"], max_queue_seconds = 30 }')
    assert decide(policy, views={"cheap": busy(20)}).pool == "cheap"
    assert decide(policy, views={"cheap": busy(20)}).others == ("good",)
    assert decide(policy, views={"cheap": busy(31)}).pool == "good"
    assert decide(policy, job(tried=("cheap",))).pool == "good"


def test_a_cheap_pool_may_see_the_job_first_and_its_survivors_go_on():
    screen = 'prescreen = { pool = "cheap", quantity = "min_ev", keep = "..-1.1" }'
    decision = decide(rule(f'then = {{ pools = ["good"], {screen} }}'))
    assert (decision.pool, decision.prescreen.pool) == ("good", "cheap")
    assert decision.prescreen.keep.holds(-1.2)
    assert not decision.prescreen.keep.holds(-1.0)


def test_every_trail_is_json_and_names_rule_candidates_and_decision():
    policy = rule(
        'then = { pools = ["cheap", "good"], choose = "soonest", fallback = ["cache:60", "review"] }'
    )
    for asked in (job(), job(deadline_ms=NOW + 1), job(circuit=circuit("qubit[40] q; h q;"))):
        decision = decide(policy, asked, {"cheap": busy(9.0), "good": busy(8.0)})
        told = json.loads(json.dumps(decision.trail))
        assert [step["pool"] for step in told if step["step"] == "candidate"][:2] == ["cheap", "good"]
        assert told[-1]["step"] in ("decided", "refused")


def test_alike_jobs_have_one_signature_and_others_have_not():
    policy = rule('when = { experiments = ["h*"] }\nthen = { pools = ["good"] }')
    first = job(experiment="h2")
    assert policy.signature(first) == policy.signature(dataclasses.replace(first, job_id="1" * 32))
    assert policy.signature(first) != policy.signature(dataclasses.replace(first, experiment="x"))
    assert policy.signature(dataclasses.replace(first, deadline_ms=NOW)) is None
    assert Policy.compile(Config()).signature(job(job_id=JOB)) == ()


def test_a_request_that_needs_no_deciding_is_answered_before_any_work():
    request = {"backend": "", "deadline_ms": None, "data_class": "", "fallback": []}
    policy = Policy.compile(Config())
    assert policy.shortcut(request).pool == "aer"
    assert policy.shortcut(request | {"data_class": "private"}) is None
    assert policy.shortcut(request | {"backend": "noop"}) is None
    assert rule("then = {}").shortcut(request) is None


def test_a_default_pool_that_is_not_there_refuses_what_has_to_be_decided():
    policy = Policy.compile(dataclasses.replace(Config(), pools={"noop": Config().pools["noop"]}))
    decision = decide(policy, job(deadline_ms=NOW + 1_000))
    assert [(one.code, one.actual) for one in decision.problems] == [("SB-1102", "aer")]
