"""Documents that change until an end that never goes back: the end stands under a key of its own. Pure.

Only ends are written there. So whoever is late with an earlier state (a process that was declared dead while
it wrote) cannot undo an end, and nobody has to look before he writes.
"""

from __future__ import annotations

#: Prefixes of such documents.
ENDING: tuple[str, ...] = ("status:", "reduction:")


def end_key(key: str) -> str:
    """Return the key of a document's end."""
    return f"end:{key}"


def keys_of(key: str) -> tuple[str, ...]:
    """Return the keys under which a document may stand; the first one that does counts."""
    return (end_key(key), key) if key.startswith(ENDING) else (key,)
