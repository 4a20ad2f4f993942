"""The audit chains and the budgets' ledgers as the checker judges them: sound, cut, altered, overgiven."""

import pytest

from shotbus.broker.audit import AuditChain
from shotbus.broker.bus.base import Record
from shotbus.broker.invariants import Checker
from shotbus.broker.machine import Now
from shotbus.broker.treasury.budgets import Purse
from shotbus.broker.treasury.rows import row
from shotbus.schemas.codec import decode, encode

NOW = Now(1_700_000_000_000, 0.0)
PURSE = Purse("money", "money/month", "ada", "", "", 0)


def record(topic, key, value, offset, partition=0):
    return Record(topic, partition, offset, key, value, (), NOW.wall_ms)


def chain(count):
    """A chain's entries as records, and the row of its head."""
    made = AuditChain("dispatcher-0", 0)
    entries = [made.add("pool.pause", f"pool-{n}", NOW, principal="ada") for n in range(count)]
    return [
        record("audit", b"", encode("audit_entry", one.fields), n) for n, one in enumerate(entries)
    ], made.snapshot()


def judged(entries=(), jobs=(), treasury=(), *, complete=True):
    checker = Checker(complete=complete)
    for topic, records in (("jobs", jobs), ("treasury-ledger", treasury), ("audit", entries)):
        checker.expect(topic)
        for one in records:
            checker.take(topic, one)
    report = checker.report(over=False)
    return {(one.invariant, one.rule, one.seen) for one in report.violations}, report


def broken(*args, **kwargs):
    return [seen for _, _, seen in judged(*args, **kwargs)[0]]


def test_a_chain_that_is_whole_up_to_its_head_is_sound():
    entries, head = chain(3)
    found, report = judged(entries, [record("jobs", AuditChain.KEY, head, 0)])
    assert (found, report.judged["I14"]) == (set(), 3)


def test_a_chain_that_is_cut_off_in_front_is_sound_and_at_its_end_it_is_not():
    entries, head = chain(4)
    ledger = [record("jobs", AuditChain.KEY, head, 0)]
    assert broken(entries[2:], ledger) == []
    assert broken(entries[:3], ledger) == ["is missing"]
    assert broken(entries[:3], ledger, complete=False) == []


def test_an_entry_that_was_altered_or_taken_out_is_found():
    entries, _ = chain(4)
    forged = encode("audit_entry", decode(entries[1].value)[1] | {"reason": "none of your business"})
    assert broken([entries[0], entries[1]._replace(value=forged), *entries[2:]]) == ["was changed"]
    assert broken([entries[0], *entries[2:]]) == ["does not follow entry 1"]


def account(shard, offset, **counts):
    return record(
        "treasury-ledger", b"a/%d" % shard, row(PURSE, limit=100, shard=shard, counts=counts), offset
    )


def test_what_is_given_is_within_the_limit_whenever_the_treasury_gives():
    sound = [account(0, 0, granted=60), account(1, 1, granted=40), account(0, 2, granted=60, returned=30)]
    found, report = judged(treasury=[*sound, account(1, 3, granted=70)])
    assert (found, report.judged["I7"]) == (set(), 3)
    assert broken(treasury=[*sound, account(1, 3, granted=71)]) == ["101 units given of 100"]
    later = account(0, 5, granted=60, returned=30)._replace(timestamp_ms=NOW.wall_ms + 2_000)
    assert broken(treasury=[*sound, account(1, 3, granted=71), later]) == ["101 units given of 100"]


def test_what_is_returned_may_stand_behind_what_is_given_in_one_transaction():
    rows = [account(0, 0, granted=100), account(1, 1, granted=40), account(0, 2, granted=100, returned=40)]
    assert broken(treasury=rows) == []


@pytest.mark.parametrize(("bound", "found"), [("attempt", 1), ("measured", 0), ("", 0)])
def test_what_is_spent_beyond_a_budget_that_sets_aside_the_most_is_told_once(bound, found):
    counts = {"granted": 50, "used": 50, "overdrawn": 7}
    value = row(PURSE, limit=100, shard=0, bound=bound, counts=counts)
    told = [
        record("jobs", b"allowance/purse/x", value, 0),
        record("jobs", b"allowance/purse/x", value, 1),
    ]
    seen = broken(jobs=told, treasury=[record("treasury-ledger", b"a/0", value, 0)])
    assert seen == ["shard 0 has spent 7 units beyond what it was given"] * found


@pytest.mark.parametrize(("reserved", "sound"), [(20, True), (21, False)])
def test_a_shard_reserves_no_more_than_it_was_given(reserved, sound):
    counts = {"granted": 50, "used": 20, "returned": 10, "reserved": reserved}
    holding = record("jobs", b"allowance/purse/x", row(PURSE, limit=100, shard=0, counts=counts), 0)
    assert (broken(jobs=[holding]) == []) is sound
