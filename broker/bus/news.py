"""Who waits for what: wakes the tasks of one event loop when partitions or groups change. No I/O.

A listener is cleared *before* its owner looks and awaited after it: whatever happens in between sets it
again, so that no wake-up can be lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Hashable
from collections.abc import Set as AbstractSet
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Listener(Generic[K]):
    """One waiting place, set by news about any of its keys. One task waits at a time."""

    __slots__ = ("_news", "_set", "_waiter", "keys")

    def __init__(self, news: News[K], keys: AbstractSet[K]) -> None:
        self.keys = keys
        self._news = news
        self._set = False
        self._waiter: asyncio.Future[None] | None = None

    def clear(self) -> None:
        """Forget past news; call it before looking."""
        self._set = False

    def wake(self) -> None:
        """Set the flag and wake the waiting task, if any."""
        self._set = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, timeout: float) -> None:
        """Return when there is news since :meth:`clear`, or after ``timeout`` seconds."""
        if self._set:
            return
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        timer = loop.call_later(timeout, self._expire, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def close(self) -> None:
        """Stop listening; a task that still waits is woken."""
        self._news.forget(self)
        self.wake()

    @staticmethod
    def _expire(waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            waiter.set_result(None)


class News(Generic[K]):
    """The listeners of one bus instance."""

    def __init__(self) -> None:
        # A dict keeps the order of arrival: the simulation must not depend on hashes.
        self._listeners: dict[Listener[K], None] = {}

    def listen(self, keys: AbstractSet[K]) -> Listener[K]:
        """Return a new listener for ``keys``."""
        listener = Listener(self, keys)
        self._listeners[listener] = None
        return listener

    def tell(self, keys: Collection[K] | None) -> None:
        """Wake whoever listens to one of ``keys``; None wakes everyone."""
        for listener in list(self._listeners):
            if keys is None or not listener.keys.isdisjoint(keys):
                listener.wake()

    def forget(self, listener: Listener[K]) -> None:
        """Drop ``listener``."""
        self._listeners.pop(listener, None)
