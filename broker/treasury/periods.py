"""Periods of budgets: which day or month of UTC a moment belongs to. Pure integer arithmetic, no clock.

A period is (since, until) in milliseconds of the epoch, ``since <= now < until``; ``total`` is (0, 0).
"""

from __future__ import annotations

from typing import NamedTuple

DAY_MS = 86_400_000
_DAYS_OF_ERA = 146_097  # 400 Gregorian years
_EPOCH_FROM_MARCH_0 = 719_468  # days from 0000-03-01 to 1970-01-01


class Period(NamedTuple):
    """Half open, milliseconds; (0, 0) never ends."""

    since: int
    until: int


ALWAYS = Period(0, 0)


def period_of(kind: str, now_ms: int) -> Period:
    """Return the period of a kind (``total``, ``day``, ``month``) that a moment belongs to."""
    if kind == "total":
        return ALWAYS
    day = now_ms // DAY_MS
    if kind == "day":
        return Period(day * DAY_MS, (day + 1) * DAY_MS)
    year, month, _ = civil(day)
    following = (year + 1, 1) if month == 12 else (year, month + 1)
    return Period(_first_of(year, month) * DAY_MS, _first_of(*following) * DAY_MS)


def civil(day: int) -> tuple[int, int, int]:
    """Return year, month and day of the month of a day since the epoch (proleptic Gregorian).

    The year is taken to begin in March, so that the leap day is its last: H. Hinnant, "chrono-compatible
    low-level date algorithms".
    """
    shifted = day + _EPOCH_FROM_MARCH_0
    era, of_era = divmod(shifted, _DAYS_OF_ERA)
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    march_month = (5 * of_year + 2) // 153
    month = march_month + 3 if march_month < 10 else march_month - 9
    return year + era * 400 + (month <= 2), month, of_year - (153 * march_month + 2) // 5 + 1


def stamp(ms: int) -> str:
    """Return a moment as people read it, to the second, in UTC."""
    day, rest = divmod(ms, DAY_MS)
    seconds = rest // 1_000
    date = "{:04d}-{:02d}-{:02d}".format(*civil(day))
    return f"{date}T{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}Z"


def _first_of(year: int, month: int) -> int:
    """Return the day since the epoch on which a month begins."""
    shifted = year - (month <= 2)
    era, of_era = divmod(shifted, 400)
    of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5
    return era * _DAYS_OF_ERA + of_era * 365 + of_era // 4 - of_era // 100 + of_year - _EPOCH_FROM_MARCH_0
