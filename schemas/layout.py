"""How a sweep's rows lie in its shards: sizes, groups and the axis they vary along. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shotbus.schemas.errors import fail
from shotbus.schemas.packed import Array, pack, unpack
from shotbus.schemas.pub import MAX_POINTS

MAX_SHARDS = 1_000_000


@dataclass(frozen=True)
class Layout:
    """Shapes of a sweep.

    ``rows``: points of each shard (int32, shards). ``groups``: the group each shard belongs to (int32,
    shards). ``axis``: the coordinate of each row of the whole sweep, in shard order (float64, all rows;
    may be empty when the reduction has no use for it).
    """

    rows: Array
    groups: Array
    axis: Array

    @property
    def shards(self) -> int:
        """Number of shards."""
        return int(self.rows.size)

    @cached_property
    def starts(self) -> Array:
        """First row of each shard, and behind the last shard the number of all rows (int64)."""
        return np.concatenate([[0], np.cumsum(self.rows, dtype="<i8")])

    @property
    def points(self) -> int:
        """Number of rows of the whole sweep."""
        return int(self.starts[-1])

    @cached_property
    def row_groups(self) -> Array:
        """The group of each row (int32)."""
        return np.repeat(self.groups, self.rows)


def pack_layout(layout: Layout) -> bytes:
    """Return the wire form."""
    arrays = {
        "rows": np.asarray(layout.rows, dtype="<i4"),
        "groups": np.asarray(layout.groups, dtype="<i4"),
        "axis": np.asarray(layout.axis, dtype="<f8"),
    }
    return pack(arrays)


def unpack_layout(data: bytes, shards: int) -> Layout:
    """Read the wire form of a sweep of ``shards`` shards.

    Raises:
        ShotbusError: SB-1107 without a layout, SB-1004 unreadable, SB-1108 when it does not fit.

    """
    if not data:
        raise fail("SB-1107", "$.layout", hint="declare the rows, groups and axis of the shards")
    arrays, _ = unpack(data)
    try:
        layout = Layout(arrays["rows"], arrays["groups"], arrays["axis"])
    except KeyError as error:
        raise fail("SB-1004", "$.layout", detail=f"array {error} is missing") from error
    if not _fits(layout, shards):
        raise fail("SB-1108", "$.layout", limit=f"{shards} shards", detail="arrays do not fit together")
    return layout


def _fits(layout: Layout, shards: int) -> bool:
    rows, groups, axis = layout.rows, layout.groups, layout.axis
    return bool(
        rows.shape == groups.shape == (shards,)
        and rows.dtype == groups.dtype == np.dtype("<i4")
        and axis.dtype == np.dtype("<f8")
        and (rows >= 1).all()
        and rows.sum(dtype="<i8") <= MAX_POINTS
        and axis.shape in {(0,), (int(rows.sum(dtype="<i8")),)}
        and np.isfinite(axis).all()
    )
