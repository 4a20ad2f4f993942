"""The whole table of failures: what is tried, in which order, what it costs, how it ends."""

import pytest

from shotbus.broker.config import RetryConfig, TimeoutsConfig
from shotbus.broker.dispatcher.ladders import LADDERS, Action
from shotbus.broker.dispatcher.remedies import RULES, remedies
from shotbus.broker.dispatcher.retry import Failure, History, Means, judge
from shotbus.broker.dispatcher.retry_budget import RetryBudget
from shotbus.broker.stages import INDEX
from shotbus.broker.timeouts import OVERRUNS, left, limit_of, overrun

POLICY = RetryConfig(max_attempts=4, base=1.0, factor=2.0, cap=5.0, max_deaths=3, give_up_seconds=100.0)
EVERYTHING = Means(other_pools=9, fallback=True)
NOW = 1_000_000


def verdict(error_class, means=EVERYTHING, *, history=None, now_ms=NOW, policy=POLICY, **failure):
    told = Failure(error_class, **failure)
    return judge(told, history or History(), means, job="j", now_ms=now_ms, policy=policy)


def climb(error_class, means=EVERYTHING, *, times=12, step_ms=1_000, **failure):
    """The actions for the same failure over and over, until the job ends or leaves for its chain."""
    history, now, told = History(), NOW, []
    for _ in range(times):
        said = verdict(error_class, means, history=history, now_ms=now, **failure)
        told.append(said.remedy.partition(":")[2] if said.action is not Action.END else said.outcome)
        if said.action in (Action.END, Action.FALL_BACK):
            break
        history, now = history.after(said, now), now + said.delay_ms + step_ms
    return told


@pytest.mark.parametrize(
    ("error_class", "told"),
    [
        ("INVALID", ["failed"]),
        ("TRANSIENT", ["retry"] * 3 + ["fall_back"]),
        ("INTERNAL", ["retry"] * 3 + ["fall_back"]),
        ("never heard of", ["retry"] * 3 + ["fall_back"]),
        ("NOT_ACCEPTED", ["retry"] * 3 + ["fall_back"]),
        ("CONSTRAINT", ["reroute", "fall_back"]),
        ("TIMEOUT", ["retry", "reroute", "fall_back"]),
        ("CRASHED", ["retry", "retry", "dead_lettered"]),
        ("LOST", ["retry", "retry", "dead_lettered"]),
        ("POISON", ["dead_lettered"]),
        ("UNSTABLE", ["retry", "reroute", "fall_back"]),
        ("CANCELLED_BY_PROVIDER", ["retry", "reroute", "fall_back"]),
        ("BACKEND_DOWN", ["reroute"] * 12),
        ("THROTTLED", ["retry"] * 12),
        ("NOT_STARTED", ["retry"] * 12),
        ("REVOKED", ["retry"] * 12),
        ("UNKNOWN_OUTCOME", ["lookup"] * 6 + ["fall_back"]),
    ],
)
def test_each_class_climbs_its_ladder(error_class, told):
    assert climb(error_class) == told


@pytest.mark.parametrize(
    ("error_class", "told"),
    [
        ("TRANSIENT", ["retry"] * 3 + ["dead_lettered"]),
        ("CONSTRAINT", ["failed"]),
        ("TIMEOUT", ["retry", "timed_out"]),
        ("UNSTABLE", ["retry", "failed"]),
        ("BACKEND_DOWN", ["retry"] * 12),
        ("UNKNOWN_OUTCOME", ["lookup"] * 6 + ["dead_lettered"]),
    ],
)
def test_with_nowhere_else_to_go_it_ends_as_its_class_says(error_class, told):
    assert climb(error_class, Means()) == told


def test_every_ladder_ends_with_an_outcome_and_every_class_is_named_here():
    assert {ladder.outcome for ladder in LADDERS.values()} == {"failed", "dead_lettered", "timed_out"}
    assert len(LADDERS) == 16


@pytest.mark.parametrize("error_class", ["THROTTLED", "NOT_STARTED", "BACKEND_DOWN", "UNKNOWN_OUTCOME"])
def test_waiting_is_never_charged(error_class):
    assert not verdict(error_class, Means()).charged


def test_retry_after_is_honoured():
    assert verdict("THROTTLED", retry_after_ms=60_000).delay_ms == 60_000


def test_a_pool_that_is_down_is_waited_for_as_long_as_its_breaker_is_open():
    assert verdict("BACKEND_DOWN", Means(breaker_ms=44_000)).delay_ms == 44_000


def test_an_unstable_result_is_compiled_again():
    said = verdict("UNSTABLE")
    assert (said.action, dict(said.overrides)) == (Action.RETRY, {"recompile": "true"})


@pytest.mark.parametrize("error_class", ["LOST", "CRASHED", "TIMEOUT", "UNKNOWN_OUTCOME"])
def test_what_a_paid_provider_may_have_is_looked_up_first(error_class):
    said = verdict(error_class, EVERYTHING._replace(paid=True))
    assert (said.action, said.unsure) == (Action.LOOKUP, True)


@pytest.mark.parametrize(
    "error_class", ["LOST", "TRANSIENT", "THROTTLED", "TIMEOUT", "INTERNAL", "BACKEND_DOWN"]
)
def test_a_look_up_that_fails_is_repeated_and_costs_nothing(error_class):
    said = verdict(error_class, history=History(unsure=True))
    assert (said.action, said.charged, said.death) == (Action.LOOKUP, False, False)


