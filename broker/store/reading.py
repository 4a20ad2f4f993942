"""Reading documents that may stand under the key of their end or under their own. Reads the store."""

from __future__ import annotations

from collections.abc import Sequence

from shotbus.broker.store.base import Store
from shotbus.broker.store.ends import counts, keys_of


async def read_documents(store: Store, keys: Sequence[str]) -> list[bytes | None]:
    """Return the values in the order of ``keys``, each from whichever of its keys counts; None where absent.

    Both are asked for in one call: between two a document could end, and would be missed under either.
    Raises StoreError.
    """
    places = [keys_of(key) for key in keys]
    found = await store.get_many([place for pair in places for place in pair])
    values = dict(zip((place for pair in places for place in pair), found, strict=True))
    return [_counting([values[place] for place in pair]) for pair in places]


def _counting(values: Sequence[bytes | None]) -> bytes | None:
    there = [value for value in values if value is not None]
    return counts(*there) if len(there) > 1 else next(iter(there), None)
