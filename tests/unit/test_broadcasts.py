"""Wishes about many jobs are carried out a step at a time: each job once, over restarts, and others go between."""

from dataclasses import replace

import pytest
from asking_kit import FREE, changed, events, job, phase, results
from dispatcher_kit import PARTITIONS, SHARD, Driver, commanded, config, emitted, finished, forwards, job_id

from shotbus.broker.config import PriceConfig
from shotbus.broker.dispatcher import broadcasts, carrying
from shotbus.broker.dispatcher.carrying import STEP
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Dispatch
from shotbus.broker.dispatcher.states import Phase

JOBS = 2 * STEP + 100
EVERY = {job_id(n) for n in range(1, JOBS + 1)}


@pytest.fixture
def driver():
    """A shard whose pools get nothing, with more jobs of a sweep than a step, and one of none."""
    pools = {**config().pools, "noop": replace(config().pools["noop"], price=PriceConfig(per_task=1.0))}
    settings = replace(config(max_waiting=8 * JOBS, bundle_jobs=1), pools=pools)
    made = Driver(lambda: Dispatcher(SHARD, PARTITIONS, settings))
    made.run(*[job(n, sweep_id="s", experiment="big") for n in range(1, JOBS + 1)], job(900))
    made.pass_time(1)
    return made


def wish(command="cancel", target="sweep", name="s", tenant="ada", **arguments):
    event = commanded(command, name, target=target, tenant=tenant)
    event.control["arguments"], event.control["correlation"] = arguments, command
    return event


def bulk(target="sweep", name="s", **more):
    return wish("reprioritise", target, name, **{"class": "bulk", **more})


def carry_out(driver, *first, between=lambda: None):
    """Every micro-batch's commands until nothing is left to do."""
    done = [driver.run(*first)]
    while driver.machine.shard.broadcasts:
        assert len(done) < JOBS
        assert driver.machine.wake_at(driver.now) == 0.0
        between()
        done.append(driver.run())
    return done


def together(done):
    return [command for commands in done for command in commands]


def classes(driver):
    return {job_id: job.priority for job_id, job in driver.machine.live.items()}


def test_a_step_ends_some_hundred_jobs_and_the_last_one_is_told():
    assert STEP <= 500


def test_a_cancelled_sweep_ends_a_step_at_a_time_and_the_audit_says_how_many(driver):
    done = carry_out(driver, wish())
    ended = [results(commands) for commands in done]
    assert max(map(len, ended)) == STEP
    assert sum(map(len, ended)) == JOBS
    assert {name for one in ended for name in one} == EVERY
    assert set(driver.machine.live) == {job_id(900)}
    (entry,) = emitted(together(done), "audit_entry")
    assert (entry["action"], entry["target"], entry["after"]) == ("cancel", "s", f'{{"jobs": {JOBS}}}')
    assert not any(key.startswith(b"broadcast/") for key in driver.ledger)


@pytest.mark.parametrize("target", ["sweep", "experiment"])
@pytest.mark.parametrize("kept", [broadcasts.MOST_PLACES, 70])
def test_a_change_is_made_once_and_answered_when_the_last_is_done(driver, monkeypatch, target, kept):
    monkeypatch.setattr(broadcasts, "MOST_PLACES", kept)
    done = carry_out(driver, bulk(target, {"sweep": "s", "experiment": "big"}[target]))
    assert [len(emitted(commands, "located")) for commands in done[:-1]].count(1) <= 1
    assert changed(done[-1]) == (JOBS, [])
    made = [one["job_id"] for one in events(together(done)) if one["cause"] == "change"]
    assert (len(made), set(made)) == (JOBS, EVERY)
    assert classes(driver) == {**dict.fromkeys(EVERY, "bulk"), job_id(900): "experiment"}


@pytest.mark.parametrize("event", [wish(), bulk(), bulk("experiment", "big")])
def test_each_job_is_seen_to_once_whenever_the_shard_is_lost(driver, event):
    def lose():
        # What is decided and not written has not happened.
        driver.machine.handle(Dispatch(driver.free), driver.now)
        driver.restart()

    done = carry_out(driver, event, between=lose)
    seen = [one["job_id"] for one in events(together(done)) if one["cause"] in ("change", "cancelled")]
    assert (len(seen), set(seen)) == (JOBS, EVERY)
    (entry,) = emitted(together(done), "audit_entry")
    assert f'"jobs": {JOBS}' in entry["after"]


def test_a_job_that_ends_or_goes_to_a_worker_between_steps_is_not_changed(driver):
    driver.run(bulk())
    driver.free = {"aer": FREE["aer"][:1]}
    sent = forwards(driver.run(commanded("cancel", job_id(JOBS))))
    driver.free = {}
    answer = changed(carry_out(driver)[-1])
    assert len(sent) == FREE["aer"][0].bundles
    late = [one for bundle in sent for one in bundle.items if classes(driver)[one.job_id] != "bulk"]
    assert answer == (JOBS - 1 - len(late), [f"{len(late)}: a worker has it"] if late else [])