def test_the_proof_that_nothing_was_accepted_allows_another_submission():
    said = verdict("NOT_ACCEPTED", history=History(unsure=True), answered=True)
    assert (said.action, said.unsure) == (Action.RETRY, False)
    killer = History(unsure=True, deaths=3)
    assert verdict("NOT_ACCEPTED", history=killer, answered=True).outcome == "dead_lettered"


def test_an_attempt_that_could_not_finish_before_the_deadline_is_not_made():
    tight = Means(deadline_ms=NOW + 2_000, expected_ms=1_800)
    assert verdict("TRANSIENT", tight).outcome == "expired"
    assert verdict("TRANSIENT", tight._replace(fallback=True)).action is Action.FALL_BACK
    assert verdict("TRANSIENT", tight._replace(expected_ms=100)).action is Action.RETRY


def test_a_paid_job_is_looked_up_even_past_its_deadline():
    assert verdict("UNKNOWN_OUTCOME", Means(deadline_ms=NOW - 1)).action is Action.LOOKUP


def test_nothing_is_repeated_long_after_the_first_failure():
    old = History(first_failed_ms=NOW - 100_000)
    assert verdict("THROTTLED", Means(), history=old).outcome == "dead_lettered"
    assert "100 s" in verdict("THROTTLED", Means(), history=old).reason


def test_the_trail_is_told_what_and_why():
    said = verdict("TIMEOUT")
    assert said.remedy == "TIMEOUT:retry"
    assert said.reason == f"TIMEOUT:retry after TIMEOUT, in {said.delay_ms} ms"


def problem(**told):
    return {"code": "SB-1110", "path": "$.circuit", "limit": "", "actual": "", "detail": "", **told}


@pytest.mark.parametrize(
    ("told", "names"),
    [
        ({"path": "$.shots", "limit": "4,000"}, ["shots-limit", "shots-half", "shots-quarter", "other-pool"]),
        ({"path": "$.shots", "limit": ""}, ["shots-half", "shots-quarter", "other-pool"]),
        ({"limit": "depth 300"}, ["optimise", "remap", "other-pool"]),
        ({"detail": "no edge between 3 and 7 in the coupling map"}, ["remap", "bigger-pool"]),
        ({"limit": "28 qubits (statevector)"}, ["bigger-pool"]),
        ({"limit": "memory of a worker process"}, ["bigger-pool"]),
        ({"path": "$.mode"}, ["other-pool"]),
        ({"limit": "something else"}, []),
    ],
)
def test_the_backends_words_suggest_what_to_try(told, names):
    assert [one.name for one in remedies([problem(**told)], shots=10_000, tried=())] == names


def test_shots_are_divided_and_never_changed_in_sum():
    found = remedies([problem(path="$.shots", limit="4000 shots")], shots=10_000, tried=())
    counts = [dict(one.overrides).get("shots_per_call") for one in found]
    assert counts == ["4000", "2000", "1000", None]


def test_each_remedy_is_tried_once_and_named():
    means = Means(other_pools=9, shots=10_000)
    refused = [problem(limit="depth 300")]
    assert climb("CONSTRAINT", means, problems=refused) == ["optimise", "remap", "other-pool", "failed"]


def test_no_rule_is_hidden_behind_an_earlier_one():
    words = [word for rule in RULES for word in rule.words]
    assert len(words) == len(set(words))


def test_overruns_are_of_stages_and_limits_that_exist():
    assert OVERRUNS.keys() <= INDEX.keys()
    assert {entry.error_class for entry in OVERRUNS.values()} <= LADDERS.keys()
    assert {entry.key for entry in OVERRUNS.values()} == set(TimeoutsConfig.__dataclass_fields__)


def test_a_stage_that_takes_too_long_fails_as_its_row_says():
    limits = TimeoutsConfig(compile=2.0, submit=3.0, execute=0.0)
    assert [overrun("compile", seconds, limits) for seconds in (2.0, 2.1)] == ["", "TIMEOUT"]
    assert overrun("provider-submit", 3.1, limits) == "UNKNOWN_OUTCOME"
    assert (overrun("execute", 1e9, limits), overrun("queue", 1e9, limits)) == ("", "")
    assert (left("compile", 0.5, limits, whole=9.0), left("compile", 0.5, limits, whole=1.0)) == (1.5, 1.0)
    assert (left("execute", 5.0, limits, whole=9.0), limit_of("queue", limits)) == (9.0, 0.0)


def test_a_budget_lets_a_burst_go_and_then_its_share():
    budget = RetryBudget(0.2, 3)
    assert [budget.take("p", "TRANSIENT", fresh_waits=True) for _ in range(4)] == [True] * 3 + [False]
    budget.dispatched("p", 4)
    assert [budget.take("p", "TRANSIENT", fresh_waits=True) for _ in range(2)] == [True, False]
    assert budget.take("p", "TIMEOUT", fresh_waits=True)
    assert budget.take("q", "TRANSIENT", fresh_waits=True)


def test_where_nothing_fresh_waits_repeats_go_as_they_come():
    budget = RetryBudget(0.2, 1)
    assert all(budget.take("p", "TRANSIENT", fresh_waits=False) for _ in range(100))
    assert budget.left("p", "TRANSIENT") == 1
