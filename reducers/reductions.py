"""The named reductions of a sweep: what is kept of each shard and what is made of all. Pure.

A reduction first digests a shard's result to the few bytes that go into the shard's ledger row, then
adds these bytes up. Every sum is of integers or in index order, so neither the order of arrival nor a
restart shows in the payload.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from shotbus.reducers.minima import Minima, grid_minima, sinusoid_minima
from shotbus.schemas.errors import ShotbusError, fail
from shotbus.schemas.layout import Layout, unpack_layout
from shotbus.schemas.packed import Array
from shotbus.schemas.pub import Counts, Estimates, pack_counts, unpack_result
from shotbus.schemas.reductions import check_reduction

#: Above this many rows a payload would outgrow its record; the rows are then left to ``results``.
MAX_ROWS = 200_000
#: A merged histogram keeps this many outcomes, the most frequent; the others are summed.
MAX_OUTCOMES = 65_536

Payload = tuple[dict[str, Array], dict[str, Any]]


class Accumulator(Protocol):
    """One sweep's reduction while its shards come in, in any order."""

    def digest(self, shard: int, payload: bytes) -> bytes:
        """Return what is kept of a shard's result; changes nothing.

        Raises ShotbusError (SB-5005, SB-1004) for a result that cannot be this shard's.
        """
        ...

    def add(self, shard: int, data: bytes) -> None:
        """Add what :meth:`digest` returned; called once a shard."""
        ...

    def payload(self) -> Payload:
        """Return arrays and meta of everything added so far."""
        ...


class _Collect:
    """Counts of outcomes only, which every reduction reports anyway."""

    def digest(self, shard: int, payload: bytes) -> bytes:  # noqa: ARG002 -- the protocol's signature
        return b""

    def add(self, shard: int, data: bytes) -> None:
        """Nothing to add: the fold itself counts outcomes."""

    def payload(self) -> Payload:
        return {}, {}


