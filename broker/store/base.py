"""The store seam: read models and caches that may be lost at any time. Types only, no I/O.

Nothing in a store is the truth. Everything can be rebuilt from the topics, and every caller treats
a dead store as an empty one. Every implementation passes ``tests/contract/test_store.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class StoreError(Exception):
    """The store did not answer; callers go on as if it were empty."""


class Store(Protocol):
    """Verbs of the store. Keys are short ASCII strings with ``:`` between their parts."""

    async def start(self) -> None:
        """Connect; raises :class:`StoreError` with a message that says what to check."""
        ...

    async def close(self) -> None: ...

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values in the order of ``keys``; None where absent or expired."""
        ...

    async def put_many(self, items: Mapping[str, bytes], *, ttl: float | None = None) -> None:
        """Write all items; they disappear after ``ttl`` seconds (None: kept until deleted)."""
        ...

    async def delete_many(self, keys: Sequence[str]) -> None: ...

    async def index_add(self, index: str, members: Mapping[str, float], *, keep: int) -> None:
        """Put members with their scores into a sorted index and keep the ``keep`` highest."""
        ...

    async def index_range(self, index: str, *, offset: int, limit: int) -> list[tuple[str, float]]:
        """Return members from the highest score down."""
        ...

    async def clear(self) -> None:
        """Remove everything under this store's prefix."""
        ...
