"""``audit``: who did what to pools, flags, the policy and waiting jobs, and which budgets gave alarm."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from shotbus.broker.connect import parse_url, topics_for
from shotbus.broker.treasury.budgets import shown
from shotbus.broker.treasury.periods import stamp
from shotbus.cli.common import EXIT_FAILED, Options, command_options, emit, printable, run_async
from shotbus.cli.verify import duration, opened_bus

if TYPE_CHECKING:
    from shotbus.broker.auditlog import AuditLog

_SHOWN = 50
_PLAIN = ("at_us", "chain", "number", "principal", "action", "target", "reason")
#: Shards obey the same command one after the other, within this.
_TOGETHER_US = 60_000_000
#: What an account counts in units.
_UNITS = ("limit", "spent", "held")
#: What is nested deeper is shown as the text that it is.
_LEVELS = 20


class Wanted(NamedTuple):
    """Which entries are asked for; None asks for all."""

    target: str | None
    action: str | None
    principal: str | None

    def meant(self, entry: Mapping[str, Any]) -> bool:
        """Tell whether an entry is one of them."""
        target, action, who = entry["target"], entry["action"], entry["principal"]
        # An account is called by its budget and whose it is.
        named = (target, target.partition(" ")[0]) if action.startswith("budget.") else (target,)
        return (
            self.target in (None, *named)
            and self.action in (None, action, action.partition(".")[0])
            and self.principal in (None, who, who.rpartition("/")[2])
        )


@click.command(short_help="List who did what, and which budgets gave alarm.")
@click.option("--target", metavar="NAME", help="Only what was done to this pool, flag, budget, job or sweep.")
@click.option(
    "--action", metavar="NAME", help="Only this, such as flag, reload, pause, budget.threshold, budget."
)
@click.option("--principal", metavar="NAME", help="Only what this person or machine did.")
@click.option(
    "--since", metavar="DURATION", help="Only the last 90s, 15m, 2h, 3d [default: all that is kept]."
)
@command_options
def audit(options: Options, *, since: str | None, **wanted: str | None) -> None:
    """List the audit log, newest last: when, what, to what, by whom, why, before and after.

    Works on a running broker and starts none. What several shards were told at once is one line; --json has
    each shard's entry. Entries are links of chains of hashes: exit 1 when one was changed, put in, moved or
    left out, whichever are listed. What is missing at the end of a chain is found by shotbus verify.
    """
    seconds = None if since is None else duration(since)
    if run_async(_audit(options, seconds, Wanted(**wanted))):
        raise SystemExit(EXIT_FAILED)


async def _audit(options: Options, seconds: float | None, wanted: Wanted) -> int:
    from shotbus.broker.auditlog import read_audit

    topics = topics_for(parse_url(options.url), options.config)
    since_ms = 0 if seconds is None else int((time.time() - seconds) * 1000)
    async with opened_bus(options) as bus:
        log = await read_audit(bus, topics, since_ms=since_ms)
    found = [entry for entry in log.entries if wanted.meant(entry)]
    document = {"entries": [_told(one) for one in found], "checked": len(log.entries), "broken": log.problems}
    emit(options, document, "\n".join(page(found, log)))
    return len(log.problems)


def _told(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{name: entry[name] for name in _PLAIN},
        **{name: _value(entry[name]) for name in ("before", "after")},
    }


def _value(text: str) -> Any:
    """Return what a text in JSON says; of an entry that was changed it may be any text."""
    try:
        value = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return text
    return value if _is_shallow(value) else text


def _is_shallow(value: Any, levels: int = _LEVELS) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_shallow(part, levels - 1) for part in parts)


def page(found: Sequence[Mapping[str, Any]], log: AuditLog) -> Iterator[str]:
    """Yield the lines for people: ``found`` are the entries of ``log`` that are asked for."""
    for group in _together(found):
        yield from _lines(group)
    yield from (printable(f"broken: {problem}") for problem in log.problems[:_SHOWN])
    if len(log.problems) > _SHOWN:
        yield f"and {len(log.problems) - _SHOWN} more"
    chains = len({entry["chain"] for entry in log.entries})
    whole = f"{len(log.problems)} links are broken" if log.problems else "no link is broken"
    yield f"{len(found)} of {len(log.entries)} entries in {chains} chains; {whole}"


def _together(found: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Return the entries in groups: what several shards did of one command."""
    groups, newest = list[list[Mapping[str, Any]]](), dict[str, list[Mapping[str, Any]]]()
    for entry in found:
        what = json.dumps([entry[name] for name in (*_PLAIN[3:], "before", "after")])
        group = newest.get(what)
        late = group is None or entry["at_us"] - group[0]["at_us"] > _TOGETHER_US
        if group is None or late or entry["chain"] in {one["chain"] for one in group}:
            group = newest[what] = []
            groups.append(group)
        group.append(entry)
    return groups


def _lines(group: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    first = group[0]
    where = first["chain"] if len(group) == 1 else f"{len(group)} shards"
    by = f"by {first['principal']}" if first["principal"] not in ("", first["chain"]) else ""
    words = (stamp(first["at_us"] // 1000), first["action"], first["target"], by, where)
    yield printable("  ".join(word for word in words if word))
    for name in ("reason", "before", "after"):
        yield from (printable(f"    {line}") for line in _terms(name, first[name]))


def _terms(name: str, text: str) -> Iterator[str]:
    """Yield what an entry says under a name: of a list of words a line a word, nothing for nothing."""
    value = text if name == "reason" else _value(text)
    terms = _sums(value) if isinstance(value, dict) else {"": value}
    for key, one in terms.items():
        head = f"{name} {key}" if key else name
        for line in one if isinstance(one, list) else [one]:
            if line not in ("", None):
                yield f"{head}: {line if isinstance(line, str) else json.dumps(line)}"


def _sums(terms: Mapping[str, Any]) -> dict[str, Any]:
    """Return an account's units as people read them; other terms as they are."""
    resource = terms.get("resource")
    told = dict(terms)
    for name in _UNITS:
        if isinstance(resource, str) and isinstance(terms.get(name), int):
            told[name] = shown(resource, terms[name])
    if isinstance(terms.get("since_ms"), int):
        told["since"] = stamp(told.pop("since_ms")) if terms["since_ms"] else None
    return told
