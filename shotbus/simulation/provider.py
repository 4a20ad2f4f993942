"""A paid provider with books of its own: the witness that the broker cannot forge. Pure.

It takes an idempotency token, as the real ones do that deserve trust: what it has accepted under a token it
recognises, answers for, and bills once. It throttles, it is slow, and now and then it accepts a submission
and the answer to that is lost, or its device drifts under a run that is billed. What it has
not begun it cancels when it is asked to, and returns the bill.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from random import Random

from shotbus.broker.invariants import ProviderLedger, Submission


@dataclass(frozen=True, slots=True)
class Manners:
    """How the provider behaves: probabilities a submission, mean ``latency`` in seconds."""

    throttles: float = 0.08
    forgets: float = 0.06
    spoils: float = 0.05
    latency: float = 0.4


#: The device ends a run then, in seconds.
_LONGEST_RUN = 5.0
#: The share of its time that a job waits before it begins.
_QUEUED = 0.5


class ThrottledError(Exception):
    """Come again later: ``retry_after_ms``."""

    def __init__(self, retry_after_ms: int) -> None:
        super().__init__(f"retry after {retry_after_ms} ms")
        self.retry_after_ms = retry_after_ms


class NoAnswerError(Exception):
    """The submission may have been accepted."""


class Provider:
    """One provider behind one pool; ``per_second`` is what it takes for the seconds of a run, besides."""

    def __init__(
        self,
        pool: str,
        random: Random,
        manners: Manners,
        bites: Counter[str],
        *,
        per_second: float = 0.0,
    ) -> None:
        self.ledger = ProviderLedger(pools=(pool,))
        #: While this is above zero everybody is throttled.
        self.brownouts = 0
        self._manners = manners
        self._pool, self._random, self._bites = pool, random, bites
        self._per_second = per_second
        self._ready: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._bills: dict[str, float] = {}
        self._spoilt: set[str] = set()

    async def submit(self, token: str, job_id: str, attempt: int, *, tenant: str, cost: float) -> None:
        """Accept a submission. Raises ThrottledError (certainly not accepted) and NoAnswerError."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._random.uniform(0.005, 0.05))
        if self._random.random() < self._manners.throttles or self.brownouts:
            self._bites["brownout" if self.brownouts else "throttled"] += 1
            raise ThrottledError(self._random.randrange(100, 1_500))
        known = token in self._ready
        self._bites["recognised"] += known
        if not known:
            seconds = min(_LONGEST_RUN, self._random.expovariate(1 / self._manners.latency))
            self._seconds[token], self._ready[token] = seconds, loop.time() + seconds
            self._bills[token] = cost + self._per_second * seconds
        bill = self._bills[token]
        self.ledger.accept(
            Submission(token, job_id, attempt, loop.time(), tenant, bill, billed=not known, pool=self._pool)
        )
        if not known and self._random.random() < self._manners.spoils:
            self._spoilt.add(token)
        await asyncio.sleep(self._random.uniform(0.005, 0.05))
        if self._random.random() < self._manners.forgets:
            self._bites["no_answer"] += 1
            raise NoAnswerError

    def spoilt(self, token: str) -> bool:
        """Tell whether what was accepted under a token comes to nothing, and is billed all the same."""
        return token in self._spoilt

    def took(self, token: str) -> float:
        """Return the seconds that what was accepted under a token takes of the device; -1 for nothing."""
        return self._seconds.get(token, -1.0)

    def bill(self, token: str) -> float:
        """Return what is billed for what was accepted under a token."""
        return self._bills[token]

    def find(self, token: str) -> str:
        """Look a token up: ``done``, ``running`` or ``absent``."""
        ready = self._ready.get(token)
        if ready is None:
            return "absent"
        return "done" if ready <= asyncio.get_running_loop().time() else "running"

    def cancel(self, token: str) -> bool:
        """End what was accepted under a token, if it has not begun; says whether it will never run."""
        ready = self._ready.get(token)
        if ready is None:
            return False
        if asyncio.get_running_loop().time() >= ready - (1 - _QUEUED) * self._seconds[token]:
            self._bites["cancelled_too_late"] += 1
            return False
        self._bites["cancelled_there"] += 1
        del self._ready[token], self._seconds[token], self._bills[token]
        self._spoilt.discard(token)
        books = self.ledger.submissions
        books[:] = [replace(one, billed=False) if one.token == token else one for one in books]
        return True

    def at_hand(self) -> list[Submission]:
        """Return the submissions that it has yet to answer."""
        now = asyncio.get_running_loop().time()
        return [
            one for one in self.ledger.submissions if one.billed and self._ready.get(one.token, now) > now
        ]

    async def wait(self, token: str) -> None:
        """Return when an accepted submission has its result, if it has not been cancelled."""
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(max(0.0, self._ready.get(token, now) - now))
