"""A configuration's routing, compiled: rules with their tests, windows, what a decision may read. Pure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shotbus.broker.config import Config, PoolConfig
from shotbus.broker.policy.conditions import Condition, compile_when
from shotbus.broker.policy.config import FamilyConfig, LatencyConfig, RuleConfig, ThenConfig, WhereConfig
from shotbus.broker.policy.steps import Step
from shotbus.broker.policy.windows import Window
from shotbus.schemas.ids import digest

#: The rule of the jobs that no other takes; its name is not a legal one, so that none can be called so.
DEFAULT_RULE = "(default)"
#: The demand that only a person can meet.
APPROVAL = "approval"
_SIZE_KEYS = ("max_qubits", "max_depth", "seconds_per_point")
_POOL_KEYS = ("adapter", "kind", "modes", *_SIZE_KEYS, "price", "device", "access")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule ready to be asked."""

    name: str
    flag: str
    conditions: tuple[Condition, ...]
    pools: tuple[str, ...]
    where: WhereConfig
    then: ThenConfig
    chain: tuple[Step, ...]
    explore: float
    open_to_any: bool
    quality: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Rulebook:
    """Everything that decisions follow from, besides the job and the moment."""

    version: str
    rules: tuple[Rule, ...]
    last: Rule
    pools: Mapping[str, PoolConfig]
    windows: Mapping[str, Window]
    families: Mapping[str, FamilyConfig]
    flags: Mapping[str, float]
    latency: Mapping[str, LatencyConfig]
    min_history: int

    @property
    def gated(self) -> tuple[str, ...]:
        """Return the pools of which some rule demands something, or that ask for a role themselves."""
        rules = [rule for rule in self.rules if rule.then.require]
        asked = {
            name
            for name in self.pools
            if any((rule.open_to_any or name in rule.pools) and demands(rule, self, name) for rule in rules)
        }
        return tuple(name for name, pool in self.pools.items() if pool.access.roles or name in asked)

    @property
    def plain(self) -> bool:
        """Tell whether every ordinary job just goes to the default pool."""
        usual = self.pools.get(self.last.pools[0])
        limited = usual is not None and (usual.access.hours or usual.access.reservations)
        asks = any(pool.access.roles for pool in self.pools.values())
        return not (self.rules or self.families or self.latency or limited or asks)


def demands(rule: Rule, book: Rulebook, pool: str) -> tuple[str, ...]:
    """Return what a rule demands of jobs that name a pool: a person's approval for hardware only."""
    kind = book.pools[pool].kind
    return tuple(name for name in rule.then.require if name != APPROVAL or kind == "hardware")


def compile_book(config: Config) -> Rulebook:
    """Compile a configuration that :func:`~shotbus.broker.policy.check.check_policy` has nothing against."""
    windows = {name: Window.compile(window) for name, window in config.windows.items()}
    return Rulebook(
        version=digest(json.dumps(canonical(config), sort_keys=True), size=6).hex(),
        rules=tuple(_rule(rule, config, windows) for rule in config.routing.rules),
        last=_rule(RuleConfig(name=DEFAULT_RULE), config, windows),
        pools=dict(config.pools),
        windows=windows,
        families=dict(config.families),
        flags=dict(config.flags),
        latency=dict(config.latency),
        min_history=config.routing.min_history,
    )


def canonical(config: Config) -> dict[str, Any]:
    """Return what decisions follow from, as plain data: the policy's version is a hash of it."""
    pools = {
        name: {key: as_plain(getattr(pool, key)) for key in _POOL_KEYS} for name, pool in config.pools.items()
    }
    tables = {name: as_plain(getattr(config, name)) for name in ("windows", "families", "flags", "latency")}
    return {"routing": as_plain(config.routing), "pools": pools, **tables}


def as_plain(value: Any) -> Any:
    """Return configuration as dictionaries, lists and scalars."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): as_plain(inner) for name, inner in value.items()}
    return [as_plain(inner) for inner in value] if isinstance(value, tuple) else value


def _rule(rule: RuleConfig, config: Config, windows: Mapping[str, Window]) -> Rule:
    then = rule.then
    return Rule(
        name=rule.name,
        flag=rule.flag,
        conditions=compile_when(rule.when, config.families, windows),
        pools=then.pools or (config.routing.default,),
        where=rule.where,
        then=then,
        chain=tuple(map(Step.parse, then.fallback)),
        explore=then.explore if then.explore >= 0 else config.routing.explore_percent,
        open_to_any=not then.pools,
        quality=then.quality.as_options(),
    )
