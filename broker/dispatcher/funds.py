"""What jobs may cost: reserved before they wait, billed by what they took, freed at their end. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shotbus.broker.config import Config, PoolConfig
from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.traits import circuits_of
from shotbus.broker.machine import Emit, Now
from shotbus.broker.treasury.allowance import Allowance
from shotbus.broker.treasury.answers import Decided, Refused, Waits
from shotbus.broker.treasury.budgets import Budgets, Claim
from shotbus.broker.treasury.prices import MICRO, Cost, Usage, actual, estimate
from shotbus.broker.treasury.refusals import hopeless

#: Where a budget sets aside what is measured instead of the longest attempt: so many times as much.
HEADROOM = 2.0
#: A job that needs units which have been asked for looks again after this long.
LOOK_AGAIN_MS = 250
_HOPELESS_MS = 60_000
_MOST = 1e9
_UNKNOWN_POOL = PoolConfig()


class Funds:
    """The budgets as one shard sees them; without budgets nothing is ever asked."""

    def __init__(self, shard: int, partitions: int, config: Config) -> None:
        self._pools = config.pools
        self._budgets = Budgets(config.budgets)
        self.allowance = Allowance(shard, partitions, self._budgets) if config.budgets else None

    def reconfigure(self, config: Config) -> None:
        """Take other prices; what is reserved stays."""
        self._pools = config.pools

    def has_money(self, tenant: str, experiment: str, pool: str) -> bool:
        """Tell whether a budget of money covers a job on a pool."""
        claim = Claim(tenant, experiment, pool, Cost())
        return self._budgets.covers(claim, "money")

    def price(self, job: Job, pool: str, *, seconds: float, opens: bool) -> float:
        """Return what a job is expected to cost on a pool, in currency units; nothing is set aside for it.

        ``opens``: whether it would open its session there.
        """
        return self._cost(job, pool, seconds, opens=opens).money / MICRO

    def never(self, job: Job, pool: str, now: Now, *, seconds: float, opens: bool) -> str:
        """Return why no budget will ever cover a job on a pool, though all of it were free; empty if it may.

        ``seconds``: of the backend, expected; ``opens``: whether it would open its session there.
        """
        if not self._budgets.limits(job.tenant):
            return ""
        claim = self._claim(job, pool, seconds, opens=opens)
        wrong = (
            hopeless(purse, units, budget.limit, bounding=self._budgets.bounding(purse, claim))
            for budget, purse, units in self._budgets.of(claim, now.wall_ms)
        )
        problem = next((one for one in wrong if one is not None), None)
        if problem is None:
            return ""
        return f"is beyond {problem.path.removeprefix('$.')}: {problem.actual}, at most {problem.limit}"

    def opens(self, job: Job, pool: str) -> None:
        """Note that a job opens its session on a pool, where that has a price."""
        if self._pools.get(pool, _UNKNOWN_POOL).price.per_session:
            job.keep(opens=pool)

    def reserve(self, job: Job, now: Now, *, runs: bool = True) -> Waits | Refused | None:
        """Set aside what a job may cost where it is to run; None when it is, or need not be.

        One that does not run yet (``runs`` false) is a job among the others, and costs nothing.
        """
        allowance = self.allowance
        if allowance is None or not allowance.limits(job.tenant):
            return None
        if runs:
            claim = self._claim(job, job.pool, job.cost, opens=_opens(job, job.pool))
        else:
            claim = Claim(job.tenant, job.experiment, job.pool, Cost(), Cost())
        answer = allowance.reserve(job.job_id, claim, now)
        if isinstance(answer, Refused):
            allowance.loosen(job.job_id)
        return answer if isinstance(answer, Waits | Refused) else None

    def bill(self, job: Job, pool: str, item: Mapping[str, Any], seconds: float) -> Mapping[str, float]:
        """Charge what an attempt took; returns what its result says about it.

        ``seconds``: execution time, where the worker does not tell the backend's own.
        """
        took = _sound(item["backend_seconds"]) if item["backend_seconds"] >= 0 else _sound(seconds)
        billed = _sound(item["cost"]) if item["cost"] >= 0 else None
        settings = self._pools.get(pool, _UNKNOWN_POOL)
        if self.allowance is None and billed is None and settings.price == _FREE:
            return {"backend_seconds": took}
        usage = Usage(shots=item["shots"], seconds=took, sessions=int(_opens(job, pool)))
        if usage.sessions:
            job.forget("opens")
        priced = billed is not None or settings.price != _FREE
        cost = actual(settings.price, usage, billed=billed) if priced else _free(usage)
        if self.allowance is not None:
            self.allowance.charge(job.job_id, cost)
        return {"cost": cost.money / MICRO, "backend_seconds": took}

    def forwarded(self, job: Job) -> None:
        """Note that a job no longer counts as waiting."""
        if self.allowance is not None:
            self.allowance.left_queue(job.job_id)

    def forfeit(self, job: Job) -> None:
        """Charge all that is set aside: an attempt of a job is lost, and nobody will ask what it took."""
        if self.allowance is not None:
            self.allowance.charge(job.job_id, None)

    def release(self, job: Job) -> None:
        """Free what is left of a job's units."""
        if self.allowance is not None:
            self.allowance.release(job.job_id)

    def tick(self, now: Now) -> tuple[list[Emit], list[Decided]]:
        """Close a micro-batch: what to tell the Treasury, and answers that never came."""
        return self.allowance.tick(now) if self.allowance is not None else ([], [])

    def snapshot(self, key: bytes) -> bytes | None:
        """Return a key's row."""
        return self.allowance.snapshot(key) if self.allowance is not None else None

    def restore(self, key: bytes, row: bytes | None) -> None:
        """Let a row replace what was taken for its key; None takes that away."""
        if self.allowance is not None:
            self.allowance.restore(key, row)

    def _claim(self, job: Job, pool: str, seconds: float, *, opens: bool) -> Claim:
        """Return what an attempt costs at most, since workers end it then, and by what was measured."""
        longest = self._pools.get(pool, _UNKNOWN_POOL).attempt_seconds
        most = self._cost(job, pool, longest, opens=opens)
        measured = self._cost(job, pool, min(HEADROOM * seconds, longest), opens=opens)
        return Claim(job.tenant, job.experiment, pool, most, measured)

    def _cost(self, job: Job, pool: str, seconds: float, *, opens: bool) -> Cost:
        """Estimate as the policy does, see :func:`shotbus.broker.policy.candidates.look`."""
        return estimate(
            self._pools.get(pool, _UNKNOWN_POOL).price,
            points=job.points,
            shots=job.shots,
            circuits=circuits_of(job.traits),
            seconds=seconds,
            sessions=int(opens),
        )


def _opens(job: Job, pool: str) -> bool:
    return job.extras is not None and job.extras.get("opens") == pool


def wait_ms(answer: Waits | Refused) -> int:
    """Return how long a job that is live already waits before its units are asked for again."""
    if isinstance(answer, Waits):
        return LOOK_AGAIN_MS
    return answer.retry_after_ms or _HOPELESS_MS


_FREE = _UNKNOWN_POOL.price


def _sound(number: float) -> float:
    """Return what a worker says it took; nonsense is nothing."""
    return number if 0 <= number < _MOST else 0.0


def _free(usage: Usage) -> Cost:
    return Cost(backend_us=int(usage.seconds * MICRO), shots=usage.shots)
