"""An event loop without a clock and without I/O: time jumps to whatever is due next. Pure but for asyncio.

Two runs of the same program on it do the same things in the same order. Nothing outside can wake it, so a
program in which nothing is due any more is a deadlock, and said to be one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")
#: Wall time at the beginning of every simulation: 2026-01-01T00:00:00Z, milliseconds.
EPOCH_MS = 1_767_225_600_000


#: Turns of the loop in one moment; a busy moment of a simulation has some hundreds.
_MOST_TURNS = 100_000


class DeadlockError(RuntimeError):
    """Every task waits, and no timer is set: nothing would ever happen again."""


class LivelockError(RuntimeError):
    """Tasks go on and on in one moment: somebody waits for no time at all for what needs some."""


class _Calendar:
    """Stands in for the selector: to wait is to move the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._turns = 0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise DeadlockError("every task waits and no timer is set")
        self._turns = 0 if timeout > 0 else self._turns + 1
        if self._turns > _MOST_TURNS:
            self._turns = 0  # what is ended now gets its turns
            raise LivelockError(f"{_MOST_TURNS} turns of the loop at {self.now:.3f} s")
        self.now += max(0.0, timeout)
        return []

    def close(self) -> None:
        """Nothing was opened."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs coroutines in simulated time; sockets, processes, threads and signals do not exist."""

    def __init__(self) -> None:
        """Begin at time zero."""
        super().__init__()
        self._selector = _Calendar()

    def time(self) -> float:
        """Return simulated seconds since the beginning."""
        return self._selector.now

    def run_in_executor(self, *_: Any) -> NoReturn:  # type: ignore[override]  # no future ever comes
        """Refuse: a thread would bring real time in."""
        raise RuntimeError("simulated time has no threads")

    def _process_events(self, event_list: list[Any]) -> None:
        del event_list

    def _write_to_self(self) -> None:
        """Nobody else has a thread that could need to wake this loop."""


class SimulatedClock:
    """The clocks of one host. ``wrong_ms`` is how far its wall clock is off, ``looks`` who felt that."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self.wrong_ms = 0
        self.looks = 0

    def wall_ms(self) -> int:
        """Return milliseconds since the epoch, as this host believes."""
        self.looks += self.wrong_ms != 0
        return EPOCH_MS + self.wrong_ms + int(self._loop.time() * 1000)

    def monotonic(self) -> float:
        """Return seconds since the beginning."""
        return self._loop.time()


def run(main: Callable[[SimulatedLoop], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function on a new loop; returns its value, ends whatever it left running."""
    loop = SimulatedLoop()
    with _current(loop):
        try:
            return loop.run_until_complete(main(loop))
        finally:
            try:
                _end_all(loop)
            finally:
                loop.close()


def _end_all(loop: SimulatedLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


@contextlib.contextmanager
def _current(loop: SimulatedLoop) -> Iterator[None]:
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        asyncio.set_event_loop(None)
