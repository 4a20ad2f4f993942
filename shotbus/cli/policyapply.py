"""``policy apply``: a file over the policy in force, judged and taken by every shard of the broker."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from shotbus.broker.config import Config, PoolConfig
from shotbus.broker.config_loader import read_toml
from shotbus.broker.connect import parse_url
from shotbus.broker.policy.diff import diff
from shotbus.broker.policy.merge import PolicyChange
from shotbus.broker.policy.policy import Policy
from shotbus.broker.policy.reload import POOL_KEYS, SECTIONS
from shotbus.broker.urls import public_url
from shotbus.cli.common import EXIT_FAILED, Options, emit, printable, run_async
from shotbus.cli.jobs import connect
from shotbus.cli.live import asked_live, named
from shotbus.producers.asking import Wish, ask
from shotbus.producers.embedded import is_running
from shotbus.producers.session import Session
from shotbus.schemas.errors import Problem, ShotbusError, fail

_SECONDS = 10.0
#: Of the roles alone: they are not looked at here, which is said.
_OF_ROLES = frozenset(field.name for field in fields(Config)) - {*SECTIONS, "pools"}
_OF_POOLS = frozenset(field.name for field in fields(PoolConfig)) - set(POOL_KEYS)


class Effect(NamedTuple):
    """The version of the policy that would be in force, and what that changes there, in words."""

    version: str
    changes: list[str]


class Wanted(NamedTuple):
    """What is asked for, and what the file says besides that is no policy."""

    change: PolicyChange
    left: list[str]


def wanted(file: Path | None, remove: Sequence[str], *, whole: bool) -> Wanted:
    """Return what a file asks for. What nobody knows stays in it, to be refused with all else."""
    told = read_toml(file) if file else {}
    left = sorted(_OF_ROLES & told.keys())
    document = {name: value for name, value in told.items() if name not in _OF_ROLES}
    pools = document.get("pools", {})
    for name, pool in pools.items() if isinstance(pools, Mapping) else ():
        if isinstance(pool, Mapping):
            left += [f"pools.{name}.{key}" for key in pool if key in _OF_POOLS]
            pools[name] = {key: value for key, value in pool.items() if key not in _OF_POOLS}
    return Wanted(PolicyChange(document, tuple(remove), whole), left)


def try_policy(options: Options, want: Wanted, *, offline: bool) -> None:
    """Say what would change where the policy is in force; without a broker, here, which is said."""
    effect, silent = None, "as asked"
    if not offline:
        effect, silent = asked_live(options, lambda: _tried(options, want.change))
    against = f"compared with what is in force on {public_url(options.url)}"
    if effect is None:
        here = f"{named(options)}, no broker was asked ({silent})"
        effect = _tried_here(options, want.change, f"judged by {here}")
        against = f"compared with {here}: what is in force may be another policy"
    if isinstance(effect, list):
        raise ShotbusError(effect)
    _print(options, want, effect, against, live=not silent, applied=False)


def apply_policy(options: Options, want: Wanted, *, reason: str) -> None:
    """Have every shard go on with it, unless one of them refuses, and say what changed."""
    if not reason.strip():
        raise fail("SB-1107", "$.reason", hint="say why: it is kept in the audit log")
    directory = parse_url(options.url).directory
    if directory is not None and not is_running(directory):
        # One that is started for this would have the caller's configuration, and leave its policy to nobody.
        hint = "start it with shotbus up, or put the policy into the file that it will be started with"
        raise fail(
            "SB-2004", str(directory), detail="no broker runs there that could take a policy", hint=hint
        )
    run_async(_apply(options, want, reason))


def _tried_here(options: Options, change: PolicyChange, judged: str) -> Effect | list[Problem]:
    try:
        config = change.over(options.config)
    except ShotbusError as error:
        return [replace(problem, detail=problem.detail or judged) for problem in error.problems]
    return Effect(Policy.compile(config).version, diff(options.config, config))


async def _tried(options: Options, change: PolicyChange) -> Effect | list[Problem]:
    """Return what the shards say that would become of it, or what is wrong with it."""
    async with connect(options) as client:
        return await _judged(client.session, change)


async def _judged(session: Session, change: PolicyChange) -> Effect | list[Problem]:
    answers = await _ask(session, Wish("locate", "policy", "policy", arguments=change.as_arguments()))
    told = [json.loads(answer["told"] or "{}") for answer in answers]
    if any("problems" not in one for one in told):
        # A dispatcher of an earlier version takes the question for another one.
        raise TimeoutError("its dispatcher does not know the question")
    problems = dict.fromkeys(Problem(**problem) for one in told for problem in one["problems"])
    if problems:
        return list(problems)
    return Effect(told[0]["version"], list(dict.fromkeys(text for one in told for text in one["changes"])))


async def _apply(options: Options, want: Wanted, reason: str) -> None:
    async with connect(options) as client:
        effect = await _judged(client.session, want.change)
        if isinstance(effect, list):
            raise ShotbusError(effect)
        wish = Wish("reload", "policy", "policy", "", reason, want.change.as_arguments())
        answers = await _ask(client.session, wish)
    refused = [answer for answer in answers if not answer["changed"]]
    changes = list(dict.fromkeys(text for answer in refused or answers for text in answer["problems"]))
    against = f"in force on {public_url(options.url)}, {len(answers) - len(refused)} of {len(answers)} shards"
    _print(options, want, Effect(effect.version, changes), against, live=True, applied=not refused)
    if refused:
        sys.exit(EXIT_FAILED)


async def _ask(session: Session, wish: Wish) -> list[dict[str, Any]]:
    (answers,) = await ask(session, [wish], range(session.topics.partitions), timeout=_SECONDS)
    return answers


def _print(
    options: Options, want: Wanted, effect: Effect, against: str, *, live: bool, applied: bool
) -> None:
    lines = effect.changes or ["no change"]
    if want.left:
        lines = [*lines, f"left as it is, the roles take it when they start: {', '.join(want.left)}"]
    text = "\n".join([f"policy {effect.version}, {against}", *(f"  {printable(line)}" for line in lines)])
    data = {**effect._asdict(), "applied": applied, "live": live, "against": against, "left": want.left}
    emit(options, data, text)
