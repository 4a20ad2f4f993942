"""Windows: when they open and close, and which expressions are none."""

from datetime import UTC, datetime

import pytest

from shotbus.broker.policy.config import CronWindowConfig
from shotbus.broker.policy.windows import Window


def ms(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def at(number):
    return datetime.fromtimestamp(number / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def window(cron, minutes=60, offset="+00:00"):
    return Window.compile(CronWindowConfig(cron=cron, minutes=minutes, utc_offset=offset))


@pytest.mark.parametrize(
    ("cron", "now", "opens"),
    [
        ("0 22 * * *", "2026-11-21 12:00", "2026-11-21 22:00"),
        ("0 22 * * *", "2026-11-21 22:30", "2026-11-21 22:30"),
        ("0 22 * * mon-fri", "2026-11-21 12:00", "2026-11-23 22:00"),
        ("*/20 9-10 * * *", "2026-11-21 09:59", "2026-11-21 09:59"),
        ("5/30 9 * * *", "2026-11-21 08:00", "2026-11-21 09:05"),
        ("0 0 29 2 *", "2026-11-21 00:00", "2028-02-29 00:00"),
        ("0 0 29 feb *", "2096-03-01 00:00", "2104-02-29 00:00"),
        ("0 0 1,15 * *", "2026-11-21 00:00", "2026-12-01 00:00"),
        ("0 0 1 * sun", "2026-11-23 00:00", "2026-11-29 00:00"),
        ("0 0 * * 7", "2026-11-23 00:00", "2026-11-29 00:00"),
        ("0 0 31 12 *", "2026-12-31 00:59", "2026-12-31 00:59"),
        ("0 0 31 12 *", "2026-12-31 01:00", "2027-12-31 00:00"),
    ],
)
def test_a_window_opens_when_its_expression_says(cron, now, opens):
    assert at(window(cron).next_open_ms(ms(now))) == opens


def test_an_offset_shifts_the_whole_window():
    night = window("0 22 * * *", 120, "+02:00")
    assert at(night.next_open_ms(ms("2026-11-21 12:00"))) == "2026-11-21 20:00"
    assert night.is_open(ms("2026-11-21 21:59"))
    assert not night.is_open(ms("2026-11-21 22:00"))
    assert at(window("0 22 * * sat", 60, "-05:30").next_open_ms(ms("2026-11-21 12:00"))) == "2026-11-22 03:30"


def test_a_window_over_midnight_is_open_on_both_sides():
    night = window("0 23 * * fri", 180)
    assert night.is_open(ms("2026-11-21 01:59"))
    assert not night.is_open(ms("2026-11-21 02:00"))
    assert at(night.closes_ms(ms("2026-11-20 23:30"))) == "2026-11-21 02:00"


def test_windows_that_touch_close_together_and_one_that_never_closes_says_so():
    assert at(window("0,30 9 * * *", 30).closes_ms(ms("2026-11-21 09:10"))) == "2026-11-21 10:00"
    always = window("* * * * *", 1)
    assert always.closes_ms(0) is None
    assert always.changes_ms(0) is None
    assert window("0 9 * * *").closes_ms(ms("2026-11-21 08:59")) is None


@pytest.mark.parametrize(
    ("cron", "minutes", "offset"),
    [
        ("* * * *", 1, "+00:00"),
        ("60 * * * *", 1, "+00:00"),
        ("* 24 * * *", 1, "+00:00"),
        ("* * 0 * *", 1, "+00:00"),
        ("* * * 13 *", 1, "+00:00"),
        ("* * * * 8", 1, "+00:00"),
        ("*/0 * * * *", 1, "+00:00"),
        ("9-5 * * * *", 1, "+00:00"),
        ("mon * * * *", 1, "+00:00"),
        ("0 0 30 2 *", 1, "+00:00"),
        ("0 0 * * *", 0, "+00:00"),
        ("0 0 * * *", 10_081, "+00:00"),
        ("0 0 * * *", 1, "CET"),
        ("0 0 * * *", 1, "+15:00"),
    ],
)
def test_what_is_no_window_is_refused(cron, minutes, offset):
    with pytest.raises(ValueError):
        window(cron, minutes, offset)
