"""The hint that names what was probably meant. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: A name is compared with others in time that grows with its length, and may have a megabyte.
_LONGEST = 64


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint with the known name that is nearest, empty when none is near."""
    near = difflib.get_close_matches(name[:_LONGEST], list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else ""
