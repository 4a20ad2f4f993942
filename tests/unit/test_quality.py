"""Quality gates: read with every mistake at once, refused where they could never hold, judged on packed answers."""

import numpy as np
import pytest

from shotbus.broker.quality import applicable, check_quality, gates_of, never_met
from shotbus.broker.quality_judge import failures
from shotbus.schemas.pub import Counts, Estimates, pack_counts, pack_estimates


def sampled(**quality):
    registers = [{"name": "a", "width": 1}, {"name": "b", "width": 1}]
    return asked("sample", 100, {"registers": registers}, quality)


def estimated(shots=100, **quality):
    return asked("estimate", shots, {"registers": []}, quality)


def asked(mode, shots, expected, quality):
    options = {"method": "automatic"} | {f"quality.{name}": text for name, text in quality.items()}
    return {"mode": mode, "shots": shots, "expected": expected, "options": options}


def counts(*rows, registers=(("a", 1), ("b", 1))):
    """Rows are mappings from a number to its count."""
    outcomes = np.array([[number] for row in rows for number in sorted(row)], dtype="|u1").reshape(-1, 1)
    numbers = np.array([row[number] for row in rows for number in sorted(row)], dtype="<i4")
    indptr = np.cumsum([0, *map(len, rows)]).astype("<i4")
    return pack_counts(Counts(registers, indptr, outcomes, numbers))


def estimates(evs, stds):
    return pack_estimates(Estimates(np.array(evs, dtype="<f8"), np.array(stds, dtype="<f8")))


def told(payload, rule=(), **quality):
    options = {f"quality.{name}": text for name, text in quality.items()}
    gates, problems = gates_of(options | {f"quality.rule.{name}": text for name, text in dict(rule).items()})
    assert not problems
    return [
        (one.code, one.path.removeprefix("$.options.quality."), one.actual)
        for one in failures(gates, payload)
    ]


WRONG = [
    ("max_stderr", "0"),
    ("max_stderr", "inf"),
    ("max_stderr", "nan"),
    ("max_stderr", "much"),
    ("range", ""),
    ("range", ".."),
    ("range", "2..1"),
    ("range", "nan..1"),
    ("outcomes", ""),
    ("outcomes", "00,,11"),
    ("outcomes", "00,1"),
    ("outcomes", "00,00"),
    ("outcomes", "0x,11"),
    ("outcomes", ",".join(f"{k:09b}" for k in range(257))),
    ("share", "0"),
    ("share", "1.1"),
    ("share", "80%"),
    ("parity", "even"),
    ("parity", "even:0"),
    ("parity", "left:0.5"),
    ("parity", ":0.5"),
    ("colour", "red"),
]


@pytest.mark.parametrize(("name", "text"), WRONG)
def test_a_malformed_gate_is_refused_with_its_place_and_what_it_may_be(name, text):
    problems = [one for one in check_quality(sampled(**{name: text})) if one.code == "SB-1108"]
    assert problems[0].path == f"$.options.quality.{name}"
    assert problems[0].limit


def test_everything_that_is_wrong_with_a_gate_is_told_at_once():
    found = check_quality(sampled(max_stderr="-1", outcomes="000,111", parity="even:2", range="0..1"))
    assert sorted((one.code, one.path.rpartition(".")[2]) for one in found) == [
        ("SB-1107", "share"),
        ("SB-1108", "max_stderr"),
        ("SB-1108", "max_stderr"),
        ("SB-1108", "outcomes"),
        ("SB-1108", "parity"),
        ("SB-1108", "range"),
    ]


def test_a_gate_that_could_never_say_anything_is_refused():
    assert [one.limit for one in check_quality(sampled(max_stderr="0.1"))] == ["an estimation job"]
    assert [one.limit for one in check_quality(estimated(parity="odd:1"))] == ["a sampling job"]
    assert [one.actual for one in check_quality(estimated(0, max_stderr="0.1"))] == ["0"]
    assert [one.limit for one in check_quality(sampled(outcomes="000", share="1"))] == ["2 bits"]


def test_what_a_rule_demands_cannot_be_given_by_a_job():
    assert [one.path for one in check_quality(estimated(**{"rule.range": "0..1"}))] == [
        "$.options.quality.rule.range"
    ]


