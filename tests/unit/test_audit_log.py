"""The audit log as it is read and shown: filters, one line for what several shards obeyed, broken chains."""

import click
import pytest
from structlog.testing import capture_logs

from shotbus.broker.audit import AuditChain
from shotbus.broker.auditlog import AuditLog, read_audit
from shotbus.broker.bus.base import Outgoing
from shotbus.broker.bus.memory import MemoryBus, MemoryCluster
from shotbus.broker.machine import Emit, Now
from shotbus.broker.topics import Topics
from shotbus.broker.treasury.budgets import Budgets
from shotbus.broker.treasury.edge import TreasuryEdge
from shotbus.cli.audit import Wanted, page
from shotbus.schemas.codec import decode, encode

TOPICS = Topics(partitions=2)
WALL_MS = 1_900_000_000_000


@pytest.fixture
async def bus():
    bus = MemoryBus(MemoryCluster())
    await bus.start()
    yield bus
    await bus.close()


def entries(chain, *told, at_ms=WALL_MS):
    """Commands of (action, target, principal) each, a second after the other."""
    return [
        chain.add(action, target, Now(at_ms + 1_000 * n, 0.0), principal=who, reason="why", after=n)
        for n, (action, target, who) in enumerate(told)
    ]


def chains(told):
    """The same of both dispatcher shards."""
    return [one for n in (0, 1) for one in entries(AuditChain(f"dispatcher-{n}", n), *told)]


async def written(bus, commands, *values):
    await bus.create_topics(TOPICS.specs(["aer"]))
    name = TOPICS.name("audit")
    await bus.publish(
        [Outgoing(name, one.partition, one.key, encode(one.schema, one.fields)) for one in commands]
        + [Outgoing(name, 0, b"", value) for value in values]
    )
    return await read_audit(bus, TOPICS)


def fields(commands):
    return [decode(encode(one.schema, one.fields))[1] for one in commands]


TOLD = [("flag", "fast", "lab/ada"), ("pause", "aer", "bob"), ("budget.threshold", "team tenant=x", "t-0")]


async def test_entries_of_all_chains_are_read_the_oldest_first(bus):
    log = await written(bus, chains(TOLD))
    assert [(one["chain"], one["number"]) for one in log.entries] == [
        (f"dispatcher-{shard}", number) for number in (1, 2, 3) for shard in (0, 1)
    ]
    assert log.problems == []


async def test_where_there_is_no_log_nothing_was_audited(bus):
    assert await read_audit(bus, TOPICS) == AuditLog([], [])


async def test_an_entry_left_out_or_unreadable_is_told_and_the_others_are_shown(bus):
    commands = chains(TOLD)
    log = await written(bus, [commands[0], *commands[2:]], b"no entry at all")
    assert len(log.entries) == 5
    unreadable, missing = log.problems
    assert unreadable.startswith("audit[0]@2: is no audit entry: ")
    assert missing == "dispatcher-0 entry 3: does not follow entry 1"
    assert list(page([], log))[-3:] == [
        f"broken: {unreadable}",
        f"broken: {missing}",
        "0 of 5 entries in 2 chains; 2 links are broken",
    ]


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        (Wanted(None, None, None), ["flag", "pause", "budget.threshold"]),
        (Wanted("fast", None, None), ["flag"]),
        (Wanted("team", None, None), ["budget.threshold"]),
        (Wanted("team tenant=x", None, None), ["budget.threshold"]),
        (Wanted(None, "budget", None), ["budget.threshold"]),
        (Wanted(None, "budget.threshold", None), ["budget.threshold"]),
        (Wanted(None, None, "ada"), ["flag"]),
        (Wanted(None, None, "lab/ada"), ["flag"]),
        (Wanted("aer", "pause", "bob"), ["pause"]),
        (Wanted("aer", "pause", "ada"), []),
    ],
)
def test_filters_hold_together(wanted, meant):
    found = fields(entries(AuditChain("dispatcher-0", 0), *TOLD))
    assert [one["action"] for one in found if wanted.meant(one)] == meant


def test_what_several_shards_obeyed_at_once_is_one_line_and_what_was_done_again_is_another():
    told = sorted(fields(chains([TOLD[1]])), key=lambda one: one["at_us"])
    later = fields(entries(AuditChain("dispatcher-0", 0), TOLD[1], at_ms=WALL_MS + 90_000))
    lines = list(page([*told, *later], AuditLog([*told, *later], [])))
    assert [line for line in lines if not line.startswith(" ")] == [
        "2030-03-17T17:46:40Z  pause  aer  by bob  2 shards",
        "2030-03-17T17:48:10Z  pause  aer  by bob  dispatcher-0",
        "3 of 3 entries in 2 chains; no link is broken",
    ]


def test_changes_of_a_policy_are_a_line_each_and_sums_of_a_budget_are_in_its_own_units():
    chain, now = AuditChain("treasury-0", 0), Now(WALL_MS, 0.0)
    changes = {"version": "9f", "changes": ["rule 'old' is gone", "windows.night is new"]}
    sums = {"resource": "money", "since_ms": WALL_MS, "limit": 10_000_000, "spent": 8_500_000, "held": 0}
    found = fields(
        [
            chain.add("reload", "policy", now, principal="ada", before="8e", after=changes),
            chain.add("budget.threshold", "team", now, principal="treasury-0", reason="85%", after=sums),
        ]
    )
    assert [line.strip() for line in page(found, AuditLog(found, []))][1:-1] == [
        "before: 8e",
        "after changes: rule 'old' is gone",
        "after changes: windows.night is new",
        "after version: 9f",
        "2030-03-17T17:46:40Z  budget.threshold  team  treasury-0",
        "reason: 85%",
        "after held: 0",
        "after limit: 10",
        "after resource: money",
        "after spent: 8.5",
        "after since: 2030-03-17T17:46:40Z",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "{no json",
        "[[" * 30 + "]]" * 30,
        '{"resource": 3, "limit": "x", "since_ms": -1}',
        "\x1b[2J",
        '"\x1b[2J"',
    ],
)
def test_an_entry_that_somebody_changed_into_anything_is_shown_without_harm(text):
    (entry,) = fields(entries(AuditChain("dispatcher-0", 0), TOLD[0]))
    entry |= {"at_us": 2**62, "target": "\x1b]0;x\x07", "after": text}
    shown = "\n".join(page([entry], AuditLog([entry], [])))
    assert click.unstyle(shown) == shown
    assert "\x1b" not in shown


def test_thresholds_and_overdrafts_are_logged_as_warnings_once_they_are_durable():
    edge = TreasuryEdge(TOPICS, 0, Budgets({}))
    sums = {"resource": "money", "since_ms": 0, "limit": 10_000_000, "spent": 8_500_000, "held": 0}
    chain = AuditChain("treasury-0", 0)
    commands = [
        chain.add(
            action, "team tenant=ada", Now(WALL_MS, 0.0), principal="treasury-0", reason="so", after=sums
        )
        for action in ("budget.threshold", "budget.overdrawn")
    ]
    with capture_logs() as lines:
        edge.committed(
            [Emit("grants", 0, b"", "grant", {}), *commands, Outgoing("dead-letters", 0, b"", b"")]
        )
    told = {"budget": "team tenant=ada", "resource": "money", "limit": "10", "spent": "8.5", "detail": "so"}
    assert lines == [
        {"event": event, "log_level": "warning", **told}
        for event in ("budget threshold passed", "budget overdrawn")
    ]
