"""Days and months of UTC by arithmetic: what datetime says, over any boundary."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shotbus.broker.treasury.periods import ALWAYS, civil, period_of, stamp

MOMENTS = st.integers(0, 253_402_300_799_999)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(ms):
    return EPOCH + timedelta(milliseconds=ms)


def milliseconds(when):
    return (when - EPOCH) // timedelta(milliseconds=1)


@given(MOMENTS)
def test_a_moment_reads_as_datetime_reads_it(ms):
    when = moment(ms)
    assert civil(ms // 86_400_000) == (when.year, when.month, when.day)
    assert stamp(ms) == when.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")


@given(st.sampled_from(["day", "month"]), MOMENTS)
def test_a_moment_lies_in_its_period_and_the_next_period_begins_where_it_ends(kind, ms):
    period = period_of(kind, ms)
    assert period.since <= ms < period.until
    assert period_of(kind, period.since) == period_of(kind, period.until - 1) == period
    assert period_of(kind, period.until).since == period.until


@given(MOMENTS.filter(lambda ms: ms < 253_370_764_800_000))
def test_a_month_begins_on_its_first_day_at_midnight(ms):
    period, when = period_of("month", ms), moment(ms)
    first = when.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    assert period.since == milliseconds(first)
    assert moment(period.until) == (first + timedelta(days=32)).replace(day=1)


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("day", "2028-02-28T23:59:59Z", "2028-02-29T00:00:00Z"),
        ("day", "2027-12-31T23:59:59Z", "2028-01-01T00:00:00Z"),
        ("month", "2028-02-29T23:59:59Z", "2028-03-01T00:00:00Z"),
        ("month", "2100-02-28T23:59:59Z", "2100-03-01T00:00:00Z"),
        ("month", "2027-12-31T23:59:59Z", "2028-01-01T00:00:00Z"),
    ],
)
def test_a_period_changes_at_the_boundary_and_nowhere_else(kind, before, after):
    first, second = (milliseconds(datetime.fromisoformat(text)) for text in (before, after))
    assert period_of(kind, first + 999).until == second
    assert period_of(kind, second).since == second
    assert stamp(second) == after


def test_the_total_never_ends():
    assert period_of("total", 1_900_000_000_000) == ALWAYS == (0, 0)
