"""``policy apply``: a policy checked here and taken by every shard of the broker."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from shotbus.broker.config import Config
from shotbus.broker.config_loader import read_toml
from shotbus.broker.policy.diff import diff
from shotbus.broker.policy.policy import Policy
from shotbus.broker.policy.reload import POOL_KEYS, SECTIONS, policy_document, with_policy
from shotbus.cli.common import EXIT_FAILED, Options, emit, printable, run_async
from shotbus.cli.jobs import unconnected
from shotbus.producers.asking import Wish, ask
from shotbus.schemas.errors import fail

_SECONDS = 10.0


def apply_file(options: Options, file: Path, *, dry_run: bool, reason: str) -> None:
    """Check the policy of a file, have it taken unless it is a dry run, and say what changed."""
    config = with_policy(options.config, _document(file, options.config))
    changes = diff(options.config, config)
    version = Policy.compile(config).version
    if dry_run:
        emit(options, {"version": version, "changes": changes, "applied": False}, _text(version, changes))
        return
    if not reason.strip():
        raise fail("SB-1107", "$.reason", hint="say why: it is kept in the audit log")
    run_async(_apply(options, config, version, reason))


def _document(file: Path, config: Config) -> dict[str, Any]:
    """Return what of a configuration file is policy; other sections are those of the roles.

    A pool that the roles do not have stays in it whatever is said of it, so that it is refused.
    """
    told = read_toml(file)
    document = {name: told[name] for name in SECTIONS if name in told}
    pools = {name: {key: one[key] for key in POOL_KEYS if key in one} for name, one in _pools(told).items()}
    return {
        **document,
        "pools": {name: one for name, one in pools.items() if one or name not in config.pools},
    }


def _pools(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    pools = told.get("pools", {})
    return {name: one for name, one in pools.items() if isinstance(one, dict)} if pools else {}


async def _apply(options: Options, config: Config, version: str, reason: str) -> None:
    arguments = {"policy": json.dumps(policy_document(config), separators=(",", ":"))}
    wish = Wish("reload", "policy", "policy", "", reason, arguments)
    async with unconnected(options) as client:
        await client.start()
        shards = range(client.session.topics.partitions)
        (answers,) = await ask(client.session, [wish], shards, timeout=_SECONDS)
    refused = [answer for answer in answers if not answer["changed"]]
    changes = list(dict.fromkeys(text for answer in refused or answers for text in answer["problems"]))
    data = {"version": version, "changes": changes, "applied": not refused}
    if refused:
        emit(options, data, "\n".join([f"{len(refused)} shards refused it:", *map(printable, changes)]))
        sys.exit(EXIT_FAILED)
    emit(options, data, _text(version, changes))


def _text(version: str, changes: list[str]) -> str:
    return "\n".join([f"policy {version}", *(f"  {printable(text)}" for text in changes or ["no change"])])
