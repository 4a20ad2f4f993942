"""Credits: shared out completely, in proportion, with nobody starved; silent dispatchers are gone."""

import math

from hypothesis import given
from hypothesis import strategies as st

from shotbus.workers.credits import Dispatchers, share_credits

BACKLOGS = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.floats(0, 1e6), max_size=8)
TOTALS = st.integers(0, 40)
TURNS = st.integers(0, 10_000)


@given(TOTALS, BACKLOGS, TURNS)
def test_all_credits_are_given_away_and_no_more(total, backlogs, turn):
    grants = share_credits(total, backlogs, turn)
    assert grants.keys() == backlogs.keys()
    assert sum(grants.values()) == (total if backlogs else 0)


@given(TOTALS, BACKLOGS, TURNS)
def test_everyone_has_one_when_there_are_enough(total, backlogs, turn):
    if total >= len(backlogs):
        assert all(grant >= 1 for grant in share_credits(total, backlogs, turn).values())


@given(st.integers(1, 40), BACKLOGS, TURNS)
def test_nobody_starves_over_as_many_turns_as_there_are_dispatchers(total, backlogs, turn):
    lucky = set()
    for step in range(len(backlogs)):
        lucky |= {name for name, grant in share_credits(total, backlogs, turn + step).items() if grant}
    assert lucky == set(backlogs)


@given(TOTALS, BACKLOGS, TURNS)
def test_the_order_of_advertisements_does_not_show(total, backlogs, turn):
    backwards = dict(reversed(backlogs.items()))
    assert share_credits(total, backlogs, turn) == share_credits(total, backwards, turn)


@given(TOTALS, BACKLOGS, TURNS)
def test_a_longer_backlog_never_gets_less_when_there_are_enough(total, backlogs, turn):
    if total >= len(backlogs):
        grants = share_credits(total, backlogs, turn)
        ordered = sorted(backlogs, key=lambda name: backlogs[name])
        assert all(grants[a] <= grants[b] + 1 for a, b in zip(ordered, ordered[1:], strict=False))


def test_shares_are_proportional_to_one_plus_backlog():
    assert share_credits(12, {"a": 0.0, "b": 1.0, "c": 2.0}, 0) == {"a": 2, "b": 4, "c": 6}
    assert share_credits(4, {"a": 0.0, "b": 1e9}, 0) == {"a": 1, "b": 3}


def test_absurd_backlogs_are_tamed():
    strange = {"a": math.inf, "b": math.nan, "c": -5.0}
    assert share_credits(9, strange, 0) == {"a": 7, "b": 1, "c": 1}


def status(name, state="ready", role="dispatcher", **backlog):
    return {"name": name, "role": role, "state": state, "backlog": backlog}


def test_dispatchers_are_known_until_silent_or_withdrawn():
    known = Dispatchers(5.0)
    known.learn(b"d/one", status("one", aer=3.0), 100.0)
    known.learn(b"d/two", status("two"), 103.0)
    known.learn(b"w/aer/x", status("x", role="worker"), 103.0)
    assert known.backlogs("aer", 104.0) == {"one": 3.0, "two": 0.0}
    assert known.backlogs("aer", 105.5) == {"two": 0.0}
    known.learn(b"d/two", None, 105.0)
    assert known.backlogs("aer", 105.5) == {}


def test_a_dispatcher_that_says_it_is_gone_is_gone():
    known = Dispatchers(5.0)
    known.learn(b"d/one", status("one"), 0.0)
    known.learn(b"d/one", status("one", state="gone"), 1.0)
    assert known.backlogs("aer", 1.0) == {}


def test_seconds_of_better_classes_weigh_more():
    known = Dispatchers(5.0)
    for rank, name in enumerate(["best", "second", "third"]):
        known.learn(b"d/" + name.encode(), {**status(name, aer=8.0), "best_class": {"aer": rank}}, 0.0)
    known.learn(b"d/old", status("old", aer=8.0), 0.0)
    assert known.backlogs("aer", 0.0) == {"best": 8.0, "second": 4.0, "third": 2.0, "old": 8.0}
