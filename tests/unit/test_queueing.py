"""What a waiting job may expect, in words: place, end, and what nobody knows is not said."""

from datetime import UTC, datetime, timedelta

import pytest

from shotbus.producers.queueing import info_of, ordinal, span

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def place(**told):
    at = int(NOW.timestamp() * 1000)
    etas = {"eta_low_ms": at + 12_000, "eta_mid_ms": at + 20_000, "eta_high_ms": at + 30_000}
    return {"status": "QUEUED", "pool": "aer", "reason": "others go first", "position": 2, **etas, **told}


def test_place_and_end_are_told_in_one_line():
    info = info_of(place())
    assert info.position == 3
    assert info.eta_mid == NOW + timedelta(seconds=20)
    assert info.in_words(NOW) == "3rd in aer's queue, ends in 12-30 s (80 %)"
    assert info.as_json() == {
        "pool": "aer",
        "position": 3,
        "eta_low": "2026-01-01T00:00:12+00:00",
        "eta_mid": "2026-01-01T00:00:20+00:00",
        "eta_high": "2026-01-01T00:00:30+00:00",
        "reason": "others go first",
    }


def test_what_nobody_knows_is_not_said():
    info = info_of(place(position=-1, eta_low_ms=0, eta_mid_ms=0, eta_high_ms=0))
    assert (info.position, info.eta_low, info.eta_high) == (None, None, None)
    assert info.in_words(NOW) == ""


def test_a_place_in_a_queue_that_stands_still_has_no_end():
    info = info_of(place(eta_low_ms=0, eta_mid_ms=0, eta_high_ms=0))
    assert info.in_words(NOW) == "3rd in aer's queue, end unknown"


@pytest.mark.parametrize("status", ["RUNNING", "FINISHED", "DONE", "UNKNOWN"])
def test_who_does_not_wait_has_no_prospects(status):
    assert info_of(place(status=status)) is None


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (1, "1st"),
        (2, "2nd"),
        (3, "3rd"),
        (4, "4th"),
        (11, "11th"),
        (12, "12th"),
        (113, "113th"),
        (121, "121st"),
    ],
)
def test_ordinals(number, words):
    assert ordinal(number) == words


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (-5.0, -1.0, "less than 1 s"),
        (0.2, 0.9, "less than 1 s"),
        (0.2, 3.0, "0-3 s"),
        (2.9, 3.1, "3 s"),
        (60.0, 119.0, "60-119 s"),
        (60.0, 600.0, "1-10 min"),
        (3_600.0, 36_000.0, "1-10 h"),
    ],
)
def test_intervals_are_told_in_the_unit_of_their_end(low, high, words):
    assert span(low, high) == words
