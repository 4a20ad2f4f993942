"""Where sessions are: a memory of all, rows of those that a sticky rule has placed."""

from dataclasses import replace

from dispatcher_kit import PARTITIONS, SHARD, Driver, config, payload, request, submitted

from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.sessions import Sessions
from shotbus.broker.policy.config import RoutingConfig, RuleConfig, ThenConfig


def rows_of(sessions, keys):
    return {key: sessions.snapshot(key) for key in keys}


def restored(rows):
    sessions = Sessions()
    for key, row in rows.items():
        sessions.restore(key, row)
    return sessions


def test_where_no_rule_is_sticky_nothing_is_written():
    sessions = Sessions()
    assert sessions.went("ada", "s", "aer") == []
    assert sessions.pool("ada", "s") == "aer"


def test_a_sticky_session_is_written_when_it_moves_and_found_after_a_restart():
    sessions = Sessions()
    first = sessions.went("ada", "s", "aer", sticky=True)
    assert len(first) == 1
    assert sessions.went("ada", "s", "aer", sticky=True) == []
    assert sessions.went("ada", "s", "qpu") == first
    after = restored(rows_of(sessions, first))
    assert (after.pool("ada", "s"), after.pool("bob", "s"), after.pool("ada", "")) == ("qpu", "", "")


def test_rows_are_bounded_and_the_one_used_longest_ago_goes():
    sessions, rows = Sessions(most=2), {}
    for name in ("a", "b", "a", "c"):
        for key in sessions.went("ada", name, "aer", sticky=True):
            rows[key] = sessions.snapshot(key)
    left = restored({key: row for key, row in rows.items() if row is not None})
    assert [left.pool("ada", name) for name in "abc"] == ["aer", "", "aer"]


def test_a_row_that_was_superseded_while_the_ledger_is_read_counts_no_more():
    sessions = Sessions()
    (key,) = sessions.went("ada", "s", "aer", sticky=True)
    after = restored({key: sessions.snapshot(key)})
    after.restore(key, None)
    assert after.pool("ada", "s") == ""


def test_the_newest_live_job_says_where_a_session_without_a_row_was():
    sessions = Sessions()
    for pool, order in (("aer", 2), ("qpu", 3), ("noop", 1)):
        sessions.found("ada", "s", pool, order)
    assert sessions.pool("ada", "s") == "qpu"


def driver(*, sticky):
    rule = RuleConfig(name="all", then=ThenConfig(pools=("aer", "noop"), sticky=sticky))
    settings = replace(config(), routing=RoutingConfig(default="aer", rules=(rule,)))
    return Driver(lambda: Dispatcher(SHARD, PARTITIONS, settings))


def submit(shard, number, pool):
    router = shard.machine.shard.router
    fields = request(number, session_id="s", payload_hash=payload(number))
    decision = replace(router.decide(fields, None, shard.wall_ms), pool=pool)
    shard.run(replace(submitted(fields, offset=number, pool=pool), decision=decision))


def test_a_session_stays_where_it_was_when_its_shard_begins_again():
    for sticky, pool in ((True, "noop"), (False, "")):
        shard = driver(sticky=sticky)
        submit(shard, 1, "noop")
        assert any(key.startswith(b"session/") for key in shard.ledger) is sticky
        shard.restart()
        assert shard.machine.shard.router.sessions.pool("ada", "s") == pool
