"""Sorted entries in packed arrays behave like a sorted list, whatever comes in which order."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shotbus.broker.dispatcher import sortedrun
from shotbus.broker.dispatcher.sortedrun import Entry, SortedRun

SMALL = st.integers(0, 5)
ENTRIES = st.builds(Entry, SMALL, SMALL, st.integers(0, 40), st.sampled_from([0.0, 0.5, 3.0]))
STEPS = st.lists(
    st.tuples(st.sampled_from(["insert", "insert", "insert", "pop", "remove"]), ENTRIES), max_size=120
)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(sortedrun, "BLOCK", 4)


def filled(entries):
    run = SortedRun()
    for entry in entries:
        run.insert(entry)
    return run


def drained(run):
    return [run.pop() for _ in range(len(run))]


def check(run, expected):
    assert len(run) == len(expected)
    assert run.cost == pytest.approx(sum(entry.cost for entry in expected), abs=1e-9)
    assert sorted(run) == sorted(entry.key for entry in expected)
    first = run.first()
    assert (first is None) == (not expected)
    if first:
        assert first[:2] == min(entry[:2] for entry in expected)
    for entry in expected:
        jobs, cost = run.ahead(*entry[:3])
        before = [one for one in expected if one[:2] < entry[:2]]
        equal = [one for one in expected if one[:2] == entry[:2]]
        assert len(before) <= jobs < len(before) + len(equal)
        assert cost >= sum(one.cost for one in before) - 1e-9


@given(STEPS)
def test_it_agrees_with_a_list(steps):
    run, expected = SortedRun(), []
    for action, entry in steps:
        if action == "insert" and entry.key not in [one.key for one in expected]:
            run.insert(entry)
            expected.append(entry)
        elif action == "pop" and expected:
            popped = run.pop()
            assert popped[:2] == min(one[:2] for one in expected)
            expected.remove(popped)
        elif action == "remove" and expected:
            gone = expected.pop(entry.key % len(expected))
            assert run.remove(*gone[:3]) == gone
            assert gone[:3] not in run
        check(run, expected)


@given(st.lists(ENTRIES, max_size=60))
def test_it_comes_out_sorted(entries):
    run = filled(entries)
    assert [entry[:2] for entry in drained(run)] == sorted(entry[:2] for entry in entries)


@given(ENTRIES, st.lists(ENTRIES, max_size=20))
def test_what_is_not_there_is_not_removed(stranger, entries):
    run = filled(entry for entry in entries if entry[:3] != stranger[:3])
    with pytest.raises(KeyError):
        run.remove(*stranger[:3])


def test_what_comes_in_order_fills_its_blocks_and_what_leaves_in_order_frees_them(monkeypatch):
    monkeypatch.setattr(sortedrun, "BLOCK", 64)
    run = filled(Entry(number, 0, number, 1.0) for number in range(6_400))
    assert len(run._blocks) == 100
    for number in range(100_000):
        run.insert(Entry(6_400 + number, 0, number, 1.0))
        run.pop()
    assert sum(len(block.columns[0]) for block in run._blocks) < 6_400 + 2 * 64
    drained(run)
    assert (run._blocks, run._bounds, run.cost) == ([], [], 0.0)


def test_one_entry_at_a_time_does_not_pile_up():
    run = SortedRun()
    for number in range(10_000):
        run.insert(Entry(number, 0, 1))
        run.insert(Entry(number, 1, 2))
        run.pop()
        run.pop()
    assert run._blocks == []
    run.insert(Entry(0, 0, 0))
    for number in range(10_000):
        run.insert(Entry(number + 1, 0, 1))
        run.pop()
    assert sum(len(block.columns[0]) for block in run._blocks) <= 8


def test_a_random_order_stays_sorted_at_size(monkeypatch):
    monkeypatch.setattr(sortedrun, "BLOCK", 512)
    dice = random.Random(7)
    entries = [Entry(dice.randrange(1 << 63), dice.randrange(1 << 64), n) for n in range(20_000)]
    run = filled(entries)
    dice.shuffle(entries)
    for entry in entries[:10_000]:
        run.remove(*entry[:3])
    assert [entry[:3] for entry in drained(run)] == sorted(entry[:3] for entry in entries[10_000:])
