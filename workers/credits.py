"""Credits: how a worker's room is shared among dispatchers, and which dispatchers are alive. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

#: Backlogs above count as this many seconds; it keeps one absurd figure from starving all others.
_MAX_BACKLOG = 1e12
#: How much less a second of work counts where only a class one worse waits.
_CLASS_FACTOR = 0.5
_WORST_RANK = 16


def share_credits(total: int, backlogs: Mapping[str, float], turn: int) -> dict[str, int]:
    """Share ``total`` credits among dispatchers in proportion to 1 + backlog, by largest remainder.

    Args:
        total: credits to give away, at least 0.
        backlogs: seconds of work waiting for this pool, by dispatcher.
        turn: counts up; with fewer credits than dispatchers the credits go around with it.

    Returns:
        Credits by dispatcher, summing to ``total`` (to 0 without dispatchers). Everyone has at least one
        when there are enough; otherwise everyone has one within as many turns as there are dispatchers.

    """
    names = sorted(backlogs)
    if not names:
        return {}
    if total < len(names):
        first = turn * total % len(names)
        lucky = {names[(first + k) % len(names)] for k in range(total)}
        return {name: int(name in lucky) for name in names}
    weights = {name: Fraction(1 + _usable(backlogs[name])) for name in names}
    grants = dict.fromkeys(_below_one(total, weights), 1)
    rest = {name: weight for name, weight in weights.items() if name not in grants}
    grants.update(_largest_remainder(total - len(grants), rest))
    return {name: grants[name] for name in names}


def _usable(backlog: float) -> float:
    return 0.0 if math.isnan(backlog) else min(max(backlog, 0.0), _MAX_BACKLOG)


def _below_one(total: int, weights: Mapping[str, Fraction]) -> list[str]:
    """Return those whose proportional share would be below one; giving them one may pull others below."""
    small: list[str] = []
    while True:
        rest = {name: weight for name, weight in weights.items() if name not in small}
        whole = sum(rest.values())
        below = [name for name, weight in rest.items() if weight * (total - len(small)) < whole]
        if not below:
            return small
        small += below


def _largest_remainder(total: int, weights: Mapping[str, Fraction]) -> dict[str, int]:
    whole = sum(weights.values())
    if not whole:
        return {}
    quotas = {name: weight * total / whole for name, weight in weights.items()}
    grants = {name: math.floor(quota) for name, quota in quotas.items()}
    left = total - sum(grants.values())
    for name in sorted(quotas, key=lambda name: (grants[name] - quotas[name], name))[:left]:
        grants[name] += 1
    return grants


@dataclass(frozen=True, slots=True)
class _Advertisement:
    name: str
    backlog: Mapping[str, float]
    best_class: Mapping[str, int]
    heard: float

    def weighed(self, pool: str) -> float:
        rank = min(max(0, self.best_class.get(pool, 0)), _WORST_RANK)
        return float(self.backlog.get(pool, 0.0)) * _CLASS_FACTOR**rank


class Dispatchers:
    """Which dispatchers advertise, from their records on ``pools``; silent ones count as gone."""

    def __init__(self, silent_seconds: float) -> None:
        self._silent = silent_seconds
        self._known: dict[bytes, _Advertisement] = {}

    def learn(self, key: bytes, status: Mapping[str, Any] | None, heard: float) -> None:
        """Take a record of ``pools``, or its tombstone (None); ``heard`` is monotonic seconds."""
        if not key.startswith(b"d/"):
            return
        if status is None or status["role"] != "dispatcher" or status["state"] == "gone":
            self._known.pop(key, None)
        else:
            self._known[key] = _Advertisement(
                status["name"], status["backlog"], status.get("best_class", {}), heard
            )

    def backlogs(self, pool: str, now: float) -> dict[str, float]:
        """Return the seconds waiting for ``pool`` by name of dispatcher, weighed by their best class."""
        self._known = {key: one for key, one in self._known.items() if now - one.heard <= self._silent}
        return {one.name: one.weighed(pool) for one in self._known.values()}
