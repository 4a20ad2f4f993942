"""What was measured of a family on a pool: each measure counts for itself, and older rows stay readable."""

import json
from dataclasses import asdict, replace

import pytest
from policy_kit import decide, job, looked_at, rule

from shotbus.broker.dispatcher.histories import Measured, merged
from shotbus.broker.policy.facts import History
from shotbus.schemas.codec import encode

#: A row as it was written before measures had counts of their own.
OLD = {"runs": 30, "success": 0.9, "turnaround_seconds": 2.0, "deviation": 0.0, "cost": 1.0}
OLD |= {"improvement": 0.25, "comparisons": 25}


def after(*observations):
    """The history after (success, answer) pairs of ten seconds each, as it comes back from the ledger."""
    measured, again = Measured(), Measured()
    for success, answer in observations:
        key = measured.observe("f", "p", success=success, seconds=10.0, answer=answer)
    again.restore(key, measured.snapshot(key))
    assert again.by_pair == measured.by_pair
    return again.by_pair["f", "p"]


def test_runs_without_a_comparison_say_nothing_of_the_deviation():
    plain = (True, {"cost": 0.0})
    assert after(*[plain] * 99).deviation is None
    found = after(*[plain] * 99, (True, {"cost": 0.0, "deviation": 0.5}))
    assert (found.deviation, found.deviations, found.runs) == (0.5, 1, 100)
    assert (found.known("deviation", 1), found.known("deviation", 2)) == (0.5, None)


def test_failures_dilute_neither_turnaround_nor_cost():
    found = after(*[(False, {})] * 4, (True, {"cost": 5.0}))
    assert (found.success, found.turnaround_seconds, found.cost) == (0.2, 10.0, 5.0)
    assert (found.known("success", 5), found.known("cost", 5)) == (0.2, None)


def test_counts_and_estimates_are_not_mixed_in_one_mean():
    found = after((True, {"deviation": 0.1, "distance": 0.1}), (True, {"deviation": 4.0}))
    assert (found.distance, found.deviation) == (0.1, 4.0)


def test_exact_answers_that_differ_are_not_the_mean_for_ever():
    found = after((True, {"deviation": float("inf")}), (True, {"deviation": 0.0}))
    assert found.deviation == 500.0


def test_of_an_older_row_what_had_its_own_count_is_kept():
    row = encode("ledger_page", {"kind": "meta", "data": json.dumps(OLD).encode()})
    measured = Measured()
    measured.restore(b'history/["f", "p"]', row)
    found = measured.by_pair["f", "p"]
    assert found == History(runs=30, success=0.9, improvement=0.25, comparisons=25)
    newer = History.revived({**asdict(found), "colour": "of a newer program"})
    assert newer == found


def test_shards_that_did_not_measure_something_do_not_dilute_it():
    one = after((True, {"cost": 3.0, "deviation": 2.0}))
    found = merged([one, after((False, {}), (True, {"cost": 1.0}))])
    assert (found.deviation, found.deviations, found.cost, found.billed) == (2.0, 1, 2.0, 2)
    assert merged([History(), History()]) == History()


@pytest.mark.parametrize(("mode", "pool"), [("sample", "good"), ("estimate", "cheap")])
def test_a_rule_asks_for_the_deviation_of_answers_of_the_jobs_own_kind(mode, pool):
    policy = rule('where = { deviation = "..0.5" }\nthen = { pools = ["cheap", "good"] }')
    well = History(runs=20, distance=0.9, distances=20, deviation=0.4, deviations=20)
    other = replace(well, distance=0.1, deviation=3.0)
    decision = decide(
        policy, job(family="f", mode=mode), history={("f", "cheap"): well, ("f", "good"): other}
    )
    assert decision.pool == pool
    assert [one["deviation"] for one in looked_at(decision, "candidate")] in ([0.9, 0.1], [0.4, 3.0])


def test_many_runs_that_were_never_compared_do_not_make_a_deviation_known():
    policy = rule('where = { deviation = "..0.5" }\nthen = { pools = ["cheap"], unknown = "next" }')
    decision = decide(policy, job(family="f"), history={("f", "cheap"): History(runs=1_000, success=1.0)})
    assert decision.rule == "(default)"
    (told,) = [one for one in looked_at(decision, "candidate") if one["pool"] == "cheap"]
    assert told["unknown"] == ["deviation (0 of 20 comparisons)"]
    assert told["rejected"] == []