def test_a_job_that_arrives_meanwhile_is_cancelled_on_arrival_and_keeps_its_class_under_a_change(driver):
    driver.run(bulk())
    driver.run(job(901, sweep_id="s"))
    carry_out(driver)
    assert classes(driver)[job_id(901)] == "experiment"
    driver.run(wish())
    assert results(driver.run(job(902, sweep_id="s")))[job_id(902)] == "cancelled"
    carry_out(driver)
    assert set(driver.machine.live) == {job_id(900)}


def test_a_sweep_that_is_cancelled_twice_ends_each_job_once(driver):
    done = carry_out(driver, wish(), wish())
    assert sum(len(results(commands)) for commands in done) == JOBS
    assert len(driver.machine.live) == 1
    assert len(emitted(together(done), "audit_entry")) == 1


def test_a_cancel_that_is_repeated_when_few_are_left_ends_those_at_once(driver):
    done = [driver.run(wish()), driver.run(), driver.run(wish())]
    assert [len(results(commands)) for commands in done] == [STEP, STEP, JOBS - 2 * STEP]
    assert set(driver.machine.live) == {job_id(900)}


def test_nothing_of_a_sweep_is_sent_to_a_worker_while_it_is_being_cancelled_and_others_are(driver):
    driver.free = {"aer": FREE["aer"]}
    sent = [one.items[0].job_id for one in forwards(together(carry_out(driver, wish())))]
    assert sent == [job_id(900)]


def test_what_a_worker_of_a_pool_that_costs_has_is_called_off_at_once(driver):
    driver.free = {"noop": FREE["noop"][:1]}
    (sent,) = forwards(driver.run(job(800, pool="noop", sweep_id="s")))
    driver.free = {}
    driver.run(wish())
    assert phase(driver, 800) is Phase.CANCELLING
    carry_out(driver)
    driver.run(finished(sent, "REVOKED"))
    assert set(driver.machine.live) == {job_id(900)}


def test_a_question_behind_a_cancel_is_answered_when_that_is_done_and_who_waits_hears_of_it(driver):
    done = carry_out(driver, wish("locate"), wish(), wish("locate"), between=lambda: driver.pass_time(3))
    told = [(one["status"], one["jobs"]) for one in emitted(together(done), "located")]
    assert (told[0], told[-1]) == (("LIVE", JOBS), ("UNKNOWN", 0))
    assert {status for status, _ in told[1:-1]} == {"UNDER_WAY"}
    assert len(told) > 3


def test_tenants_take_turns_and_one_tenants_cancel_goes_before_his_changes(driver):
    driver.run(*[job(n, sweep_id="b", tenant="bob") for n in range(2_000, 2_000 + JOBS)])
    done = carry_out(driver, bulk("experiment", "big"), bulk("sweep", "b", tenant="bob"), wish())
    first = [events(commands) for commands in done if events(commands)]
    tenants = [{one["tenant"] for one in batch} for batch in first[:4]]
    assert tenants[0] != tenants[1]
    causes = [batch[0]["cause"] for batch in first if batch[0]["tenant"] == "ada"]
    assert causes == sorted(causes, key=["cancelled", "change"].index)
    assert set(driver.machine.live) == {job_id(900)} | {job_id(n) for n in range(2_000, 2_000 + JOBS)}


def test_changes_under_way_are_bounded(driver, monkeypatch):
    monkeypatch.setattr(broadcasts, "MOST_CHANGES", 1)
    driver.run(bulk())
    assert changed(driver.run(bulk("experiment", "big"))) == (
        0,
        ["too many changes are under way: wish again later"],
    )


def test_jobs_that_stay_as_they_are_stay_packed(driver):
    driver.restart()
    shard = driver.machine.shard
    hot = shard.jobs.hot
    assert changed(carry_out(driver, bulk(pool="nowhere"))[-1])[1] == [f"{JOBS}: nowhere is not configured"]
    assert shard.jobs.hot == hot


def test_an_experiment_is_looked_for_a_part_of_a_great_shard_at_a_time(driver, monkeypatch):
    monkeypatch.setattr(carrying, "LOOK", 100)
    monkeypatch.setattr(broadcasts, "BLOCKS_A_STEP", 1)
    driver.run(*[job(n) for n in range(3_000, 3_000 + 1_200)])
    done = carry_out(driver, bulk("experiment", "big"))
    assert changed(done[-1]) == (JOBS, [])
    assert [bool(events(commands)) for commands in done[:2]] == [False, True]
