"""Documents that change until an end that never goes back: the end stands under a key of its own. Pure.

Only ends are written there. So whoever is late with an earlier state (a process that was declared dead while
it wrote) cannot undo an end, and nobody has to look before he writes.

One end does not bind: a submission that was refused is no job, and the same id may come again. Then both
documents stand, and the newer one counts.
"""

from __future__ import annotations

from shotbus.schemas.codec import decode
from shotbus.schemas.outcomes import REFUSED

#: Prefixes of such documents.
ENDING: tuple[str, ...] = ("status:", "reduction:")


def end_key(key: str) -> str:
    """Return the key of a document's end."""
    return f"end:{key}"


def counts(end: bytes, open_: bytes) -> bytes:
    """Return which of two documents counts: one that has ended, and one under the plain key."""
    name, told = decode(end)
    if name != "status_document" or told["sub_status"] != REFUSED:
        return end
    later: bool = decode(open_, name)[1]["updated_us"] >= told["updated_us"]
    return open_ if later else end


def keys_of(key: str) -> tuple[str, ...]:
    """Return the keys under which a document may stand, its end first; see :func:`counts` for both."""
    return (end_key(key), key) if key.startswith(ENDING) else (key,)
