"""What is left of the budgets, read from the Treasury's ledger. Reads the bus.

The figures lag what the dispatcher's shards know by about a second; they never show more left than there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shotbus.broker.bus.base import Bus, TopicPartition
from shotbus.broker.config import Config
from shotbus.broker.ledger import read_ledger
from shotbus.broker.topics import Topics
from shotbus.broker.treasury.account import Account, share_of
from shotbus.broker.treasury.budgets import Budget, Budgets, Purse, purse_of, shown
from shotbus.broker.treasury.machine import is_account_key
from shotbus.broker.treasury.periods import period_of, stamp
from shotbus.broker.treasury.rows import WHOLE, read_row


@dataclass(frozen=True, slots=True)
class Balance:
    """One purse now, in units; ``held`` is with the dispatcher's shards, ``reserved`` of it by live jobs.

    ``alerted`` is the highest threshold that was passed, as a part of the limit, 0 for none; ``alerted_ms``
    when (wall time), 0 where that was not noted.
    """

    purse: Purse
    limit: int
    spent: int
    reserved: int
    held: int
    overdrawn: int
    alerted: float = 0.0
    alerted_ms: int = 0

    @property
    def available(self) -> int:
        """What is left to be granted; idle units with the shards can be called back on top."""
        return max(0, self.limit - self.spent - self.held)

    def as_json(self) -> dict[str, Any]:
        """Return the balance in units, and as people read it."""
        purse, sums = self.purse, ("limit", "spent", "reserved", "held", "available", "overdrawn")
        return {
            "budget": purse.budget,
            "tenant": purse.tenant,
            "experiment": purse.experiment,
            "pool": purse.pool,
            "resource": purse.resource,
            "period": purse.period,
            "since": stamp(purse.since_ms) if purse.until_ms else None,
            "until": stamp(purse.until_ms) if purse.until_ms else None,
            "alerted": self.alerted or None,
            "alerted_at": stamp(self.alerted_ms) if self.alerted_ms else None,
            **{name: shown(purse.resource, getattr(self, name)).removesuffix(" s") for name in sums},
            "units": {name: getattr(self, name) for name in sums},
        }


async def read_balances(bus: Bus, topics: Topics, config: Config, *, now_ms: int) -> list[Balance]:
    """Return the purses of the present periods, and those of former ones that still hold units.

    A budget that nothing has been taken from has one, empty. Raises BusError.
    """
    accounts: dict[Purse, Account] = {}
    for partition in range(topics.partitions):
        rows = await read_ledger(bus, TopicPartition(topics.name("treasury-ledger"), partition))
        for key, value in rows.items():
            if is_account_key(key):
                _take(accounts, read_row(value))
    budgets = Budgets(config.budgets)
    for name in config.budgets:
        budget = budgets.get(name)
        assert budget is not None
        _set_limit(accounts, budget, now_ms)
    shown_now = [one for one in accounts.values() if not _is_over(one.purse, now_ms) or one.held]
    return [_balance(one) for one in sorted(shown_now, key=lambda one: one.purse)]


def _take(accounts: dict[Purse, Account], fields: dict[str, Any]) -> None:
    purse = purse_of(fields)
    account = accounts.setdefault(purse, Account(purse, fields["limit"]))
    if fields["shard"] == WHOLE:
        account.alerted, account.alerted_ms = fields["alerted"], fields["alerted_ms"]
    else:
        account.shares[fields["shard"]] = share_of(fields)


def _set_limit(accounts: dict[Purse, Account], budget: Budget, now_ms: int) -> None:
    """Take the limit as it is configured here, and show a budget that has no purse now."""
    mine = [one for one in accounts.values() if (one.purse.budget, one.purse.measure) == budget.identity]
    for account in mine:
        account.limit = budget.limit
    if not any(not _is_over(one.purse, now_ms) for one in mine):
        config = budget.config
        since = period_of(config.period, now_ms).since
        purse = Purse(*budget.identity, config.tenant, config.experiment, config.pool, since)
        accounts[purse] = Account(purse, budget.limit)


def _is_over(purse: Purse, now_ms: int) -> bool:
    until = purse.until_ms
    return bool(until) and until <= now_ms


def _balance(account: Account) -> Balance:
    reserved = sum(share.reserved for share in account.shares.values())
    return Balance(
        account.purse,
        account.limit,
        account.spent,
        reserved,
        account.held,
        account.overdrawn,
        account.alerted,
        account.alerted_ms,
    )