class _Expectation:
    """Value and standard error of each row: the sum over the observables of its estimates."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.values = np.full(layout.points, np.nan)
        self.stds = np.full(layout.points, np.nan)

    def digest(self, shard: int, payload: bytes) -> bytes:
        estimates = unpack_result(payload)
        if not isinstance(estimates, Estimates) or not _plausible(estimates, int(self.layout.rows[shard])):
            raise fail("SB-5005", "$.payload", limit=f"estimates of {self.layout.rows[shard]} rows")
        values = estimates.evs.sum(axis=1)
        stds = np.sqrt((estimates.stds**2).sum(axis=1))
        return np.concatenate([values, stds], dtype="<f8").tobytes()

    def add(self, shard: int, data: bytes) -> None:
        start, stop = self.layout.starts[shard : shard + 2]
        self.values[start:stop], self.stds[start:stop] = np.frombuffer(data, dtype="<f8").reshape(2, -1)

    def payload(self) -> Payload:
        if self.layout.points > MAX_ROWS:
            return {}, {"rows_omitted": self.layout.points}
        return {"values": self.values, "stds": self.stds}, {}


class _Minimum(_Expectation):
    """As expectation, plus the minimum of each group over its rows."""

    def __init__(self, layout: Layout, model: str) -> None:
        super().__init__(layout)
        self._model = model

    def payload(self) -> Payload:
        arrays, meta = super().payload()
        layout = self.layout
        minima = _MODELS[self._model](layout.row_groups, layout.axis, self.values, self.stds)
        return {**arrays, **minima.arrays()}, {**meta, "model": self._model}


class _Histogram:
    """Counts of outcomes over all rows of all shards, by register layout."""

    def __init__(self) -> None:
        self._counts: dict[tuple[tuple[str, int], ...], dict[bytes, int]] = {}
        self._shards: dict[tuple[tuple[str, int], ...], list[int]] = {}

    def digest(self, shard: int, payload: bytes) -> bytes:  # noqa: ARG002 -- the protocol's signature
        counts = unpack_result(payload)
        if not isinstance(counts, Counts) or not _consistent(counts):
            raise fail("SB-5005", "$.payload", limit="counts of outcomes")
        merged: dict[bytes, int] = {}
        _merge(merged, counts)
        return pack_counts(_as_counts(counts.registers, merged))

    def add(self, shard: int, data: bytes) -> None:
        counts = unpack_result(data)
        assert isinstance(counts, Counts)
        _merge(self._counts.setdefault(counts.registers, {}), counts)
        self._shards.setdefault(counts.registers, []).append(shard)

    def payload(self) -> Payload:
        if not self._counts:
            return {}, {}
        # Shards with other registers cannot be added up; the lowest shard decides, so order never shows.
        registers = min(self._shards, key=lambda key: min(self._shards[key]))
        others = sum(len(shards) for key, shards in self._shards.items() if key != registers)
        merged = self._counts[registers]
        kept = _most_frequent(merged)
        counts = _as_counts(registers, kept)
        arrays = {"indptr": counts.indptr, "outcomes": counts.outcomes, "counts": counts.counts}
        rest = sum(merged.values()) - sum(kept.values())
        meta = {"registers": [list(item) for item in registers], "rest": rest, "other_registers": others}
        return arrays, meta


def _plausible(estimates: Estimates, rows: int) -> bool:
    evs, stds = estimates.evs, estimates.stds
    return bool(
        evs.ndim == 2
        and evs.shape == stds.shape
        and evs.shape[0] == rows
        and evs.shape[1] > 0
        and evs.dtype == stds.dtype == np.dtype("<f8")
        and np.isfinite(evs).all()
        and np.isfinite(stds).all()
        and (stds >= 0).all()
    )


def _consistent(counts: Counts) -> bool:
    width = sum(width for _, width in counts.registers)
    return bool(
        counts.outcomes.ndim == 2
        and counts.outcomes.dtype == np.dtype("|u1")
        and counts.outcomes.shape == (counts.counts.size, (width + 7) // 8)
        and counts.counts.ndim == 1
        and counts.counts.dtype.kind in "iu"
        and (counts.counts >= 0).all()
    )


def _merge(into: dict[bytes, int], counts: Counts) -> None:
    for outcome, count in zip(counts.outcomes, counts.counts.tolist(), strict=True):
        key = outcome.tobytes()
        into[key] = into.get(key, 0) + count


def _value(outcome: bytes) -> int:
    return int.from_bytes(outcome, "little")


def _most_frequent(merged: Mapping[bytes, int]) -> dict[bytes, int]:
    if len(merged) <= MAX_OUTCOMES:
        return dict(merged)
    order = sorted(merged, key=lambda outcome: (-merged[outcome], _value(outcome)))
    return {outcome: merged[outcome] for outcome in order[:MAX_OUTCOMES]}


def _as_counts(registers: tuple[tuple[str, int], ...], merged: Mapping[bytes, int]) -> Counts:
    order = sorted(merged, key=_value)
    width = (sum(width for _, width in registers) + 7) // 8
    return Counts(
        registers,
        np.array([0, len(order)], dtype="<i4"),
        np.frombuffer(b"".join(order), dtype="|u1").reshape(len(order), width),
        np.array([merged[outcome] for outcome in order], dtype="<i8"),
    )


Model = Callable[[Array, Array, Array, Array], Minima]
_MODELS: Mapping[str, Model] = {"grid": grid_minima, "sinusoid": sinusoid_minima}


def accumulator(reduce: str, options: Mapping[str, str], layout: bytes, shards: int) -> Accumulator:
    """Start a reduction.

    Args:
        reduce: one of :data:`shotbus.schemas.reductions.REDUCTIONS`.
        options: ``model`` of a ``minimum`` (``grid``, the default, or ``sinusoid``); ``min_success``, the
            number of succeeded shards after which the sweep ends early (the fold looks after that).
        layout: packed :class:`Layout`; only ``expectation`` and ``minimum`` need one.
        shards: number of shards declared.

    Raises:
        ShotbusError: SB-1108 or SB-2001 with everything that is wrong; SB-1107, SB-1004 for the layout.

    """
    problems = check_reduction(reduce, options, shards)
    if problems:
        raise ShotbusError(problems)
    if reduce == "collect":
        return _Collect()
    if reduce == "histogram":
        return _Histogram()
    shape = unpack_layout(layout, shards)
    if reduce == "expectation":
        return _Expectation(shape)
    if shape.axis.size != shape.points:
        raise fail("SB-1108", "$.layout.axis", limit=f"{shape.points} values", actual=shape.axis.size)
    return _Minimum(shape, options.get("model", "grid"))
