"""What an operator wants of the policy in force: a file over it, or in its place. Pure.

What the file does not mention stays as it is where the policy is in force, never as it is in the
configuration of whoever sends it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shotbus.broker.config import Config
from shotbus.broker.policy.reload import POOL_KEYS, SECTIONS, policy_document, with_policy
from shotbus.schemas.errors import Problem, ShotbusError, fail

#: Tables whose entries have names and can be removed; rules go by their names, too.
_NAMED = ("windows", "families", "flags", "latency")
_REMOVABLE = (*(f"{table}.NAME" for table in (*_NAMED, "rules")), *(f"pools.NAME.{key}" for key in POOL_KEYS))
_RULE = re.compile(r"\$\.routing\.rules\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """A document that goes over the policy in force.

    Tables go key by key; lists and single values in the place of what was there. A rule goes, whole, in the
    place of the one of its name; a new one goes behind the rule before it in the document, else in front of
    all; an empty list of rules is none.

    Attributes:
        document: some of the sections that are policy, as read from a file.
        remove: what goes before that: ``windows.NAME``, ``rules.NAME``, ``pools.NAME.price`` and the like.
        replace: the document is the whole policy; what it does not mention has its built-in default.

    """

    document: Mapping[str, Any]
    remove: tuple[str, ...] = ()
    replace: bool = False

    def as_arguments(self) -> dict[str, str]:
        """Return it as arguments of a control record; dates become text, to be refused as such."""
        policy = json.dumps(self.document, separators=(",", ":"), default=str)
        arguments = {"policy": policy, "remove": json.dumps(self.remove)}
        return arguments | ({"replace": "yes"} if self.replace else {})

    @classmethod
    def of(cls, arguments: Mapping[str, str]) -> PolicyChange:
        """Return what :meth:`as_arguments` made. Raises ShotbusError (SB-1108) for anything else."""
        try:
            document, remove = (
                json.loads(arguments.get("policy", "")),
                json.loads(arguments.get("remove", "[]")),
            )
        except ValueError as error:
            raise fail("SB-1108", "$.policy", limit="JSON", detail=str(error)) from None
        if not isinstance(document, dict):
            raise fail("SB-1108", "$.policy", limit="a JSON object", actual=type(document).__name__)
        if not isinstance(remove, list):
            raise fail("SB-1108", "$.remove", limit="a JSON list", actual=type(remove).__name__)
        return cls(document, tuple(map(str, remove)), "replace" in arguments)

    def over(self, config: Config) -> Config:
        """Return the configuration to go on with. Raises ShotbusError with every mistake.

        Paths of rules are those of the document; rules that it does not mention are called by their names.
        """
        problems: list[Problem] = []
        if self.replace:
            whole = _whole(config, self.document)
        else:
            present = policy_document(config)
            for path in self.remove:
                _remove(present, path, problems)
            whole = _over(present, self.document)
        try:
            made = with_policy(config, whole)
        except ShotbusError as error:
            names = _names(_rules_of(whole))
            problems += [_as_said(one, names, _rules_of(self.document)) for one in error.problems]
        if problems:
            raise ShotbusError(problems)
        return made


def _whole(config: Config, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document that leaves nothing as it is."""
    nothing: dict[str, Any] = {name: {} for name in SECTIONS}
    empty: dict[str, Any] = {key: {} for key in POOL_KEYS}
    nothing["pools"] = dict.fromkeys(config.pools, empty)
    return _over(nothing, document)


def _over(present: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with another over it. What has the wrong form stays so, to be refused."""
    merged = dict(present)
    for name, value in told.items():
        before = present.get(name)
        if name == "rules" and isinstance(before, list):
            merged[name] = _rules(before, value)
        elif isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[name] = _over(before, value)
        else:
            merged[name] = value
    return merged


def _rules(present: Sequence[Mapping[str, Any]], told: Any) -> Any:
    """Return rules with others over them: those others keep their order, what they do not name its place."""
    names = _names(told)
    if not isinstance(told, list) or not told or len(set(names)) < len(told):
        # None, by intent; or what is no list, or cannot be told apart, which is refused as it stands.
        return told
    held = set(_names(present))
    again = iter([rule for rule in told if rule["name"] in held])
    merged = [next(again) if rule["name"] in names else rule for rule in present]
    for place, rule in enumerate(told):
        if rule["name"] not in held:
            merged.insert(_names(merged).index(names[place - 1]) + 1 if place else 0, rule)
    return merged


def _rules_of(document: Mapping[str, Any]) -> Any:
    routing = document.get("routing")
    return routing.get("rules") if isinstance(routing, Mapping) else None


def _names(rules: Any) -> list[str]:
    """Return the names of rules; of what is none nothing."""
    told = rules if isinstance(rules, list | tuple) else ()
    names = [rule.get("name") if isinstance(rule, Mapping) else None for rule in told]
    return [name for name in names if isinstance(name, str)]


def _remove(document: dict[str, Any], path: str, problems: list[Problem]) -> None:
    """Take something out of a whole document."""
    section, _, name = path.removeprefix("routing.").partition(".")
    if section == "pools":
        pool, _, key = name.rpartition(".")
        found = pool in document["pools"] and key in POOL_KEYS
        if found:
            # An empty table is read over the defaults.
            document["pools"][pool][key] = {}
    elif section == "rules":
        rules = document["routing"]["rules"]
        document["routing"]["rules"] = [rule for rule in rules if rule["name"] != name]
        found = len(document["routing"]["rules"]) < len(rules)
    else:
        found = section in _NAMED and document[section].pop(name, None) is not None
    if not found:
        problems.append(Problem("SB-2002", "--remove", limit=_known(document, section), actual=path))


def _known(document: Mapping[str, Any], section: str) -> str:
    """Return what could be removed there instead, in words."""
    if section == "rules":
        names = _names(document["routing"]["rules"])
    elif section in _NAMED:
        names = list(document[section])
    else:
        return ", ".join(_REMOVABLE)
    return ", ".join(f"{section}.{name}" for name in names) or f"there are no {section}"


def _as_said(problem: Problem, names: Sequence[str], told: Any) -> Problem:
    """Return a problem of a merged document with the place that whoever sent his knows."""
    match = _RULE.match(problem.path)
    if match is None or int(match[1]) >= len(names):
        return problem
    name, mine = names[int(match[1])], _names(told)
    place = str(mine.index(name)) if name in mine else json.dumps(name)
    return replace(problem, path=f"$.routing.rules[{place}]{problem.path[match.end() :]}")
