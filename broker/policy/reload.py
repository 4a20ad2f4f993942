"""A policy that comes while the broker runs: read, checked, put over a configuration. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from shotbus.broker.config import Config
from shotbus.broker.config_parse import build, unknown_keys
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
    """Return a configuration with another policy: sections, and of pools tables, that the document has.

    They are taken whole, what is missing in them has its default; see :mod:`shotbus.broker.policy.merge` for
    a document that goes over what is in force.

    Raises ShotbusError with every mistake: unknown sections, pools that a restart would have to add, values
    that cannot work.
    """
    problems = unknown_keys(document, (*SECTIONS, "pools"), "$")
    told = document.get("pools", {})
    pools = told if isinstance(told, Mapping) else {}
    if told is not pools:
        problems.append(Problem("SB-2002", "$.pools", limit="a table", actual=type(told).__name__))
    hint = "a pool is added by a restart of the roles with it in their configuration"
    problems += [
        Problem("SB-1102", f"$.pools.{name}", actual=str(name), hint=hint)
        for name in pools
        if name not in config.pools
    ]
    for name in config.pools:
        if isinstance(mine := pools.get(name), Mapping):
            problems += unknown_keys(mine, POOL_KEYS, f"$.pools.{name}")
    whole = as_plain(config)
    merged = {**whole, **{name: document[name] for name in SECTIONS if name in document}}
    merged["pools"] = {name: _pool(whole["pools"][name], pools.get(name, {})) for name in config.pools}
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


def _pool(present: Mapping[str, Any], told: Any) -> Any:
    """Return a pool's table with what is said of it; what has the wrong form stays so, to be refused."""
    if not isinstance(told, Mapping):
        return told
    return {**present, **{key: told[key] for key in POOL_KEYS if key in told}}
