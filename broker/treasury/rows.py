"""Ledger rows of purses, the Treasury's and the shards' alike: schema ``treasury_row``. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shotbus.broker.treasury.budgets import Purse
from shotbus.schemas.codec import decode, encode

#: The shard number in the row of the Treasury's own account.
WHOLE = -1
TOTALS = ("number", "sent", "heard", "granted", "used", "returned", "overdrawn", "reserved")
WANTS = ("wanted", "smallest")
_NOTHING = dict.fromkeys((*TOTALS, *WANTS), 0)


def row(
    purse: Purse,
    *,
    limit: int,
    shard: int = WHOLE,
    alerted: tuple[float, int] = (0.0, 0),
    bound: str = "",
    counts: Mapping[str, int] | None = None,
) -> bytes:
    """Return a row.

    ``alerted`` is the highest threshold that was told of, and when (wall time, ms); ``counts`` are those of
    :data:`TOTALS` and :data:`WANTS` that are not zero.
    """
    fields = {
        **purse._asdict(),
        "limit": limit,
        "shard": shard,
        "alerted": alerted[0],
        "alerted_ms": alerted[1],
        "bound": bound,
        **_NOTHING,
        **(counts or {}),
    }
    return encode("treasury_row", fields)


def read_row(data: bytes) -> dict[str, Any]:
    """Return a row's fields."""
    return decode(data, "treasury_row")[1]
