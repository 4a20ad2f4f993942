"""What a refused job is told: which budget, the numbers, when to come again. Pure."""

from __future__ import annotations

from typing import NamedTuple

from shotbus.broker.machine import Now
from shotbus.broker.treasury.budgets import Purse, is_gauge, shown
from shotbus.broker.treasury.holding import Short
from shotbus.broker.treasury.periods import stamp
from shotbus.schemas.errors import Problem

#: When to come again: for what jobs hold that may take less, for a place, for an answer that did not come.
HELD_RETRY_MS = 30_000
PLACE_RETRY_MS = 5_000
UNCHECKED_RETRY_MS = 5_000
_QUOTA, _BUDGET, _UNCHECKED = "SB-1120", "SB-1121", "SB-1122"
_SMALLER = "make the job smaller, or ask for a higher limit"
_SHORTER = 'an attempt on {0} may take that long: lower attempt_seconds of the pool, or bound = "measured"'


class Refusal(NamedTuple):
    """One purse's no; ``retry_after_ms`` 0 means that coming again is of no use."""

    problem: Problem
    retry_after_ms: int


def refusal(purse: Purse, units: int, short: Short, now: Now, *, bounding: str = "") -> Refusal:
    """Say no to a job that takes ``units`` from a purse.

    ``bounding``: the pool whose longest attempt they are for, where less would do by what is measured.
    """
    if short.reason != "short":
        return unchecked(purse, short.reason)
    retry = _retry_after(purse, units, short, now)
    resource = purse.resource
    limit = f"{shown(resource, short.limit)}{_period(purse)}: {shown(resource, short.spent)} spent"
    # As shotbus budget calls it: a shard may hold more than its jobs have reserved, or all of it without one.
    limit += f", {shown(resource, short.held)} outstanding with the dispatchers"
    return Refusal(
        Problem(_code(resource), _path(purse), limit, _wanted(purse, units), _hint(retry, now, bounding)),
        retry,
    )


def hopeless(purse: Purse, units: int, limit: int, *, bounding: str = "") -> Problem | None:
    """Say no to a job that alone exceeds a purse's limit, whatever is left of that; None when it does not."""
    if units <= limit:
        return None
    resource = purse.resource
    told = f"{shown(resource, limit)}{_period(purse)}"
    return Problem(_code(resource), _path(purse), told, _wanted(purse, units), _too_much(bounding))


def unchecked(purse: Purse, why: str) -> Refusal:
    """Say that a budget could not be asked."""
    return Refusal(Problem(_UNCHECKED, _path(purse), detail=why), UNCHECKED_RETRY_MS)


def _path(purse: Purse) -> str:
    return f"$.budgets.{purse.budget}"


def _period(purse: Purse) -> str:
    return f" a {purse.period}" if purse.until_ms else ""


def _code(resource: str) -> str:
    return _BUDGET if resource in ("money", "backend_seconds") else _QUOTA


def _wanted(purse: Purse, units: int) -> str:
    return f"{shown(purse.resource, units)} {purse.resource} wanted"


def _retry_after(purse: Purse, units: int, short: Short, now: Now) -> int:
    if units > short.limit:
        return 0
    if is_gauge(purse.resource):
        return PLACE_RETRY_MS
    until = purse.until_ms
    rest = max(1, until - now.wall_ms) if until else 0
    if units <= short.limit - short.spent:
        return min(HELD_RETRY_MS, rest) if rest else HELD_RETRY_MS
    return rest


def _too_much(bounding: str) -> str:
    return _SHORTER.format(bounding) if bounding else _SMALLER


def _hint(retry_ms: int, now: Now, bounding: str) -> str:
    if not retry_ms:
        return _too_much(bounding)
    return f"submit again after {stamp(now.wall_ms + retry_ms + 999)}"
