"""What was measured of a circuit family on a pool: success, turnaround, cost, deviation, improvement. Pure.

Means forget exponentially, so that a pool that got better or worse is known by what it does of late. Only
registered families are measured: whoever declares none is told apart by nothing.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from shotbus.broker.policy.facts import NO_HISTORY, Histories, History
from shotbus.schemas.codec import decode, encode

_PREFIX = b"history/"
#: The weight of a new run is never less than this: about the last hundred count.
_LEAST_WEIGHT = 0.01
_REMEMBERED = round(1 / _LEAST_WEIGHT)


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
        self, family: str, pool: str, *, success: bool, seconds: float, answer: Mapping[str, Any]
    ) -> bytes:
        """Learn from a job that ended on a pool after ``seconds``; returns the ledger key that changed."""
        before = self.by_pair.get((family, pool), NO_HISTORY)
        weight = max(_LEAST_WEIGHT, 1.0 / (before.runs + 1))
        after = replace(before, runs=before.runs + 1, success=_mix(before.success, float(success), weight))
        if success:
            after = replace(
                after,
                turnaround_seconds=_mix(before.turnaround_seconds, seconds, weight),
                cost=_mix(before.cost, float(answer.get("cost", 0.0)), weight),
            )
            if answer.get("deviation", -1.0) >= 0:
                after = replace(after, deviation=_mix(before.deviation, answer["deviation"], weight))
            if "improvement" in answer:
                share = max(_LEAST_WEIGHT, 1.0 / (before.comparisons + 1))
                after = replace(
                    after,
                    comparisons=before.comparisons + 1,
                    improvement=_mix(before.improvement, answer["improvement"], share),
                )
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
            self.by_pair[_pair(key)] = History(**json.loads(decode(row, "ledger_page")[1]["data"]))


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
    """Return what several have measured: runs add up, means count by the runs that they still remember.

    Of turnaround, deviation and cost only successes tell. The order does not matter, but for rounding.
    """
    if len(histories) == 1:
        return histories[0]
    remembered = [min(one.runs, _REMEMBERED) for one in histories]
    good = [weight * one.success for weight, one in zip(remembered, histories, strict=True)]
    compared = [min(one.comparisons, _REMEMBERED) for one in histories]
    return History(
        runs=sum(one.runs for one in histories),
        success=_mean([one.success for one in histories], remembered),
        turnaround_seconds=_mean([one.turnaround_seconds for one in histories], good),
        deviation=_mean([one.deviation for one in histories], good),
        cost=_mean([one.cost for one in histories], good),
        improvement=_mean([one.improvement for one in histories], compared),
        comparisons=sum(one.comparisons for one in histories),
    )


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    whole = math.fsum(weights)
    return math.fsum(map(operator.mul, values, weights)) / whole if whole > 0 else 0.0


def _mix(before: float, new: float, weight: float) -> float:
    return before + weight * (new - before)


def _key(family: str, pool: str) -> bytes:
    return _PREFIX + json.dumps([family, pool]).encode()


def _pair(key: bytes) -> tuple[str, str]:
    family, pool = json.loads(key.removeprefix(_PREFIX))
    return family, pool
