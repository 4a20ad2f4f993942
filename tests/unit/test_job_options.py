"""Unknown options of a request: all of them at once, each with its place and the nearest name that is read."""

import pytest

from shotbus.broker.dispatcher.remedies import remedies
from shotbus.broker.job_options import KNOWN, unknown_options
from shotbus.schemas.errors import MAX_PROBLEMS


def test_options_that_some_adapter_reads_pass_whatever_the_pool_will_be():
    assert unknown_options(["method", "seconds", "fault", "shots_per_call"]) == []
    assert unknown_options([]) == []


def test_all_unknown_options_are_told_at_once_in_order_with_what_is_known():
    found = unknown_options(["zzz", "method", "shots_per_cal"])
    assert [(one.code, one.path, one.actual) for one in found] == [
        ("SB-1119", "$.options.shots_per_cal", "shots_per_cal"),
        ("SB-1119", "$.options.zzz", "zzz"),
    ]
    assert all(name in found[0].limit for name in ("method", "shots_per_call", "quality.max_stderr"))


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("optimisation_levle", "optimization_level"),
        ("shots_per_cal", "shots_per_call"),
        ("Seconds", "seconds"),
        ("qualty.max_stderr", "quality.max_stderr"),
    ],
)
def test_a_misspelt_option_is_told_with_what_was_probably_meant(wrong, meant):
    (found,) = unknown_options([wrong])
    assert found.hint == f"did you mean {meant!r}?"


def test_a_flood_of_unknown_options_of_any_length_is_cut_at_what_can_be_told():
    flood = [f"{'optimization_level' * 1_000}{k}" for k in range(1_000)]
    assert len(unknown_options(flood)) == MAX_PROBLEMS


def test_what_a_remedy_sets_is_known():
    words = ("shots", "transpil", "depth", "coupling", "qubit", "mode")
    refused = [{"path": "$", "limit": "10", "detail": word} for word in words]
    found = list(remedies(refused, shots=100, tried=()))
    assert len(found) > len(words)
    assert {name for one in found for name, _ in one.overrides} <= KNOWN
