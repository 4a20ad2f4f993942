"""Jobs that wait at a pool which goes down go where else they may; at a deadline an earlier result answers."""

from dataclasses import replace

import pytest
from dispatcher_kit import (
    PARTITIONS,
    SHARD,
    Driver,
    cached_result,
    commanded,
    config,
    emitted,
    finished,
    forwards,
    job_id,
    payload,
    reported,
    request,
    submitted,
)

from shotbus.broker.dispatcher.leaving import MOST
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Credit, Dispatch, Recall, Recalled, Revoke
from shotbus.broker.dispatcher.prospects import prospects
from shotbus.broker.dispatcher.states import Phase
from shotbus.broker.policy.decision import Decision
from shotbus.broker.policy.steps import Step

TRAIL = ({"step": "rule"}, {"step": "fallback"}, {"step": "decided"})
AER, NOOP = {"aer": [Credit("w1", 0, 1)]}, {"noop": [Credit("w2", 0, 1)]}
PATIENCE = 15


@pytest.fixture
def driver():
    return Driver(lambda: Dispatcher(SHARD, PARTITIONS, config(bundle_jobs=1, max_waiting=1_000)))


def chained(*steps, number=1, others=(), **changes):
    """A submission to aer with a chain."""
    decision = Decision("r", "v", "aer", fallback=tuple(map(Step.parse, steps)), trail=TRAIL, others=others)
    fields = request(number, payload_hash=payload(number), **changes)
    return replace(submitted(fields, offset=number), decision=decision)


def live(driver, number=1):
    return driver.machine.live[job_id(number)]


def advert(pool, unhealthy=""):
    return {
        "role": "worker",
        "pool": pool,
        "worker": pool,
        "state": "ready",
        "slots": 1,
        "unhealthy": unhealthy,
    }


def look(driver, seconds=1.0, *, aer="on fire", noop="", free=None):
    """Let time pass and the shard see its pools; returns what it does."""
    driver.pass_time(seconds)
    adverts = [advert("aer", aer), advert("noop", noop)]
    commands = driver.machine.handle(Dispatch(free or {}, adverts), driver.now)
    driver.write_rows()
    return commands


def events(commands):
    return [one for batch in emitted(commands, "event_batch") for one in batch["events"]]


def said(driver, number=1):
    shard = driver.machine.shard
    return prospects(shard, shard.live(job_id(number)), driver.now)["reason"]


@pytest.mark.parametrize("restarted", [False, True])
def test_it_goes_down_its_chain_after_the_patience_and_says_why(driver, restarted):
    driver.run(chained("noop"))
    look(driver)
    if restarted:
        driver.restart()
        look(driver)
    assert "asked in 15 s, unless it works by then: noop" in said(driver)
    look(driver, PATIENCE - 1)
    assert live(driver).pool == "aer"
    told = look(driver, 1.5, free=NOOP)
    (event,) = [one for one in events(told) if one["cause"] == "reroute"]
    assert (event["job_id"], event["pool"]) == (job_id(1), "noop")
    assert "aer is unhealthy: on fire; it has taken no work for 15.5 s" in event["detail"]
    assert any("waiting jobs go elsewhere" in str(one) for one in events(told))
    (answer,) = emitted(driver.run(finished(forwards(told)[0])), "circuit_result")
    assert (answer["outcome"], answer["fallback_from"]) == ("succeeded_by_fallback", "aer")


@pytest.mark.parametrize("restarted", [False, True])
def test_the_other_pools_of_its_rule_are_no_fallback(driver, restarted):
    driver.run(chained(others=("noop",)))
    look(driver)
    if restarted:
        driver.restart()
        look(driver)
    told = look(driver, PATIENCE + 1, free=NOOP)
    (answer,) = emitted(driver.run(finished(forwards(told)[0])), "circuit_result")
    assert (answer["outcome"], answer.get("fallback_from", "")) == ("succeeded", "")