def test_sound_gates_and_none_at_all_are_let_through():
    assert check_quality(sampled()) == []
    assert check_quality(sampled(outcomes="0 0,1 1", share="0.8", parity="even:0.9")) == []
    assert check_quality(estimated(max_stderr="0.01", range="-1.2..2")) == []
    assert check_quality(estimated(0, range="..0")) == []


def test_the_largest_standard_error_is_named_and_one_that_is_not_known_is_too_large():
    answer = estimates([[0, 0], [0, 0]], [[0.1, 0.2], [0.3, 0.1]])
    assert told(answer, max_stderr="0.3") == []
    assert told(answer, max_stderr="0.25") == [("SB-5011", "max_stderr", "0.3 at point 1 of observable 0")]
    assert told(estimates([[0]], [[np.nan]]), max_stderr="9") == [
        ("SB-5011", "max_stderr", "nan at point 0 of observable 0")
    ]


def test_expectation_values_are_inside_the_range_ends_included():
    answer = estimates([[-1.2], [2.0]], [[0], [0]])
    assert told(answer, range="-1.2..2") == []
    assert told(answer, range="-1..2") == [("SB-5011", "range", "-1.2 at point 0 of observable 0")]
    assert told(answer, range="..1.5") == [("SB-5011", "range", "2 at point 1 of observable 0")]
    assert told(estimates([[np.nan]], [[0]]), range="..0") != []
    assert told(estimates([[np.inf]], [[0]]), range="0..") != []


def test_every_point_has_its_share_of_shots_in_the_outcomes():
    answer = counts({0: 50, 3: 40, 1: 10}, {0: 80, 3: 0, 2: 20})
    assert told(answer, outcomes="00,11", share="0.8") == []
    assert told(answer, outcomes="0 0,1 1", share="0.81") == [("SB-5011", "outcomes", "0.8 at point 1")]
    assert told(answer, outcomes="10", share="0.1") == [("SB-5011", "outcomes", "0 at point 0")]
    assert told(counts({0: 5}, {}), outcomes="00", share="0.1") == [("SB-5011", "outcomes", "0 at point 1")]


def test_every_point_has_its_share_of_shots_of_a_parity():
    answer = counts({0: 50, 3: 40, 1: 10})
    assert told(answer, parity="even:0.9") == []
    assert told(answer, parity="odd:0.1") == []
    assert told(answer, parity="odd:0.2") == [("SB-5011", "parity", "0.1 at point 0")]


def test_outcomes_of_another_width_than_the_answers_are_the_jobs_own_fault():
    assert told(counts({0: 1}), outcomes="000", share="1") == [("SB-1108", "outcomes", "3 bits")]


def test_the_jobs_gate_and_its_rules_both_hold():
    answer = estimates([[0.5]], [[0.02]])
    assert told(answer, {"max_stderr": "0.01"}, max_stderr="0.1", range="0..0.4") == [
        ("SB-5011", "range", "0.5 at point 0 of observable 0"),
        ("SB-5011", "rule.max_stderr", "0.02 at point 0 of observable 0"),
    ]


def test_a_gate_for_the_other_kind_of_answer_is_not_passed_by_chance():
    assert told(counts({0: 1}), max_stderr="1")[0][0] == "SB-5011"
    assert told(estimates([[0]], [[0]]), parity="even:1")[0][0] == "SB-5011"


def test_an_empty_answer_holds_nothing_to_look_at():
    assert told(b"", max_stderr="1", parity="even:1") == []


def test_of_a_rules_gate_only_what_concerns_a_job_is_demanded_of_it():
    demand = {"max_stderr": "0.1", "range": "0..1", "outcomes": "000", "share": "1"}
    assert applicable(demand, sampled()) == {"quality.rule.outcomes": "000", "quality.rule.share": "1"}
    assert applicable(demand, estimated(0)) == {"quality.rule.range": "0..1"}
    (problem,) = never_met(applicable(demand, sampled()), sampled())
    assert (problem.code, problem.limit, problem.actual) == ("SB-1155", "2 bits", "3 bits")
