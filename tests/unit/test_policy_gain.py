"""Expected gain: the formula with every term, and too little history as an answer of its own."""

from dataclasses import replace

import pytest
from policy_kit import busy, decide, job, looked_at, rule

from shotbus.broker.policy.facts import History, PoolView

GAIN = 'then = {{ pools = ["cheap", "good"], choose = "gain"{more} }}'


def known(cheap=0.1, good=0.5, comparisons=20):
    return {
        ("f", "cheap"): History(improvement=cheap, comparisons=comparisons),
        ("f", "good"): History(improvement=good, comparisons=comparisons),
    }


def policy(more="", rest=""):
    return rule(GAIN.format(more=more), rest=rest)


ASKED = {"family": "f", "value": 100.0}


def test_the_pool_with_the_largest_gain_is_chosen_and_every_term_is_in_the_trail():
    views = {"cheap": busy(10.0), "good": busy(20.0)}
    decision = decide(policy(), job(**ASKED, value_per_second=0.5), views, history=known())
    assert decision.pool == "good"
    terms = looked_at(decision, "candidate")[1]["gain"]
    assert terms == {
        "value": 100.0,
        "success": None,
        "improvement": 0.5,
        "comparisons": 20,
        "needed": 20,
        "price": 5.0,
        "value_per_second": 0.5,
        "eta_seconds": pytest.approx(20.002),
        "gain": pytest.approx(100 * 0.5 - 5 - 0.5 * 20.002),
    }


def test_a_pool_that_fails_most_of_what_it_is_sent_gains_less():
    history = known()
    history["f", "good"] = replace(history["f", "good"], runs=60, success=0.1)
    decision = decide(policy(), job(**ASKED), history=history)
    assert decision.pool == "cheap"
    terms = looked_at(decision, "candidate")[1]["gain"]
    assert (terms["success"], terms["gain"]) == (0.1, pytest.approx(100 * 0.1 * 0.5 - 5))


def test_waiting_that_costs_more_than_the_better_answer_changes_the_choice():
    views = {"cheap": busy(1.0), "good": busy(100.0)}
    assert decide(policy(), job(**ASKED, value_per_second=0.5), views, history=known()).pool == "cheap"


@pytest.mark.parametrize(
    ("asked", "history", "why"),
    [
        (ASKED, known(comparisons=19), "19 of 20 comparisons"),
        (ASKED, {}, "0 of 20 comparisons"),
        ({"family": "f"}, known(), "declares no value"),
        (ASKED | {"value_per_second": 1.0}, known(), "the wait is not known"),
    ],
)
def test_what_is_not_known_makes_no_gain_and_the_rule_passes_the_job_on(asked, history, why):
    decision = decide(policy(), job(**asked), history=history)
    assert (decision.rule, decision.pool) == ("(default)", "aer")
    assert why in str(looked_at(decision, "candidate")[0]["unknown"])


def test_with_too_little_history_the_configuration_says_what_to_do():
    asked = job(**ASKED)
    assert decide(policy(', unknown = "first"'), asked).pool == "cheap"
    assert decide(policy(', unknown = "default"'), asked).pool == "aer"
    explored = decide(policy(", explore = 100"), asked)
    assert (explored.pool, explored.explore) == ("cheap", True)


def test_a_pool_about_which_little_is_known_is_explored_by_its_share_although_another_is_known():
    history = {("f", "cheap"): History(improvement=0.5, comparisons=20)}
    chosen = [
        decide(policy(", explore = 10"), job(**ASKED | {"job_id": f"{n:032x}"}), history=history).pool
        for n in range(1_000)
    ]
    assert set(chosen) == {"cheap", "good"}
    assert 60 < chosen.count("good") < 140


def test_no_gain_above_zero_passes_the_job_on_or_goes_down_the_chain():
    history = known(cheap=0.001, good=0.01)
    decision = decide(policy(), job(**ASKED), history=history)
    assert (decision.rule, looked_at(decision, "passed on")[0]["rule"]) == ("(default)", "r")
    assert decide(policy(', fallback = ["noop"]'), job(**ASKED), history=history).pool == "noop"


def test_a_paused_pool_is_waited_for_only_when_it_is_known_to_be_worth_it():
    paused = {"cheap": PoolView(state="paused"), "good": PoolView(state="paused")}
    assert decide(policy(), job(**ASKED), paused, history=known()).waits
    assert decide(policy(), job(**ASKED), paused).pool == "aer"