def test_a_pool_that_works_again_in_time_keeps_its_jobs(driver):
    driver.run(chained("noop"))
    for aer in ("on fire", "", "on fire"):
        look(driver, PATIENCE - 1, aer=aer)
    assert live(driver).pool == "aer"
    look(driver, PATIENCE + 1)
    assert live(driver).pool == "noop"


def test_who_comes_to_a_pool_that_is_down_for_long_goes_at_once(driver):
    driver.run(chained("noop", not_before_ms=driver.wall_ms + 60_000))
    look(driver)
    look(driver, 58)
    assert live(driver).phase is Phase.SCHEDULED
    look(driver, 2)
    assert (live(driver).phase, live(driver).pool) == (Phase.WAITING, "noop")


def test_who_would_be_late_after_the_patience_does_not_wait_for_it(driver):
    late, early = driver.wall_ms + 20_000, driver.wall_ms + 100_000
    driver.run(chained("noop", deadline_ms=late), chained("noop", number=2, deadline_ms=early))
    look(driver)
    assert (live(driver).pool, live(driver, 2).pool) == ("noop", "aer")


def test_what_a_person_paused_keeps_its_jobs(driver):
    driver.run(chained("noop"), commanded("pause", "aer", target="pool"))
    for _ in range(3):
        look(driver, PATIENCE)
    assert live(driver).pool == "aer"
    assert said(driver) == "aer is paused: somebody paused it"


def test_without_a_chain_it_stays_and_says_so(driver):
    driver.run(chained())
    look(driver)
    look(driver, PATIENCE + 1)
    assert live(driver).pool == "aer"
    assert said(driver).endswith("on fire; neither its rule nor a chain has another pool for it")
    assert live(driver).extras is None
    assert not len(driver.machine.shard.stranded)


def test_who_cannot_go_yet_goes_when_the_other_pool_works(driver):
    driver.run(chained("noop"))
    look(driver, noop="too")
    look(driver, PATIENCE + 1, noop="too")
    assert (live(driver).pool, live(driver).chain) == ("aer", ("noop",))
    assert said(driver).endswith("its rule and chain are asked: noop takes no work now")
    look(driver)
    look(driver, PATIENCE)
    assert live(driver).pool == "noop"


def test_a_great_backlog_goes_in_pieces_the_earliest_due_first(driver):
    number = 2 * MOST + 1
    driver.run(*(chained("noop", number=one) for one in range(1, number + 1)))
    look(driver)
    moved = []
    for seconds in (PATIENCE + 1, 0.02, 0.02, 0.02):
        look(driver, seconds)
        moved.append(sum(job.pool == "noop" for job in driver.machine.live.values()))
    assert moved == [MOST, 2 * MOST, number, number]
    assert driver.machine.shard.stranded.pools == []


def test_a_miss_of_the_cache_goes_on_to_the_next_step_and_the_last_one_waits_on(driver):
    driver.run(chained("cache:60", "noop"), chained("cache:60", number=2))
    look(driver)
    asked = [one for one in look(driver, PATIENCE + 1) if isinstance(one, Recall)]
    assert [one.job_id for one in asked] == [job_id(1), job_id(2)]
    driver.run(Recalled(job_id(1), None), Recalled(job_id(2), None))
    assert (live(driver).pool, live(driver).phase) == ("noop", Phase.WAITING)
    assert (live(driver, 2).pool, live(driver, 2).phase) == ("aer", Phase.WAITING)


def test_what_a_rule_demands_of_the_other_pool_holds(driver):
    driver.run(chained("noop"))
    driver.machine.shard.live(job_id(1)).keep(gates={"noop": ["approval"]})
    look(driver)
    look(driver, PATIENCE + 1)
    assert live(driver).pool == "aer"
    assert "noop asks for a person's approval" in said(driver)


# --- at the deadline ---


def due(driver, *steps, **changes):
    return chained(*steps, deadline_ms=driver.wall_ms + 5_000, **changes)


def found(**changes):
    return cached_result() | {"finished_us": changes.pop("finished_us", 0)} | changes


