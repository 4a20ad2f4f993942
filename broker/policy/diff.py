"""What changed between two versions of the policy, in words, for the audit record. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from shotbus.broker.config import Config
from shotbus.broker.policy.config import RuleConfig
from shotbus.broker.policy.rulebook import as_plain, canonical


def diff(old: Config, new: Config) -> list[str]:
    """Return one sentence for each thing that decisions follow from and that is not the same any more."""
    before, after = canonical(old), canonical(new)
    rules_before = {rule["name"]: rule for rule in before["routing"].pop("rules")}
    rules_after = {rule["name"]: rule for rule in after["routing"].pop("rules")}
    return [*_rules(rules_before, rules_after), *_tables("", before, after)]


def _rules(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in before:
        if name not in after:
            yield f"rule {name!r} is gone"
    names = list(after)
    for place, name in enumerate(names):
        if name not in before:
            where = f"after {names[place - 1]!r}" if place else "first"
            yield f"rule {name!r} is new, {where}: {_told(after[name])}"
        else:
            yield from _tables(f"rule {name!r}: ", before[name], after[name])
    kept_before = [name for name in before if name in after]
    kept_after = [name for name in after if name in before]
    if kept_before != kept_after:
        yield f"rules are in another order: {', '.join(names)}"


def _told(rule: Mapping[str, Any]) -> str:
    """Return what a rule says, without what it leaves open."""
    said = _said(rule, as_plain(RuleConfig()))
    return json.dumps({name: value for name, value in said.items() if name != "name"})


def _said(value: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _said(inner, defaults[name]) if isinstance(inner, Mapping) else inner
        for name, inner in value.items()
        if inner != defaults[name]
    }


def _tables(place: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys((*before, *after)):
        path = f"{place}{name}"
        if name not in after:
            yield f"{path} is gone"
        elif name not in before:
            yield f"{path} is new: {json.dumps(after[name])}"
        elif isinstance(before[name], Mapping):
            yield from _tables(f"{path}.", before[name], after[name])
        elif before[name] != after[name]:
            yield f"{path}: {json.dumps(before[name])} -> {json.dumps(after[name])}"
