"""A job that waits longer than its rule lets it takes the next step of its chain, also after a restore."""

from dataclasses import replace

import pytest
from dispatcher_kit import (
    PARTITIONS,
    SHARD,
    Driver,
    commanded,
    config,
    emitted,
    finished,
    forwards,
    job_id,
    payload,
    request,
    submitted,
)

from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Credit, Recall, Recalled
from shotbus.broker.dispatcher.states import Phase
from shotbus.broker.policy.decision import Decision
from shotbus.broker.policy.steps import Step

TRAIL = ({"step": "rule"}, {"step": "fallback"}, {"step": "decided"})
AER, NOOP = {"aer": [Credit("w1", 0, 1)]}, {"noop": [Credit("w2", 0, 1)]}


@pytest.fixture
def driver():
    return Driver(lambda: Dispatcher(SHARD, PARTITIONS, config(bundle_jobs=1)))


def chained(*steps, seconds=10.0, number=1, **changes):
    """A submission that may wait for so many seconds before each step."""
    decision = Decision(
        "r", "v", "aer", fallback=tuple(map(Step.parse, steps)), trail=TRAIL, max_queue_seconds=seconds
    )
    fields = request(number, payload_hash=payload(number), **changes)
    return replace(submitted(fields, offset=number), decision=decision)


def live(driver, number=1):
    return driver.machine.live[job_id(number)]


def causes(commands):
    return [one["cause"] for batch in emitted(commands, "event_batch") for one in batch["events"]]


@pytest.mark.parametrize("restarted", [False, True])
def test_it_goes_to_the_next_pool_and_says_why(driver, restarted):
    driver.run(chained("noop"))
    if restarted:
        driver.restart()
    driver.pass_time(9.9)
    assert causes(driver.run()) == []
    assert driver.machine.wake_at(driver.now) <= 0.1
    driver.pass_time(0.2)
    driver.free = NOOP
    told = driver.run()
    event = emitted(told, "event_batch")[0]["events"][0]
    assert (event["cause"], event["pool"]) == ("reroute", "noop")
    assert "waited longer than 10 s" in event["detail"]
    (answer,) = emitted(driver.run(finished(forwards(told)[0])), "circuit_result")
    assert (answer["outcome"], answer["fallback_from"]) == ("succeeded_by_fallback", "aer")


@pytest.mark.parametrize("restarted", [False, True])
def test_the_rules_other_pools_come_first_and_are_no_fallback(driver, restarted):
    submission = chained("demote:bulk")
    driver.run(replace(submission, decision=replace(submission.decision, others=("noop",))))
    if restarted:
        driver.restart()
    driver.pass_time(11)
    driver.run()
    assert (live(driver).pool, live(driver).priority) == ("noop", "experiment")
    driver.pass_time(11)
    driver.run()
    assert (live(driver).pool, live(driver).priority) == ("noop", "bulk")
    driver.free = NOOP
    (answer,) = emitted(driver.run(finished(forwards(driver.run())[0])), "circuit_result")
    assert (answer["outcome"], answer.get("fallback_from", "")) == ("succeeded", "")


def test_without_a_chain_the_rules_other_pools_are_all_there_is(driver):
    submission = chained()
    driver.run(replace(submission, decision=replace(submission.decision, others=("noop",))))
    for pool in ("noop", "noop"):
        driver.pass_time(11)
        driver.run()
        assert live(driver).pool == pool


def test_what_was_sent_in_time_is_left_alone(driver):
    driver.free = AER
    (sent,) = forwards(driver.run(chained("noop")))
    driver.free = {}
    driver.pass_time(15, seen=0)
    driver.run(finished(sent, "TRANSIENT"))
    driver.pass_time(30, seen=0)
    driver.run()
    assert (live(driver).phase, live(driver).pool) == (Phase.WAITING, "aer")
    assert not len(driver.machine.shard.patience)


def test_each_queue_has_a_time_of_its_own_and_the_chain_ends(driver):
    driver.run(chained("demote:bulk", "noop"))
    for seconds, priority, pool in ((11, "bulk", "aer"), (5, "bulk", "aer"), (6, "bulk", "noop")):
        driver.pass_time(seconds)
        driver.run()
        assert (live(driver).priority, live(driver).pool) == (priority, pool)
    driver.pass_time(100)
    driver.run()
    assert (live(driver).phase, live(driver).pool) == (Phase.WAITING, "noop")


def test_a_step_that_cannot_be_taken_now_is_tried_again_later(driver):
    driver.run(chained("noop"), commanded("pause", "noop", target="pool"))
    driver.pass_time(11)
    driver.run()
    assert (live(driver).pool, live(driver).chain) == ("aer", ("noop",))
    driver.run(commanded("resume", "noop", target="pool"))
    driver.pass_time(11)
    driver.run()
    assert live(driver).pool == "noop"


def test_a_miss_of_the_cache_lets_it_go_on_waiting_where_it_was(driver):
    driver.run(chained("cache:60"))
    driver.pass_time(11)
    assert [one for one in driver.run() if isinstance(one, Recall)]
    driver.free = AER
    (sent,) = forwards(driver.run(Recalled(job_id(1), None)))
    (answer,) = emitted(driver.run(finished(sent)), "circuit_result")
    assert (answer["outcome"], answer.get("fallback_from", "")) == ("succeeded", "")


def test_the_time_before_its_own_begin_does_not_count(driver):
    driver.run(chained("noop", not_before_ms=driver.wall_ms + 60_000))
    for seconds, pool in ((61, "aer"), (9, "aer"), (2, "noop")):
        driver.pass_time(seconds)
        driver.run()
        assert live(driver).pool == pool


def test_without_a_chain_nothing_is_kept_for_it(driver):
    driver.run(chained())
    assert live(driver).extras is None


def test_what_ends_or_changes_leaves_nothing_behind(driver):
    driver.run(chained("noop"), chained("noop", number=2))
    changed = commanded("reprioritise", job_id(2))
    changed.control["arguments"] = {"class": "bulk"}
    driver.run(commanded("cancel", job_id(1)), changed)
    assert len(driver.machine.shard.patience) == 1
    driver.pass_time(11)
    driver.run()
    assert live(driver, 2).pool == "noop"
