"""What a waiting job may expect, as its shard says: place in the queue, when it ends, why it waits. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_MINUTES_FROM, _HOURS_FROM = 120.0, 7_200.0
_TEENS = (11, 12, 13)
_SUFFIXES = {1: "st", 2: "nd", 3: "rd"}
#: Live, and no worker has it.
_WAITS = ("QUEUED", "VALIDATING")


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """A waiting job's prospects.

    ``position`` in the queue of ``pool``: 1 goes next; None while it stands in no queue. In four cases of
    five it ends between ``eta_low`` and ``eta_high``, most likely about ``eta_mid``; aware times in UTC, None
    where nobody can tell. ``reason``: why it waits, in words.
    """

    pool: str
    position: int | None
    eta_low: datetime | None
    eta_mid: datetime | None
    eta_high: datetime | None
    reason: str

    def in_words(self, now: datetime) -> str:
        """Return place and end in one line, empty of a job that stands in no queue; ``now`` is aware."""
        words = []
        if self.position is not None:
            words.append(f"{ordinal(self.position)} in {self.pool}'s queue")
        if self.eta_low is not None and self.eta_high is not None:
            low, high = ((eta - now).total_seconds() for eta in (self.eta_low, self.eta_high))
            words.append(f"ends in {span(low, high)} (80 %)")
        elif words:
            words.append("end unknown")
        return ", ".join(words)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON may hold it; times in ISO 8601."""
        etas = {"eta_low": self.eta_low, "eta_mid": self.eta_mid, "eta_high": self.eta_high}
        told = {name: None if eta is None else eta.isoformat() for name, eta in etas.items()}
        return {"pool": self.pool, "position": self.position, **told, "reason": self.reason}


def info_of(place: Mapping[str, Any]) -> QueueInfo | None:
    """Return what a shard's ``located`` says of a job that waits; None for one that does not."""
    if place["status"] not in _WAITS:
        return None
    position = place.get("position", -1)
    etas = (_time(place.get(f"eta_{name}_ms", 0)) for name in ("low", "mid", "high"))
    low, mid, high = etas
    return QueueInfo(
        place.get("pool", ""),
        position + 1 if position >= 0 else None,
        low,
        mid,
        high,
        place.get("reason", ""),
    )


def ordinal(number: int) -> str:
    """Return 1st, 2nd, 3rd, 4th and so on."""
    suffix = "th" if number % 100 in _TEENS else _SUFFIXES.get(number % 10, "th")
    return f"{number}{suffix}"


def span(low: float, high: float) -> str:
    """Return an interval of seconds as people say it."""
    low, high = max(0.0, low), max(0.0, high)
    if high < 1:
        return "less than 1 s"
    size, unit = (1.0, "s")
    if high >= _MINUTES_FROM:
        size, unit = (60.0, "min") if high < _HOURS_FROM else (3_600.0, "h")
    ends = f"{low / size:.0f}", f"{high / size:.0f}"
    return f"{'-'.join(dict.fromkeys(ends))} {unit}"


def _time(wall_ms: int) -> datetime | None:
    return datetime.fromtimestamp(wall_ms / 1000, UTC) if wall_ms else None
