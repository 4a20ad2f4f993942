"""Paused pools, early cancels and the sequence number: bound to their tenant, bounded, restored."""

import pytest
from dispatcher_kit import START_MS, job_id, request

from shotbus.broker.dispatcher import standing as module
from shotbus.broker.dispatcher.job import Job, Reference
from shotbus.broker.dispatcher.standing import INTENT_SECONDS, SEQUENCE_KEY, Standing, is_standing_key
from shotbus.broker.machine import Now


def now(seconds=0.0):
    return Now(START_MS + int(seconds * 1_000), 0.0)


def job(number=1, **changes):
    return Job(request(number, **changes), Reference("r", 0, number), "aer")


def restored(standing, keys):
    twin = Standing()
    for key in keys:
        twin.restore(key, standing.snapshot(key))
    return twin


def test_a_pause_is_a_row():
    standing = Standing()
    key = standing.set_paused("noop", paused=True)
    standing.set_paused("aer", paused=True)
    assert is_standing_key(key)
    assert restored(standing, [key]).paused == {"aer", "noop"}
    standing.set_paused("noop", paused=False)
    assert restored(standing, [key]).paused == {"aer"}


@pytest.mark.parametrize("name", [job_id(1), "sweep-1"])
def test_an_early_cancel_meets_its_job_after_a_restart_too(name):
    standing = Standing()
    twin = restored(standing, standing.intend(name, "ada", now()))
    for one in (standing, twin):
        assert one.wanted_gone(job(1, sweep_id="sweep-1"))
        assert not one.wanted_gone(job(2))


def test_an_early_cancel_is_its_own_tenants():
    standing = Standing()
    standing.intend("sweep-1", "eve", now())
    assert not standing.wanted_gone(job(1, sweep_id="sweep-1"))
    standing.intend("sweep-1", "ada", now())
    standing.intend("sweep-1", "eve", now())
    assert standing.wanted_gone(job(1, sweep_id="sweep-1"))


def test_a_job_without_a_sweep_is_not_of_the_sweep_without_a_name():
    standing = Standing()
    standing.intend("other", "ada", now())
    assert not standing.wanted_gone(job(1, sweep_id=""))


def test_wishes_are_forgotten_after_a_while_and_renewed_by_repetition():
    standing = Standing()
    (key,) = standing.intend("s", "ada", now())
    standing.intend("s", "ada", now(60))
    assert standing.forget(now(INTENT_SECONDS)) == []
    assert standing.forget(now(INTENT_SECONDS + 60)) == [key]
    assert standing.snapshot(key) is None


def test_wishes_are_bounded_and_the_oldest_goes(monkeypatch):
    monkeypatch.setattr(module, "MAX_INTENTS", 2)
    standing = Standing()
    (first,) = standing.intend("a", "ada", now())
    standing.intend("b", "ada", now())
    _, dropped = standing.intend("c", "ada", now())
    assert dropped == first
    assert standing.snapshot(first) is None


def test_wishes_end_at_their_time_though_the_clock_was_set_back_and_after_a_restart():
    standing = Standing()
    (late,) = standing.intend("late", "ada", now())
    (early,) = standing.intend("early", "ada", now(-60))
    for one in (restored(standing, [late, early]), standing):
        assert one.forget(now(INTENT_SECONDS - 60)) == [early]
        assert one.forget(now(INTENT_SECONDS)) == [late]


def test_who_repeats_a_wish_without_end_takes_no_more_memory():
    standing = Standing()
    for second in range(1_000):
        standing.intend("s", "ada", now(second))
    assert len(standing._ends) < 100


def test_however_long_a_name_its_row_has_a_short_key():
    assert len(Standing().intend("s" * 10_000, "ada", now())[0]) < 64


def test_the_sequence_rises_when_the_clock_is_set_back_and_after_a_restart():
    standing = Standing()
    first = standing.next_sequence(now())
    second = standing.next_sequence(now(-3_600))
    third = restored(standing, [SEQUENCE_KEY]).next_sequence(now(-3_600))
    assert first < second < third
    assert first == START_MS * 1_000
