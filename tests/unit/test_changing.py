"""What a change of mind may ask for: everything that is wrong with it is found at once."""

import datetime as dt
import time

import pytest

from shotbus.broker.config import Config
from shotbus.producers.changing import wish_of
from shotbus.schemas.ids import job_id

JOB = job_id("default", entropy=b"to be changed"[:12])


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, {"SB-1107": ["$", "$", "$.reason"]}),
        ({"job": JOB, "sweep": "s", "priority": "bulk", "reason": "r"}, {"SB-1108": ["$"]}),
        ({"job": "../x", "priority": "bulk", "reason": "r"}, {"SB-4001": ["$.job_id"]}),
        ({"sweep": "s" * 300, "pool": "p", "reason": "r" * 300}, {"SB-1105": ["$.sweep", "$.reason"]}),
        (
            {"job": JOB, "priority": "urgent", "deadline": -5, "reason": " "},
            {"SB-1104": ["$.deadline"], "SB-1101": ["$.priority"], "SB-1107": ["$.reason"]},
        ),
        (
            {"job": JOB, "deadline": "soon", "not_before": float("nan"), "reason": "r"},
            {"SB-1108": ["$.deadline", "$.not_before"]},
        ),
    ],
    ids=["nothing", "two targets", "no job id", "too long", "everything", "no times"],
)
def test_everything_that_is_wrong_is_found_at_once(wanted, expected):
    _, problems = wish_of(wanted, Config())
    found = {}
    for problem in problems:
        found.setdefault(problem.code, []).append(problem.path)
    assert found == expected


def test_only_what_is_given_changes():
    wish, problems = wish_of({"experiment": "e", "window": "night", "reason": "r"}, Config())
    assert (problems, wish.arguments) == ([], {"window": "night"})
    assert (wish.command, wish.target, wish.name, wish.reason) == ("reprioritise", "experiment", "e", "r")


def test_times_count_from_now_or_have_a_zone():
    at = dt.datetime(2999, 1, 1, tzinfo=dt.UTC)
    now_ms = time.time_ns() // 1_000_000
    wish, _ = wish_of({"job": JOB, "deadline": at, "not_before": 60, "reason": "r"}, Config())
    assert wish.arguments["deadline_ms"] == str(int(at.timestamp() * 1000))
    assert 0 <= int(wish.arguments["not_before_ms"]) - now_ms - 60_000 < 5_000
