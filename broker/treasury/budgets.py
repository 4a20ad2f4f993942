"""Which budgets a job falls under, and the purse of each that it takes from. Pure.

A *purse* is one account in one period: a budget with ``tenant = "*"`` by the day is one purse a tenant a day.
Units are integers: micro-units of money, microseconds of backend time, shots, jobs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from shotbus.broker.config import GAUGES, BudgetConfig
from shotbus.broker.treasury.periods import period_of
from shotbus.broker.treasury.prices import MICRO, Cost, micro
from shotbus.schemas.ids import digest, keyed_partition

_EACH = "*"
_IN_MICRO = ("money", "backend_seconds")


class Claim(NamedTuple):
    """Whose job it is, where it is to run, and what it takes at most.

    ``cost`` is what an attempt can never exceed, ``measured`` what it is not expected to; None is the same.
    """

    tenant: str
    experiment: str
    pool: str
    cost: Cost
    measured: Cost | None = None


class Purse(NamedTuple):
    """Identity of an account in a period that begins at ``since_ms``.

    ``measure`` is part of it, so that a budget which is changed to count something else begins anew. A word
    is empty where the budget does not tell tenants, experiments or pools apart.
    """

    budget: str
    measure: str
    tenant: str
    experiment: str
    pool: str
    since_ms: int

    @property
    def resource(self) -> str:
        """What is counted."""
        return self.measure.partition("/")[0]

    @property
    def period(self) -> str:
        """Over which kind of period."""
        return self.measure.partition("/")[2]

    @property
    def until_ms(self) -> int:
        """When its period ends; 0 for never."""
        return period_of(self.period, self.since_ms).until

    @property
    def key(self) -> bytes:
        """Bounded bytes for ledgers and records, whatever the names contain."""
        return digest(*self[:5], str(self.since_ms)).hex().encode()

    def partition(self, partitions: int) -> int:
        """Return the Treasury's shard: all purses of a tenant are in one."""
        return keyed_partition(self.tenant or "\n".join(self[:5]), partitions)

    @property
    def words(self) -> str:
        """The purse as people read it: the budget and whose it is."""
        named = zip(("tenant", "experiment", "pool"), self[2:5], strict=True)
        return " ".join([self.budget, *(f"{name}={value}" for name, value in named if value)])


def purse_of(fields: Mapping[str, Any]) -> Purse:
    """Return the purse that a record is about."""
    return Purse(*(fields[name] for name in Purse._fields))


@dataclass(frozen=True, slots=True)
class Budget:
    """A configured budget with its limit in units."""

    name: str
    config: BudgetConfig
    limit: int

    @property
    def measure(self) -> str:
        """What is counted and over which period."""
        return f"{self.config.resource}/{self.config.period}"

    @property
    def is_strict(self) -> bool:
        """Tell whether the longest that an attempt may take is set aside: then it is never overdrawn."""
        return self.config.bound == "attempt"

    @property
    def identity(self) -> tuple[str, str]:
        """Name and measure, with which its purses begin."""
        return self.name, self.measure

    def covers(self, claim: Claim) -> bool:
        """Tell whether a job falls under it."""
        mine = self.config
        return (
            mine.tenant in ("", _EACH, claim.tenant)
            and mine.experiment in ("", _EACH, claim.experiment)
            and mine.pool in ("", _EACH, claim.pool)
        )

    def units(self, claim: Claim) -> int:
        """Return what a job takes of it, by what its bound says."""
        cost = claim.cost if self.is_strict or claim.measured is None else claim.measured
        return units_of(cost, self.config.resource)

    def purse(self, claim: Claim, now_ms: int) -> Purse:
        """Return the purse that a job takes from now."""
        mine = self.config
        return Purse(
            self.name,
            self.measure,
            claim.tenant if mine.tenant else "",
            claim.experiment if mine.experiment else "",
            claim.pool if mine.pool else "",
            period_of(mine.period, now_ms).since,
        )


class Budgets:
    """The configured budgets, found by a job's tenant at the cost of one lookup where there are none."""

    def __init__(self, configs: Mapping[str, BudgetConfig]) -> None:
        self._by_name = {
            name: Budget(name, config, limit_of(config)) for name, config in sorted(configs.items())
        }
        every = self._by_name.values()
        named = dict.fromkeys(one.config.tenant for one in every)
        self._general = _for_tenant(every, "")
        self._of_tenant = {name: _for_tenant(every, name) for name in named}

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: str) -> Budget | None:
        """Return a budget, None when it is not configured (any more)."""
        return self._by_name.get(name)

    def of(self, claim: Claim, now_ms: int) -> list[tuple[Budget, Purse, int]]:
        """Return every budget that a job falls under, with its purse and the units it takes."""
        return [
            (budget, budget.purse(claim, now_ms), units)
            for budget in self._of_tenant.get(claim.tenant, self._general)
            if budget.covers(claim) and (units := budget.units(claim))
        ]

    def bound(self, purse: Purse) -> str:
        """Return by what a purse sets aside; empty when its budget is not configured (any more)."""
        budget = self._by_name.get(purse.budget)
        return budget.config.bound if budget is not None and budget.measure == purse.measure else ""

    def bounding(self, purse: Purse, claim: Claim) -> str:
        """Return the pool whose longest attempt makes a job take more of a purse than is measured, if so."""
        if claim.measured is None or self.bound(purse) != "attempt":
            return ""
        measured, most = (units_of(cost, purse.resource) for cost in (claim.measured, claim.cost))
        return claim.pool if measured < most else ""

    def covers(self, claim: Claim, resource: str) -> bool:
        """Tell whether a job falls under a budget of one resource, whatever it takes of it."""
        found = self._of_tenant.get(claim.tenant, self._general)
        return any(one.config.resource == resource and one.covers(claim) for one in found)

    def limits(self, tenant: str) -> bool:
        """Tell whether any budget can concern a tenant's jobs."""
        return bool(self._of_tenant.get(tenant, self._general))


def _for_tenant(budgets: Any, tenant: str) -> tuple[Budget, ...]:
    return tuple(one for one in budgets if one.config.tenant in ("", _EACH, tenant))


def units_of(cost: Cost, resource: str) -> int:
    """Return how much of a resource a cost is; a job is one of ``jobs`` and of ``queued``."""
    if resource == "money":
        return cost.money
    if resource == "backend_seconds":
        return cost.backend_us
    return cost.shots if resource == "shots" else 1


def limit_of(config: BudgetConfig) -> int:
    """Return a budget's limit in units."""
    return micro(config.limit) if config.resource in _IN_MICRO else int(config.limit)


def is_gauge(resource: str) -> bool:
    """Tell whether units come back when their job ends: they are counted at a time."""
    return resource in GAUGES


def shown(resource: str, units: int) -> str:
    """Return units as people read them."""
    if resource not in _IN_MICRO:
        return str(units)
    whole, rest = divmod(abs(units), MICRO)
    fraction = f".{rest:06d}".rstrip("0") if rest else ""
    return f"{'-' if units < 0 else ''}{whole}{fraction}{' s' if resource == 'backend_seconds' else ''}"


def percent(part: float) -> str:
    """Return a part of a limit as people read it; none is rounded into another threshold."""
    return f"{100 * part:.6g}%"
