"""One sweep as the fold keeps it: which shards are counted, what they add up to, its ledger rows. Pure.

Everything but the declaration follows from the shards' rows, so a shard that is counted writes one
small row and nothing else, and a restart that adds the rows up again arrives at the same bytes.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from shotbus.reducers.reductions import Accumulator, accumulator
from shotbus.schemas.codec import decode, encode
from shotbus.schemas.errors import ShotbusError, fail
from shotbus.schemas.jsonbytes import flat_member
from shotbus.schemas.outcomes import OUTCOMES, SUCCESSES
from shotbus.schemas.packed import Array, pack

#: What can become of a shard. Rows hold the index: append only.
FATES: tuple[str, ...] = (*OUTCOMES, "refused", "implausible")
MAX_FAILED_SHARDS = 100

_ROW_VERSION = 1
_SHARD = struct.Struct("<BBiqqH")
_SWEEP = struct.Struct("<BBiqq")
_OPEN, _DONE = 0, 1
# Stands between a backend's name and the versions; no name has it.
_VERSIONS = "\0"
_LONGEST_VERSIONS = 2_000
#: Under what a reduction's payload says which versions its shards were run with.
VERSIONS = "versions"


@lru_cache(maxsize=256)
def _versions(told: bytes) -> str:
    """Return versions in one order, as compact JSON; empty for what is none, or too much to be any."""
    try:
        known = json.loads(told or b"{}")
    except ValueError:
        return ""
    text = json.dumps(known, separators=(",", ":"), sort_keys=True) if known else ""
    return text if len(text) <= _LONGEST_VERSIONS else ""


class ShardFacts(NamedTuple):
    """What is kept of a counted shard. ``data`` is the reduction's own.

    ``versions``: of the packages that answered, as compact JSON; empty where that is not told.
    """

    outcome: str
    points: int
    shots: int
    finished_us: int
    executed_on: str
    data: bytes
    versions: str = ""

    def row(self) -> bytes:
        """Return the shard's ledger row.

        Versions of us that do not know of ``versions`` take it for the end of the backend's name.
        """
        told = f"{_VERSIONS}{self.versions}" if self.versions else ""
        name = self.executed_on.encode()[:1000] + told.encode()
        head = _SHARD.pack(
            _ROW_VERSION, FATES.index(self.outcome), self.points, self.shots, self.finished_us, len(name)
        )
        return encode("fold_row", {"kind": "shard", "data": head + name + self.data})

    @classmethod
    def from_row(cls, row: bytes) -> ShardFacts:
        """Read a ledger row."""
        data: bytes = decode(row, "fold_row")[1]["data"]
        _, outcome, points, shots, finished_us, length = _SHARD.unpack_from(data)
        body = _SHARD.size + length
        name, _, versions = data[_SHARD.size : body].decode(errors="replace").partition(_VERSIONS)
        return cls(FATES[outcome], points, shots, finished_us, name, data[body:], versions)


class DoneMarker(NamedTuple):
    """What is left of a finished sweep until ``expires_ms`` (wall time), so that late shards find it."""

    expires_ms: int

    def row(self) -> bytes:
        """Return the marker's ledger row."""
        data = _SWEEP.pack(_ROW_VERSION, _DONE, 0, 0, self.expires_ms)
        return encode("fold_row", {"kind": "sweep", "data": data})


