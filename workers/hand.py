"""What a worker has read and not begun: bundles, and behind them what may be compiled ahead. No I/O."""

from __future__ import annotations

import asyncio
from collections import deque

from shotbus.workers.lanes import Taken

# What is compiled ahead is forgotten when there is more: nobody waits for it.
_MOST_AHEAD = 32


class Hand:
    """A queue for the slots of one worker."""

    def __init__(self) -> None:
        self._bundles: deque[Taken] = deque()
        self._ahead: deque[bytes] = deque()
        self._ended = False
        self._news = asyncio.Event()

    def __len__(self) -> int:
        return len(self._bundles)

    def put(self, taken: Taken) -> None:
        """Add a bundle."""
        self._bundles.append(taken)
        self._news.set()

    def put_ahead(self, record: bytes, *, always: bool = False) -> bool:
        """Add a bundle that is only to be compiled; says whether there was room, which is ``always`` made."""
        if len(self._ahead) >= _MOST_AHEAD and not always:
            return False
        self._ahead.append(record)
        self._news.set()
        return True

    def take(self) -> list[Taken]:
        """Take all bundles out."""
        bundles, self._bundles = list(self._bundles), deque()
        return bundles

    def end(self) -> None:
        """Give nothing any more: whoever asks is told so."""
        self._ended = True
        self._bundles.clear()
        self._ahead.clear()
        self._news.set()

    async def next(self) -> Taken | bytes | None:
        """Wait for a bundle, or for the record of one to be compiled ahead; None at the end."""
        while not self._ended:
            if self._bundles:
                return self._bundles.popleft()
            if self._ahead:
                return self._ahead.popleft()
            self._news.clear()
            await self._news.wait()
        return None
