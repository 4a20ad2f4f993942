"""A policy that comes while the broker runs: read, checked, put over a configuration. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from shotbus.broker.config import Config
from shotbus.broker.config_parse import build
from shotbus.broker.config_rules import check_config
from shotbus.broker.policy.rulebook import as_plain
from shotbus.schemas.errors import Problem, ShotbusError

#: What can change without a restart; of pools what routing and bills look at.
SECTIONS = ("routing", "windows", "families", "flags", "latency")
POOL_KEYS = ("device", "access", "price")


def policy_document(config: Config) -> dict[str, Any]:
    """Return the reloadable part of a configuration, everything in it JSON."""
    pools = {
        name: {key: as_plain(getattr(pool, key)) for key in POOL_KEYS} for name, pool in config.pools.items()
    }
    return {**{name: as_plain(getattr(config, name)) for name in SECTIONS}, "pools": pools}


def with_policy(config: Config, document: Mapping[str, Any]) -> Config:
    """Return a configuration with another policy.

    Raises ShotbusError with every mistake: unknown sections, pools that a restart would have to add, values
    that cannot work.
    """
    problems = [
        Problem("SB-2001", f"$.{name}", actual=str(name), limit=", ".join((*SECTIONS, "pools")))
        for name in document
        if name not in (*SECTIONS, "pools")
    ]
    told = document.get("pools", {})
    pools = told if isinstance(told, Mapping) else {}
    hint = "a pool is added by a restart of the roles with it in their configuration"
    problems += [
        Problem("SB-1102", f"$.pools.{name}", actual=str(name), hint=hint)
        for name in pools
        if name not in config.pools
    ]
    whole = as_plain(config)
    merged = {**whole, **{name: document[name] for name in SECTIONS if name in document}}
    merged["pools"] = {name: {**whole["pools"][name], **_mine(pools, name)} for name in config.pools}
    made: Config = build(Config, merged, "$", problems)
    # Tables of names are read over the defaults: only what is configured counts.
    made = replace(
        made,
        pools={name: made.pools[name] for name in config.pools},
        classes={name: made.classes[name] for name in config.classes},
    )
    problems += check_config(made)
    if problems:
        raise ShotbusError(problems)
    return made


def _mine(pools: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    mine = pools.get(name, {})
    return {key: mine[key] for key in POOL_KEYS if key in mine} if isinstance(mine, Mapping) else {}