@dataclass(slots=True)
class Sweep:
    """A live sweep.

    ``limit`` is the number of shards that are waited for; sealing lowers it. ``latest_us`` is the time of
    the latest command. ``counted`` (0 or 1) and ``finished_us`` have one entry a shard.
    """

    declaration: Mapping[str, Any]
    accumulator: Accumulator
    limit: int
    latest_us: int
    counted: Array
    finished_us: Array
    done: int = 0
    points: int = 0
    shots: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    executed_on: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    refused: dict[int, ShardFacts] = field(default_factory=dict)
    failed: list[int] = field(default_factory=list)

    @classmethod
    def declare(cls, declaration: Mapping[str, Any]) -> Sweep:
        """Start a sweep from a decoded ``sweep_command``. Raises ShotbusError for one that cannot be."""
        shards = int(declaration["shards"])
        reduction = accumulator(declaration["reduce"], declaration["options"], declaration["layout"], shards)
        counted, finished_us = np.zeros(shards, dtype="|u1"), np.zeros(shards, dtype="<i8")
        return cls(declaration, reduction, shards, int(declaration["at_us"]), counted, finished_us)

    @property
    def complete(self) -> bool:
        """Whether everything is in that is waited for."""
        wanted = self.declaration["options"].get("min_success")
        enough = wanted is not None and self.succeeded >= int(wanted)
        return enough or self.done >= self.limit

    @property
    def succeeded(self) -> int:
        """Shards with a usable result, those from the cache and by fallback included."""
        return sum(self.outcomes[name] for name in SUCCESSES)

    def check_shard(self, shard: int) -> None:
        """Raise ShotbusError (SB-1108) for a shard that was not declared."""
        if not 0 <= shard < self.counted.size:
            raise fail("SB-1108", "$.shard_index", limit=f"0 to {self.counted.size - 1}", actual=shard)

    def open_for(self, shard: int, outcome: str) -> bool:
        """Tell whether the shard is still to be counted. Raises ShotbusError (SB-1108) out of range.

        A refusal is the answer to a submission, and the shard may be submitted again: a result takes
        the place of a refusal, whichever of the two is read first.
        """
        self.check_shard(shard)
        return not self.counted[shard] or (outcome != "refused" and shard in self.refused)

    def digest(self, shard: int, fields: Mapping[str, Any]) -> ShardFacts:
        """Reduce a ``circuit_result`` to what is kept of it; changes nothing.

        A result that does not fit its shard is counted as failed, else the sweep would never end.
        """
        outcome, data = fields["outcome"], b""
        if outcome in SUCCESSES:
            try:
                data = self.accumulator.digest(shard, fields["payload"])
            except ShotbusError:
                outcome = "implausible"
        return ShardFacts(
            outcome,
            fields["points"],
            fields["shots"],
            fields["finished_us"],
            fields["executed_on"],
            data,
            _versions(flat_member(fields["provenance"], "versions")),
        )

    def count(self, shard: int, facts: ShardFacts) -> None:
        """Count a shard that is open; its row is the caller's to write."""
        self._withdraw(shard)
        self.counted[shard] = 1
        self.done += 1
        self.outcomes[facts.outcome] += 1
        self.points += facts.points
        self.shots += facts.shots
        self.finished_us[shard] = facts.finished_us
        if facts.executed_on:
            self.executed_on[facts.executed_on] += 1
        if facts.versions:
            self.versions[facts.versions] += 1
        if facts.outcome in SUCCESSES:
            self.accumulator.add(shard, facts.data)
        else:
            self.failed.append(shard)
        if facts.outcome == "refused":
            self.refused[shard] = facts

    def _withdraw(self, shard: int) -> None:
        if self.refused.pop(shard, None) is not None:
            self.done -= 1
            self.outcomes["refused"] -= 1
            self.failed.remove(shard)

    def seal(self, shards: int, at_us: int) -> None:
        """Wait for no shard from ``shards`` on, except for what has already arrived."""
        arrived = np.flatnonzero(self.counted)
        highest = int(arrived[-1]) + 1 if arrived.size else 0
        self.limit = min(self.limit, max(shards, highest))
        self.latest_us = max(self.latest_us, at_us)

    @property
    def heard_us(self) -> int:
        """Wall time of the latest record that is part of this sweep, microseconds."""
        return max(self.latest_us, int(self.finished_us.max()))

    def row(self) -> bytes:
        """Return the declaration's ledger row, written when it changes and not once a shard."""
        head = _SWEEP.pack(_ROW_VERSION, _OPEN, self.limit, self.latest_us, 0)
        return encode("fold_row", {"kind": "sweep", "data": head + encode("sweep_command", self.declaration)})

    def reduction(self, *, final: bool) -> dict[str, Any]:
        """Return the fields of the ``sweep_reduction``: a function of what is counted and nothing else.

        ``at_us`` is the latest time in any of the sweep's records, so that it does not depend on when
        or how often this was computed.
        """
        arrays, meta = self.accumulator.payload()
        counts = {name: self.outcomes[name] for name in FATES if self.outcomes[name]}
        versions = [
            {"versions": json.loads(told), "shards": count} for told, count in sorted(self.versions.items())
        ]
        succeeded = self.succeeded
        return {
            **_identity(self.declaration),
            "final": final,
            "shards": self.limit,
            "done": self.done,
            "succeeded": succeeded,
            "from_cache": self.outcomes["served_from_cache"],
            "failed": self.done - succeeded,
            "points": self.points,
            "shots": self.shots,
            "payload": pack(arrays, {**meta, "outcomes": counts, VERSIONS: versions}),
            "failed_shards": sorted(self.failed)[:MAX_FAILED_SHARDS],
            "executed_on": {name: self.executed_on[name] for name in sorted(self.executed_on)},
            "at_us": self.heard_us,
        }


def _identity(declaration: Mapping[str, Any]) -> dict[str, Any]:
    return {name: declaration[name] for name in ("sweep_id", "tenant", "reduce", "traceparent")}


def refused_reduction(declaration: Mapping[str, Any], error: ShotbusError) -> dict[str, Any]:
    """Return the final ``sweep_reduction`` of a declaration that cannot be folded, with the reasons."""
    problems = [problem.as_record() for problem in error.problems]
    return {
        **_identity(declaration),
        **dict.fromkeys(("done", "succeeded", "from_cache", "failed", "points", "shots"), 0),
        "final": True,
        "shards": max(0, int(declaration["shards"])),
        "payload": pack({}, {"problems": problems}),
        "failed_shards": [],
        "executed_on": {},
        "at_us": int(declaration["at_us"]),
    }


def from_rows(sweep_row: bytes, shard_rows: Mapping[int, bytes]) -> Sweep | DoneMarker:
    """Take a sweep back from its ledger rows."""
    data: bytes = decode(sweep_row, "fold_row")[1]["data"]
    _, state, limit, latest_us, expires_ms = _SWEEP.unpack_from(data)
    if state == _DONE:
        return DoneMarker(expires_ms)
    sweep = Sweep.declare(decode(data[_SWEEP.size :], "sweep_command")[1])
    sweep.limit, sweep.latest_us = limit, latest_us
    for shard in sorted(shard_rows):
        sweep.count(shard, ShardFacts.from_row(shard_rows[shard]))
    return sweep
