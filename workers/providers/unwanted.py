"""Jobs at a provider that nobody wants: told by one thread, asked about by another. Holds a lock, waits."""

from __future__ import annotations

import threading
from collections.abc import Set as AbstractSet

from shotbus.schemas.errors import fail
from shotbus.workers.adapters.base import ItemResult, failed

_NONE: frozenset[str] = frozenset()


class Unwanted:
    """The tokens of those jobs."""

    def __init__(self) -> None:
        self._tokens: AbstractSet[str] = _NONE
        self._news = threading.Event()

    def __contains__(self, token: str) -> bool:
        return token in self._tokens

    def set(self, tokens: AbstractSet[str]) -> None:
        """Replace them all; whoever waits goes on."""
        # Exchanged, never changed: another thread may be looking.
        self._tokens = frozenset(tokens)
        if tokens:
            self._news.set()

    def wait(self, seconds: float) -> None:
        """Wait so long, or until there are others."""
        self._news.wait(seconds)
        # What is told in between is in the set already, which is looked at next.
        self._news.clear()


def not_handed_in() -> ItemResult:
    """Return the result of a job that nobody wanted before its provider had it."""
    return failed(fail("SB-4002", "$", detail="it was not handed in to its provider"))
