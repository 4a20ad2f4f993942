"""What every store makes of its arguments, so that all of them agree. Pure, no I/O."""

from __future__ import annotations

import math
from collections.abc import Iterable


def effective_ttl(ttl: float | None) -> float | None:
    """Return the seconds to keep an item: None for ever, 0.0 for "gone already".

    Callers pass ``deadline - now``, which may well be negative: that is not an error. Raises
    ValueError for NaN.
    """
    if ttl is None or ttl == math.inf:
        return None
    if math.isnan(ttl):
        raise ValueError("ttl is NaN")
    return max(ttl, 0.0)


def check_index_add(scores: Iterable[float], keep: int) -> None:
    """Raise ValueError for a NaN score (it has no place in an order) or a negative ``keep``."""
    if keep < 0:
        raise ValueError(f"keep is {keep}; it must be 0 or more")
    if any(map(math.isnan, scores)):
        raise ValueError("an index score is NaN")


def check_page(offset: int, limit: int) -> None:
    """Raise ValueError for negative values: Redis and SQLite would each read them in their own way."""
    if offset < 0 or limit < 0:
        raise ValueError(f"offset {offset} and limit {limit} must be 0 or more")
