"""The fallback chain: in order, each step only where it can help, and the rest left for later."""

import pytest
from policy_kit import NOW, busy, circuit, decide, job, looked_at, rule

from shotbus.broker.policy.facts import PoolView
from shotbus.broker.policy.steps import Step

DOWN = {"good": PoolView(state="breaker_open")}
NIGHT = '[windows.night]\ncron = "0 22 * * *"\nminutes = 120\n'
HOUR = 3_600_000


def chain(*steps, rest=NIGHT):
    told = ", ".join(f'"{step}"' for step in steps)
    return rule(f'then = {{ pools = ["good"], fallback = [{told}] }}', rest=rest)


def test_a_usable_choice_keeps_the_whole_chain_for_later():
    decision = decide(chain("cache:60", "cheap"))
    assert (decision.pool, decision.step) == ("good", None)
    assert decision.fallback == (Step("cache", seconds=60.0), Step("pool", "cheap"))


def test_a_pool_that_is_down_sends_the_job_to_the_next_that_works():
    views = DOWN | {"secret": PoolView(state="paused")}
    decision = decide(chain("secret", "cheap", "review"), views=views)
    assert (decision.pool, decision.step) == ("cheap", Step("pool", "cheap"))
    assert decision.fallback == (Step("review"),)
    assert [(one["to"], one["taken"]) for one in looked_at(decision, "fallback")] == [
        ("secret", False),
        ("cheap", True),
    ]


def test_an_earlier_result_is_looked_for_and_a_miss_goes_on_with_the_rest():
    policy = chain("cache:60", "cheap")
    first = decide(policy, views=DOWN)
    assert (first.action, first.pool, first.step.seconds) == ("cache", "", 60.0)
    second = policy.follow(job(), first, DOWN, now_ms=NOW)
    assert (second.action, second.pool, second.fallback) == ("run", "cheap", ())
    last = policy.follow(job(), second, DOWN, now_ms=NOW)
    assert last.problems[0].code == "SB-1154"


def test_a_job_is_deferred_to_a_window_that_comes_and_not_to_one_that_is_open():
    deferred = decide(chain("defer:night"), views=DOWN)
    assert (deferred.pool, deferred.not_before_ms) == ("good", NOW + 12 * HOUR)
    inside = decide(chain("defer:night"), views=DOWN, now_ms=NOW + 13 * HOUR)
    assert (inside.waits, inside.step) == (True, None)
    assert looked_at(inside, "fallback")[0]["why"] == "it is open, and that does not help"


def test_a_window_behind_the_deadline_is_no_way_out():
    decision = decide(chain("defer:night"), job(deadline_ms=NOW + HOUR), {"good": busy(10_000.0)})
    assert decision.problems[0].code == "SB-1152"


def test_a_job_is_demoted_once():
    decision = decide(chain("demote:bulk"), job(priority="production"), DOWN)
    assert (decision.pool, decision.priority, decision.waits) == ("good", "bulk", True)
    assert decide(chain("demote:bulk"), job(priority="bulk"), DOWN).priority == ""


def test_a_person_is_asked_also_about_a_job_that_fits_nowhere():
    wide = job(circuit=circuit("qubit[40] q; h q;"))
    decision = decide(chain("cheap", "review"), wide)
    assert (decision.action, decision.pool, decision.requires) == ("review", "", ("approval",))
    assert decide(chain("review"), views=DOWN).pool == "good"
    assert decide(chain("review"), job(satisfied=("approval",)), DOWN).waits


def test_a_chain_that_says_none_stops_there():
    assert decide(chain("none", "cheap"), views=DOWN).waits


def test_the_jobs_own_chain_goes_before_the_rules():
    assert decide(chain("cheap"), job(fallback=("noop",)), DOWN).pool == "noop"
    assert decide(chain("cheap"), job(fallback=("none",)), DOWN).waits
    assert decide(chain("cheap"), job(fallback=("nowhere", "noop")), DOWN).pool == "noop"


def test_a_deadline_missed_by_every_candidate_goes_down_the_chain():
    asked = job(deadline_ms=NOW + 5_000)
    assert decide(chain("cheap"), asked, {"good": busy(60.0), "cheap": busy(1.0)}).pool == "cheap"


@pytest.mark.parametrize("text", ["cheap", "cache:60", "defer:night", "demote:bulk", "review", "none"])
def test_a_step_reads_what_it_writes(text):
    assert str(Step.parse(text)) == text


@pytest.mark.parametrize("text", ["", "cache:", "cache:x", "cache:-1", "cache:nan", "defer:", "frob:x", ":x"])
def test_a_step_that_is_none_is_refused(text):
    with pytest.raises(ValueError):
        Step.parse(text)
