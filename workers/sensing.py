"""When a worker asks how its backend is, and what it makes of the answer. Talks to child processes.

Children are asked between their runs, by whoever serves them; one child's answer stands for the worker.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from shotbus.broker.children.process import ChildDiedError, ChildStartError, ChildTimeoutError
from shotbus.broker.clock import Clock
from shotbus.workers.adapters.base import Adapter, BackendState, CanSense
from shotbus.workers.backend import state_of, unknown
from shotbus.workers.process import Child
from shotbus.workers.settings import WorkerCounters, WorkerSettings


class Senses:
    """What one worker learns of its backend.

    Args:
        adapter: as this process holds it; one that cannot be asked is never asked.
        settings: how often.
        clock: for that.
        counters: of the worker; processes that asking starts or ends are counted.
        told: called with every answer.

    """

    def __init__(
        self,
        adapter: Adapter,
        settings: WorkerSettings,
        clock: Clock,
        counters: WorkerCounters,
        *,
        told: Callable[[BackendState], None],
    ) -> None:
        self._adapter = adapter
        self._settings = settings
        self._clock = clock
        self._counters = counters
        self._told = told
        self._asked = -math.inf
        self._doubtful = False
        self.wanted = isinstance(adapter, CanSense)

    def wait(self, *, busy: bool) -> float | None:
        """Return the seconds until the backend is to be asked, None for never; ``busy``: work waits."""
        if not self.wanted:
            return None
        patient = busy and not self._doubtful
        every = self._settings.sense_seconds if patient else self._settings.advertise_seconds
        return max(0.0, self._asked + every - self._clock.monotonic())

    def doubt(self) -> None:
        """Ask sooner: something has failed."""
        self._doubtful = True

    async def ask(self, child: Child) -> None:
        """Ask through a child that runs nothing. Never raises for what the child does."""
        # First of all, so that its neighbours do not ask as well.
        self._begin()
        starts = child.starts
        try:
            state = await child.sense(seconds=self._settings.sense_timeout_seconds)
        except ChildStartError as error:
            state = unknown(error)
        except (ChildDiedError, ChildTimeoutError) as error:
            self._counters.children_crashed += isinstance(error, ChildDiedError)
            self._counters.children_timed_out += isinstance(error, ChildTimeoutError)
            state = unknown(error)
        self._counters.children_started += child.starts - starts
        self._told(state)

    def look(self) -> None:
        """Ask the adapter of this process, which answers in microseconds."""
        self._begin()
        self._told(state_of(self._adapter))

    def _begin(self) -> None:
        self._asked, self._doubtful = self._clock.monotonic(), False
