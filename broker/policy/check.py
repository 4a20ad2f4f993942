"""What the policy's part of a configuration must be to work: names that exist, words, windows. Pure.

Every mistake is a problem of its own with its path, so that all of a file are told at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from shotbus.broker.policy.config import (
    CHOICES,
    CONNECTIVITY,
    REQUIREMENTS,
    SHARE_KEYS,
    UNKNOWN,
    FamilyConfig,
    PrescreenConfig,
    RuleConfig,
    ShareConfig,
    ThenConfig,
    WhenConfig,
)
from shotbus.broker.policy.steps import Step
from shotbus.broker.policy.windows import Window
from shotbus.broker.quality import parse_gate
from shotbus.schemas.errors import Problem
from shotbus.schemas.nearest import did_you_mean
from shotbus.schemas.quantity_names import QUANTITIES

if TYPE_CHECKING:
    # config.py takes the shapes of this package: imported for real this would be a circle.
    from shotbus.broker.config import Config, PoolConfig

_NAME = re.compile(r"[^\s:@,!*]([^:@,!*\n]{0,62}[^\s:@,!*])?")
_EDGE = re.compile(r"(\d{1,5})-(\d{1,5})")


def check_policy(config: Config) -> list[Problem]:
    """Return a problem for each thing in rules, windows, families, flags and pools that cannot work."""
    problems = [*_one_of("$.routing.default", config.routing.default, config.pools)]
    for table, names in _tables(config):
        problems += [
            Problem("SB-2002", f"$.{table}.{name}", limit="a name without : @ , ! *", actual=name)
            for name in names
            if not _NAME.fullmatch(name)
        ]
    for name, window in config.windows.items():
        try:
            Window.compile(window)
        except ValueError as error:
            problems.append(Problem("SB-2002", f"$.windows.{name}", actual=window.cron, detail=str(error)))
    for name, family in config.families.items():
        problems += _family(f"$.families.{name}", family)
    for name, pool in config.pools.items():
        problems += _pool(f"$.pools.{name}", pool, config)
    return problems + _rules(config)


def _tables(config: Config) -> Iterator[tuple[str, Iterable[str]]]:
    yield "windows", config.windows
    yield "families", config.families
    yield "flags", config.flags
    yield "latency", config.latency


def _rules(config: Config) -> list[Problem]:
    problems: list[Problem] = []
    names: dict[str, int] = {}
    for number, rule in enumerate(config.routing.rules):
        path = f"$.routing.rules[{number}]"
        if not _NAME.fullmatch(rule.name):
            problems.append(
                Problem("SB-2002", f"{path}.name", limit="a name without : @ , ! *", actual=rule.name)
            )
        elif rule.name in names:
            hint = f"rule {names[rule.name]} has the same name; the trail could not tell them apart"
            problems.append(Problem("SB-2002", f"{path}.name", actual=rule.name, hint=hint))
        names.setdefault(rule.name, number)
        problems += _rule(path, rule, config)
    return problems


def _rule(path: str, rule: RuleConfig, config: Config) -> Iterator[Problem]:
    if rule.flag:
        yield from _one_of(f"{path}.flag", rule.flag.removeprefix("!"), config.flags)
    yield from _when(f"{path}.when", rule.when, config)
    yield from _then(f"{path}.then", rule.then, config)


def _when(path: str, when: WhenConfig, config: Config) -> Iterator[Problem]:
    yield from _window(f"{path}.window", when.window, config)
    yield from _words(f"{path}.connectivity", when.connectivity, CONNECTIVITY)
    yield from _words(f"{path}.mid_circuit", when.mid_circuit, ("yes", "no"))
    for pattern in when.classes:
        word = pattern.removeprefix("!")
        if not word.endswith("*"):
            yield from _one_of(f"{path}.classes", word, config.classes)
    for pattern in when.families:
        name, _, version = pattern.removeprefix("!").partition("@")
        if name.endswith("*"):
            continue
        yield from _one_of(f"{path}.families", name, config.families)
        versions = config.families[name].versions if name in config.families else ()
        if version and versions:
            yield from _one_of(f"{path}.families", version, versions)


def _then(path: str, then: ThenConfig, config: Config) -> Iterator[Problem]:
    for pool in then.pools:
        yield from _one_of(f"{path}.pools", pool, config.pools)
    yield from _words(f"{path}.choose", then.choose, CHOICES)
    yield from _words(f"{path}.unknown", then.unknown, UNKNOWN)
    for text in then.fallback:
        yield from check_step(f"{path}.fallback", text, config)
    for name in then.require:
        yield from _words(f"{path}.require", name, REQUIREMENTS)
    yield from _window(f"{path}.window", then.window, config)
    if then.latency_budget:
        yield from _one_of(f"{path}.latency_budget", then.latency_budget, config.latency)
    if not (then.explore == -1 or 0 <= then.explore <= 100):
        yield Problem("SB-2002", f"{path}.explore", limit="0 to 100", actual=str(then.explore))
    if not (then.max_queue_seconds == -1 or 0 < then.max_queue_seconds <= 1e9):
        limit, actual = "above 0, at most 1e9", str(then.max_queue_seconds)
        yield Problem("SB-2002", f"{path}.max_queue_seconds", limit=limit, actual=actual)
    yield from _prescreen(f"{path}.prescreen", then.prescreen, config)
    yield from _share(f"{path}.shadow", then.shadow, config)
    yield from _share(f"{path}.canary", then.canary, config)
    for problem in parse_gate(then.quality.as_options(), f"{path}.quality.")[1]:
        yield Problem("SB-2002", problem.path, limit=problem.limit, actual=problem.actual, hint=problem.hint)


def check_step(path: str, text: str, config: Config) -> Iterator[Problem]:
    """Yield what is wrong with one step of a fallback chain, of a rule or of a request."""
    try:
        step = Step.parse(text)
    except ValueError as error:
        yield Problem("SB-2002", path, actual=text, detail=str(error))
        return
    known: dict[str, Iterable[str]] = {
        "pool": config.pools,
        "defer": config.windows,
        "demote": config.classes,
    }
    if step.kind in known:
        yield from _one_of(path, step.name, known[step.kind])


def _prescreen(path: str, screen: PrescreenConfig, config: Config) -> Iterator[Problem]:
    if screen == PrescreenConfig():
        return
    yield from _one_of(f"{path}.pool", screen.pool, config.pools)
    yield from _words(f"{path}.quantity", screen.quantity, QUANTITIES)
    if not (screen.quantity and screen.keep):
        actual = f"quantity = {screen.quantity!r}, keep = {str(screen.keep)!r}"
        yield Problem("SB-2002", path, limit="quantity and keep", actual=actual)


def _share(path: str, share: ShareConfig, config: Config) -> Iterator[Problem]:
    if share == ShareConfig():
        return
    yield from _one_of(f"{path}.pool", share.pool, config.pools)
    yield from _words(f"{path}.key", share.key, SHARE_KEYS)
    if not 0 <= share.percent <= 100:
        yield Problem("SB-2002", f"{path}.percent", limit="0 to 100", actual=str(share.percent))


def _family(path: str, family: FamilyConfig) -> Iterator[Problem]:
    yield from _words(f"{path}.connectivity", family.connectivity, CONNECTIVITY)
    for version in dict.fromkeys(family.versions):
        if family.versions.count(version) > 1:
            yield Problem("SB-2002", f"{path}.versions", limit="each version once", actual=version)


def _pool(path: str, pool: PoolConfig, config: Config) -> Iterator[Problem]:
    yield from _window(f"{path}.access.hours", pool.access.hours, config)
    for text in pool.access.reservations:
        tenant, at, window = text.partition("@")
        if not (tenant and at):
            yield Problem("SB-2002", f"{path}.access.reservations", limit="TENANT@WINDOW", actual=text)
        else:
            yield from _one_of(f"{path}.access.reservations", window, config.windows)
    for text in pool.device.connectivity:
        found = _EDGE.fullmatch(text)
        if found is None or found[1] == found[2] or max(int(found[1]), int(found[2])) >= pool.max_qubits:
            limit = f'two qubits below {pool.max_qubits} as "0-1"'
            yield Problem("SB-2002", f"{path}.device.connectivity", limit=limit, actual=text)


def _window(path: str, name: str, config: Config) -> Iterator[Problem]:
    if name:
        yield from _one_of(path, name, config.windows)


def _words(path: str, word: str, allowed: Sequence[str]) -> Iterator[Problem]:
    if word:
        yield from _one_of(path, word, allowed)


def _one_of(path: str, name: str, known: Iterable[str]) -> Iterator[Problem]:
    names = list(known)
    if name not in names:
        hint = did_you_mean(name, names)
        yield Problem(
            "SB-2002", path, limit=", ".join(names) or "nothing is configured", actual=name, hint=hint
        )
