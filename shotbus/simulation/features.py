"""What every other seed has besides: rules, budgets with their Treasury, limits, wishes. Pure."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from shotbus.broker.config import BudgetConfig, Config, PriceConfig
from shotbus.broker.policy.config import RuleConfig, ShareConfig, ThenConfig, WhenConfig

#: Who may spend how much, in currency units and in shots.
MONEY = {"ada": 0.5}
_SHOTS = {"bob": 4_000.0}
#: What the provider takes, in the units of the budgets.
PER_SHOT, PER_SECOND = 0.001, 0.002
#: Where seconds count, attempts are short and points slow, so that what is set aside is soon what is left.
ATTEMPT_SECONDS, SLOWER = 6.0, 3.0
#: Of backend seconds: one sets aside the longest that an attempt may take, one what is measured.
_SECONDS = {
    "seconds-bob": BudgetConfig(tenant="bob", resource="backend_seconds", limit=12.0),
    "measured-ada": BudgetConfig(tenant="ada", resource="backend_seconds", limit=6.0, bound="measured"),
}
#: Who has a budget of any kind.
LIMITED = frozenset({*MONEY, *_SHOTS})
_EXPERIMENTS = ("", "", "shadowed", "hasty", "chained")
_CHAINS: tuple[tuple[str, ...], ...] = ((), (), ("slow",), ("cache:60", "slow"))


def with_features(config: Config, *, paid: str, other: str, timed: bool = False) -> Config:
    """Return a configuration with a rule for each experiment, a price, budgets and limits.

    Args:
        config: its default pool stays the default.
        paid: the pool that costs.
        other: the pool of second choice.
        timed: the price is by backend seconds too, and there are budgets of them.

    """
    usual = config.routing.default
    rules = (
        _rule("shadowed", usual, shadow=ShareConfig(other, 100.0), fallback=(other,)),
        _rule("hasty", usual, max_queue_seconds=2.0, fallback=(other,)),
        _rule("chained", paid, fallback=("cache:60", "demote:bulk", usual)),
    )
    budgets = {
        **{f"money-{who}": BudgetConfig(tenant=who, limit=limit) for who, limit in MONEY.items()},
        **{
            f"shots-{who}": BudgetConfig(tenant=who, resource="shots", limit=limit)
            for who, limit in _SHOTS.items()
        },
    }
    if timed:
        budgets |= _SECONDS
    at_a_time = {"tenant": 6, "tenant:mallory": 3, f"backend:{paid}": 1}
    limits = replace(config.limits, concurrency=at_a_time)
    price = PriceConfig(per_shot=PER_SHOT, per_second=PER_SECOND if timed else 0.0)
    pools = {**config.pools, paid: replace(config.pools[paid], price=price)}
    if timed:
        pools = {name: replace(pool, attempt_seconds=ATTEMPT_SECONDS) for name, pool in pools.items()}
    routing = replace(config.routing, rules=rules)
    return replace(config, pools=pools, routing=routing, budgets=budgets, limits=limits)


def wishes(random: Random, *, keyed: bool) -> dict[str, Any]:
    """Draw what a request asks for besides; one that is ``keyed`` has an idempotency key.

    A unique key besides would make another job of the same idempotency key.
    """
    policy = random.choice(("", "reject", "supersede"))
    unique = f"loop-{random.randrange(8)}" if random.random() < 0.1 and not keyed else ""
    return {
        "experiment": random.choice(_EXPERIMENTS),
        "fallback": list(random.choice(_CHAINS)),
        "speculate": random.choices(("", "answer", "compare"), (8, 1, 1))[0],
        **({"unique_key": unique, "unique_policy": policy} if unique else {}),
    }


def _rule(name: str, *pools: str, **then: Any) -> RuleConfig:
    return RuleConfig(name=name, when=WhenConfig(experiments=(name,)), then=ThenConfig(pools=pools, **then))
