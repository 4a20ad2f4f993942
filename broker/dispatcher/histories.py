"""What was measured of a circuit family on a pool: success, turnaround, cost, deviation, improvement. Pure.

Each measure has a count of its own: a run that does not tell it leaves its mean alone. Means forget
exponentially, so that a pool that got better or worse is known by what it does of late. Only registered
families are measured: whoever declares none is told apart by nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import Any

from shotbus.broker.policy.facts import MEASURES, NO_HISTORY, Histories, History
from shotbus.schemas.codec import decode, encode

_PREFIX = b"history/"
#: The weight of a new run is never less than this: about the last hundred count.
_LEAST_WEIGHT = 0.01
_REMEMBERED = round(1 / _LEAST_WEIGHT)
#: Exact answers that differ are infinitely many standard errors apart: one would be the mean for ever.
_MOST_ERRORS = 1_000.0
_NOTHING: Mapping[str, Any] = MappingProxyType({})


def is_history_key(key: bytes) -> bool:
    """Tell whether a ledger key belongs here."""
    return key.startswith(_PREFIX)


class Measured:
    """The histories of one shard; ``by_pair`` is what routing looks at."""

    def __init__(self) -> None:
        self.by_pair: dict[tuple[str, str], History] = {}
        #: Read only: the same, as routing wants it.
        self.view: Histories = self.by_pair

    def observe(
        self,
        family: str,
        pool: str,
        *,
        success: bool,
        seconds: float | None = None,
        answer: Mapping[str, Any] = _NOTHING,
    ) -> bytes:
        """Learn what became of a job on a pool; returns the ledger key that changed.

        Args:
            family: of its circuit.
            pool: where it ran.
            success: it was answered there; else ``seconds`` and ``answer`` tell nothing.
            seconds: from the pool's queue to the answer, None where that is not known.
            answer: ``cost`` there, ``deviation`` (and ``distance``, the same of counts) and ``improvement``,
                as far as they are known.

        """
        told: dict[str, float] = {"success": float(success)}
        if success:
            told |= dict(_told(seconds, answer))
        after = self.by_pair.get((family, pool), NO_HISTORY)
        for measure, value in told.items():
            after = _with(after, measure, value)
        self.by_pair[family, pool] = after
        return _key(family, pool)

    def snapshot(self, key: bytes) -> bytes | None:
        """Return a key's row."""
        history = self.by_pair.get(_pair(key))
        if history is None:
            return None
        return encode("ledger_page", {"kind": "meta", "data": json.dumps(asdict(history)).encode()})

    def restore(self, key: bytes, row: bytes | None) -> None:
        """Let a row replace what was taken for its key; None takes that away."""
        if row is None:
            self.by_pair.pop(_pair(key), None)
        else:
            self.by_pair[_pair(key)] = History.revived(json.loads(decode(row, "ledger_page")[1]["data"]))


class Together(Mapping[tuple[str, str], History]):
    """What several shards have measured, as one would see it; ``of``: theirs, which may change meanwhile."""

    def __init__(self) -> None:
        self.of: dict[int, Histories] = {}

    def __getitem__(self, pair: tuple[str, str]) -> History:
        found = [one[pair] for one in self.of.values() if pair in one]
        if not found:
            raise KeyError(pair)
        return merged(found)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(dict.fromkeys(pair for one in self.of.values() for pair in one))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def merged(histories: Sequence[History]) -> History:
    """Return what several have measured: counts add up, means count by the runs that they still remember.

    The order does not matter, but for rounding.
    """
    if len(histories) == 1:
        return histories[0]
    found: dict[str, Any] = {}
    for measure, count in MEASURES.items():
        found[measure] = _mean([(getattr(one, measure), one.count(measure)) for one in histories])
        found[count] = sum(one.count(measure) for one in histories)
    return History(**found)


def _mean(measured: Iterable[tuple[float | None, int]]) -> float | None:
    """Return the mean of means with their counts; None when nothing was measured."""
    known = [(value, min(count, _REMEMBERED)) for value, count in measured if value is not None and count]
    if not known:
        return None
    return math.fsum(value * weight for value, weight in known) / sum(weight for _, weight in known)


def _told(seconds: float | None, answer: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield what an answer tells, by measure; an unknown deviation is negative."""
    if seconds is not None:
        yield "turnaround_seconds", seconds
    for measure in ("cost", "improvement"):
        if measure in answer:
            yield measure, float(answer[measure])
    if answer.get("distance", -1.0) >= 0:
        yield "distance", answer["distance"]
    elif answer.get("deviation", -1.0) >= 0:
        yield "deviation", min(answer["deviation"], _MOST_ERRORS)


def _with(before: History, measure: str, value: float) -> History:
    """Return a history with one more value of a measure."""
    count, mean = before.count(measure), getattr(before, measure)
    if mean is not None:
        value = mean + max(_LEAST_WEIGHT, 1.0 / (count + 1)) * (value - mean)
    more: dict[str, Any] = {measure: value, MEASURES[measure]: count + 1}
    return replace(before, **more)


def _key(family: str, pool: str) -> bytes:
    return _PREFIX + json.dumps([family, pool]).encode()


def _pair(key: bytes) -> tuple[str, str]:
    family, pool = json.loads(key.removeprefix(_PREFIX))
    return family, pool
