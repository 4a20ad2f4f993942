"""What was measured of a circuit family on a pool: success, turnaround, cost, deviation, improvement. Pure.

Means forget exponentially, so that a pool that got better or worse is known by what it does of late. Only
registered families are measured: whoever declares none is told apart by nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from shotbus.broker.policy.facts import NO_HISTORY, Histories, History
from shotbus.schemas.codec import decode, encode

_PREFIX = b"history/"
#: The weight of a new run is never less than this: about the last hundred count.
_LEAST_WEIGHT = 0.01


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


def _mix(before: float, new: float, weight: float) -> float:
    return before + weight * (new - before)


def _key(family: str, pool: str) -> bytes:
    return _PREFIX + json.dumps([family, pool]).encode()


def _pair(key: bytes) -> tuple[str, str]:
    family, pool = json.loads(key.removeprefix(_PREFIX))
    return family, pool