@pytest.mark.parametrize("restarted", [False, True])
def test_at_its_deadline_a_waiting_job_takes_an_earlier_result(driver, restarted):
    driver.run(due(driver, "cache:10", "cache:3600"))
    driver.pass_time(5.1)
    (asked,) = [one for one in driver.run() if isinstance(one, Recall)]
    assert (asked.job_id, asked.seconds) == (job_id(1), 3600)
    if restarted:
        driver.restart()
        assert [one for one in driver.run() if isinstance(one, Recall)]
    told = driver.run(Recalled(job_id(1), found(finished_us=(driver.wall_ms - 20_000) * 1000)))
    (answer,) = emitted(told, "circuit_result")
    assert (answer["outcome"], answer["fallback_from"]) == ("succeeded_by_fallback", "aer")
    assert any("its deadline has passed" in one["detail"] for one in events(told))


@pytest.mark.parametrize("steps", [("cache:10",), ("none", "cache:10"), ("noop",)])
def test_without_an_earlier_result_it_expires(driver, steps):
    driver.run(due(driver, *steps))
    driver.pass_time(5.1)
    told = driver.run()
    if any(isinstance(one, Recall) for one in told):
        told = driver.run(Recalled(job_id(1), None))
    (answer,) = emitted(told, "circuit_result")
    assert (answer["outcome"], answer["problems"][0]["code"]) == ("expired", "SB-4003")
    assert driver.machine.wake_at(driver.now) is None


@pytest.mark.parametrize("hit", [True, False])
@pytest.mark.parametrize("restarted", [True, False])
def test_so_does_one_in_a_workers_hand_that_has_not_been_begun(driver, hit, restarted):
    driver.free = AER
    (sent,) = forwards(driver.run(due(driver, "cache:3600")))
    driver.free = {}
    driver.pass_time(5.1)
    assert [one for one in driver.run() if isinstance(one, Recall)]
    assert live(driver).phase is Phase.FORWARDED
    if restarted:
        driver.restart()
        assert [one for one in driver.run() if isinstance(one, Recall)]
    earlier = found(finished_us=(driver.wall_ms - 20_000) * 1000) if hit else None
    told = driver.run(Recalled(job_id(1), earlier))
    (answer,) = emitted(told, "circuit_result")
    assert answer["outcome"] == ("succeeded_by_fallback" if hit else "expired")
    assert [one.bundle_id for one in told if isinstance(one, Revoke)] == [sent.bundle_id]


def test_one_that_was_begun_meanwhile_may_finish(driver):
    driver.free = AER
    (sent,) = forwards(driver.run(due(driver, "cache:3600")))
    driver.free = {}
    driver.pass_time(5.1)
    driver.run()
    driver.run(reported("claimed", sent.bundle_id))
    assert not emitted(driver.run(Recalled(job_id(1), found())), "circuit_result")
    (answer,) = emitted(driver.run(finished(sent)), "circuit_result")
    assert (answer["outcome"], answer.get("fallback_from", "")) == ("succeeded", "")


def test_a_worker_that_did_not_begin_it_for_its_deadline_does_not_end_it(driver):
    driver.free = AER
    (sent,) = forwards(driver.run(due(driver, "cache:3600")))
    driver.free = {}
    driver.pass_time(5.1, seen=0)
    told = driver.machine.handle(finished(sent, "EXPIRED"), driver.now)
    assert [one for one in told if isinstance(one, Recall)]
    driver.run()
    assert live(driver).phase is Phase.FALLING_BACK
    (answer,) = emitted(driver.run(Recalled(job_id(1), None)), "circuit_result")
    assert answer["outcome"] == "expired"


def test_one_that_looks_for_an_earlier_result_already_is_waited_for(driver):
    driver.run(due(driver, "cache:60", "noop"))
    look(driver)
    assert live(driver).phase is Phase.FALLING_BACK
    driver.pass_time(10)
    driver.run()
    assert live(driver).phase is Phase.FALLING_BACK
    (answer,) = emitted(driver.run(Recalled(job_id(1), None)), "circuit_result")
    assert answer["outcome"] == "expired"
