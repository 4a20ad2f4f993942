"""Recurring windows of time: a cron expression for the begin, a length, an offset from UTC. Pure: no clock.

Five fields: minute, hour, day of month, month, day of week (0 and 7 are Sunday); ``*``, ``a-b``, ``*/n``,
``a-b/n`` and lists; names of months and days. As in Vixie cron, when day of month and day of week are both
restricted, either one suffices. Offsets are fixed: a window does not follow daylight saving time.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

from shotbus.broker.policy.config import CronWindowConfig

_DAY = 1_440
_MINUTE_MS = 60_000
# Every date comes back within eight years: 29 February skips one leap year at most.
_HORIZON_DAYS = 8 * 366
MAX_MINUTES = 7 * _DAY
_OFFSET = re.compile(r"([+-])(\d\d):([0-5]\d)")
_STEP = re.compile(r"(\*|\w+)(?:-(\w+))?(?:/(\d+))?", re.ASCII)
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_DAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_FIELDS: tuple[tuple[str, int, int, Mapping[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _DAYS),
)


@dataclass(frozen=True, slots=True)
class Window:
    """A window ready to be asked; times are wall time in milliseconds since 1970 (UTC)."""

    starts: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    either_day: bool
    minutes: int
    offset: int

    @classmethod
    def compile(cls, config: CronWindowConfig) -> Window:
        """Read a window. Raises ValueError that says which part is wrong."""
        parts = config.cron.split()
        if len(parts) != len(_FIELDS):
            raise ValueError("a cron expression has five fields: minute hour day month weekday")
        minutes, hours, days, months, weekdays = (
            _field(text, *spec) for text, spec in zip(parts, _FIELDS, strict=True)
        )
        if not 1 <= config.minutes <= MAX_MINUTES:
            raise ValueError(f"minutes: 1 to {MAX_MINUTES}")
        made = cls(
            starts=tuple(60 * hour + minute for hour in hours for minute in minutes),
            days=days,
            months=months,
            weekdays=tuple(sorted(dict.fromkeys(day % 7 for day in weekdays))),
            either_day=not (parts[2].startswith("*") or parts[4].startswith("*")),
            minutes=config.minutes,
            offset=_offset(config.utc_offset),
        )
        if made.next_start_ms(0) is None:
            raise ValueError("there is no such date")
        return made

    def is_open(self, now_ms: int) -> bool:
        """Tell whether ``now_ms`` lies in the window."""
        return self._begun(now_ms) is not None

    def next_open_ms(self, now_ms: int) -> int:
        """Return the first time from ``now_ms`` on at which the window is open."""
        if self.is_open(now_ms):
            return now_ms
        start = self.next_start_ms(now_ms)
        assert start is not None, "compile() has found a date, and every date comes back"
        return start

    def closes_ms(self, now_ms: int) -> int | None:
        """Return when the window that is open at ``now_ms`` closes; None when it is closed, or stays open."""
        begun = self._begun(now_ms)
        if begun is None:
            return None
        end = begun + self.minutes * _MINUTE_MS
        while (following := self.next_start_ms(begun + 1)) is not None and following <= end:
            begun, end = following, following + self.minutes * _MINUTE_MS
            if end - now_ms > 2 * MAX_MINUTES * _MINUTE_MS:
                return None
        return end

    def changes_ms(self, now_ms: int) -> int | None:
        """Return when it next opens or closes; None when it stays open."""
        return self.closes_ms(now_ms) if self.is_open(now_ms) else self.next_open_ms(now_ms)

    def next_start_ms(self, now_ms: int) -> int | None:
        """Return the first begin at or after ``now_ms``; None when there is none for eight years."""
        local = -(-now_ms // _MINUTE_MS) + self.offset
        day, minute = divmod(local, _DAY)
        for ahead in range(_HORIZON_DAYS):
            if self._on(day + ahead):
                place = bisect_left(self.starts, minute if not ahead else 0)
                if place < len(self.starts):
                    return ((day + ahead) * _DAY + self.starts[place] - self.offset) * _MINUTE_MS
        return None

    def _begun(self, now_ms: int) -> int | None:
        """Return the newest begin whose window is still open."""
        local = now_ms // _MINUTE_MS + self.offset
        day, minute = divmod(local, _DAY)
        for back in range(self.minutes // _DAY + 2):
            if self._on(day - back):
                place = bisect_right(self.starts, minute if not back else _DAY)
                if place:
                    start = (day - back) * _DAY + self.starts[place - 1]
                    return (start - self.offset) * _MINUTE_MS if local < start + self.minutes else None
        return None

    def _on(self, day: int) -> bool:
        """Tell whether the window begins on a day, counted from 1970-01-01 (a Thursday)."""
        month, date = _civil(day)
        if month not in self.months:
            return False
        dated, named = date in self.days, (day + 4) % 7 in self.weekdays
        return dated or named if self.either_day else dated and named


def _civil(day: int) -> tuple[int, int]:
    """Return (month, day of month) of a day since 1970: Howard Hinnant's ``civil_from_days``."""
    shifted = (day + 719_468) % 146_097
    year = (shifted - shifted // 1_460 + shifted // 36_524 - shifted // 146_096) // 365
    of_year = shifted - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    return (month + 3 if month < 10 else month - 9), of_year - (153 * month + 2) // 5 + 1


def _field(text: str, name: str, low: int, high: int, words: Mapping[str, int]) -> tuple[int, ...]:
    found: dict[int, None] = {}
    for part in text.lower().split(","):
        match = _STEP.fullmatch(part)
        if match is None:
            raise ValueError(f"{name}: {part!r}")
        first, last, step = match.groups()
        start = low if first == "*" else _number(first, name, words)
        # As in cron, a begin with a step but without an end runs to the end: 5/15.
        end = _number(last, name, words) if last else (high if first == "*" or step else start)
        if not low <= start <= end <= high or step == "0" * len(step or "x"):
            raise ValueError(f"{name}: {part!r} is not within {low} to {high}")
        found.update(dict.fromkeys(range(start, end + 1, int(step or 1))))
    return tuple(sorted(found))


def _number(text: str, name: str, words: Mapping[str, int]) -> int:
    if text in words:
        return words[text]
    if not text.isdecimal() or len(text) > 2:
        raise ValueError(f"{name}: {text!r}")
    return int(text)


def _offset(text: str) -> int:
    found = _OFFSET.fullmatch(text)
    minutes = int(found[2]) * 60 + int(found[3]) if found else _DAY
    if found is None or minutes > 14 * 60:
        raise ValueError('utc_offset: as "+02:00", at most 14 hours')
    return -minutes if found[1] == "-" else minutes
