"""A change of mind, a person's word, feature flags, and the steps that are left when a pool cannot answer."""

from dataclasses import replace

import pytest
from asking_kit import FREE, changed, events
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

from shotbus.broker.audit import verify
from shotbus.broker.dispatcher.job import shared_chain
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Recall
from shotbus.broker.dispatcher.states import Phase
from shotbus.broker.policy.config import CronWindowConfig

NOON = CronWindowConfig(cron="0 12 * * *", minutes=60)
ALWAYS = CronWindowConfig(cron="0 0 * * *", minutes=1_440)


@pytest.fixture
def driver():
    settings = config(bundle_jobs=1, max_attempts=1)
    made = Driver(
        lambda: Dispatcher(
            SHARD, PARTITIONS, replace(settings, windows={"noon": NOON, "always": ALWAYS}, flags={"qpu": 0.0})
        )
    )
    made.run(commanded("pause", "aer", target="pool"))
    return made


def job(number=1, **changes):
    return submitted(request(number, payload_hash=payload(number), **changes), offset=number)


def changing(name, target="job", **arguments):
    event = commanded("reprioritise", name, target=target)
    event.control["arguments"] = {("class" if key == "priority" else key): v for key, v in arguments.items()}
    return event


def live(driver, number=1):
    return driver.machine.shard.jobs.get(job_id(number))


def with_chain(driver, *steps):
    live(driver).chain = shared_chain(steps)
    driver.run(commanded("resume", "aer", target="pool"))
    driver.free = FREE
    (sent,) = forwards(driver.run())
    return finished(sent, "TRANSIENT")


def results(commands):
    return [(one["outcome"], one.get("fallback_from", "")) for one in emitted(commands, "circuit_result")]


def test_class_deadline_and_pool_of_what_waits_can_be_changed(driver):
    driver.run(job())
    deadline = driver.wall_ms + 60_000
    commands = driver.run(changing(job_id(1), priority="interactive", deadline_ms=str(deadline), pool="noop"))
    assert changed(commands) == (1, [])
    driver.restart()
    kept = live(driver)
    assert (kept.priority, kept.deadline_ms, kept.pool) == ("interactive", deadline, "noop")
    driver.free = FREE
    assert [one.pool for one in forwards(driver.run())] == ["noop"]


@pytest.mark.parametrize("waits", [{"window": "noon"}, {"not_before_ms": "1700000060000"}])
def test_what_waits_can_be_put_off(driver, waits):
    driver.run(job())
    assert changed(driver.run(changing(job_id(1), **waits))) == (1, [])
    assert live(driver).phase is Phase.DEFERRED
    driver.restart()
    driver.pass_time(86_400)
    driver.run()
    assert live(driver).phase is Phase.WAITING


def test_a_sweep_is_changed_where_it_can_be_and_the_rest_is_explained(driver):
    driver.free = {"noop": FREE["noop"][:1]}
    aboard = replace(job(1, sweep_id="s"), pool="noop")
    driver.run(aboard, job(2, sweep_id="s"), job(3, sweep_id="s"), job(4))
    commands = driver.run(changing("s", "sweep", priority="bulk"))
    assert changed(commands) == (2, ["1: a worker has it"])
    assert [live(driver, n).priority for n in (2, 3, 4)] == ["bulk", "bulk", "experiment"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"priority": "royal"}, "1: unknown class"),
        ({"pool": "nowhere"}, "1: nowhere is not configured"),
        ({"window": "night"}, "1: unknown window, known: always, noon"),
        ({"deadline_ms": "5"}, "1: the deadline has passed"),
        ({"deadline_ms": "soon"}, "deadline_ms is wall time in milliseconds"),
        ({"colour": "red"}, "unknown argument colour"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(driver, arguments, why):
    driver.run(job())
    assert changed(driver.run(changing(job_id(1), **arguments))) == (0, [why])


def test_another_tenants_job_is_not_changed(driver):
    driver.run(job(1, tenant="bob"))
    assert changed(driver.run(changing(job_id(1), priority="bulk"))) == (0, [])


def test_every_obeyed_command_is_a_link_of_the_audit_chain(driver):
    commands = driver.run(job(), changing(job_id(1), priority="bulk"))
    driver.restart()
    flag = commanded("flag", "qpu")
    flag.control["arguments"] = {"value": "on"}
    commands += driver.run(flag)
    entries = emitted(commands, "audit_entry")
    assert [(one["action"], one["number"]) for one in entries] == [("reprioritise", 2), ("flag", 3)]
    assert verify(entries) == []
    driver.restart()
    assert driver.machine.shard.standing.flags == {"qpu": "on"}


def test_a_failed_job_goes_to_the_next_pool_of_its_chain_and_says_so(driver):
    driver.run(job())
    (sent,) = forwards(driver.run(with_chain(driver, "nowhere", "noop")))
    assert sent.pool == "noop"
    driver.restart()
    driver.free = FREE
    assert results(driver.run(finished(sent))) == [("succeeded_by_fallback", "aer")]


def test_the_chain_defers_demotes_asks_a_person_and_looks_for_an_earlier_result(driver):
    driver.run(job())
    lost = with_chain(driver, "defer:noon", "demote:bulk", "cache:3600", "review")
    driver.run(lost)
    assert live(driver).phase is Phase.DEFERRED
    driver.pass_time(86_400)
    (sent,) = forwards(driver.run())
    (sent,) = forwards(driver.run(finished(sent, "TRANSIENT")))
    assert live(driver).priority == "bulk"
    (recall,) = [one for one in driver.run(finished(sent, "TRANSIENT")) if isinstance(one, Recall)]
    assert (recall.job_id, recall.seconds) == (job_id(1), 3600)
    assert live(driver).phase is Phase.FALLING_BACK


def review(driver):
    driver.run(job())
    driver.run(with_chain(driver, "review"))
    assert live(driver).phase is Phase.AWAITING_REVIEW
    driver.restart()


def test_an_approved_job_runs(driver):
    review(driver)
    driver.free = FREE
    (sent,) = forwards(driver.run(commanded("approve", job_id(1))))
    assert results(driver.run(finished(sent))) == [("succeeded", "")]


def test_the_end_of_a_rejected_job_tells_how_it_had_failed_and_which_pool_did_not_take_it(driver):
    driver.run(job())
    driver.run(with_chain(driver, "review", "nowhere"))
    last = events(driver.run(commanded("reject", job_id(1))))[-1]["detail"]
    assert '"failed":"TRANSIENT"' in last
    assert '"passed_over":{"nowhere":"is not configured"}' in last


def test_a_rejected_job_fails_with_the_reason(driver):
    review(driver)
    event = commanded("reject", job_id(1))
    event.control["reason"] = "too dear"
    (answer,) = emitted(driver.run(event), "circuit_result")
    assert (answer["outcome"], answer["problems"][0]["code"]) == ("failed", "SB-4010")
    assert answer["problems"][0]["detail"] == "too dear"


def put_off(driver):
    """A job that a window, or its own time, holds back; it has a place in no queue."""
    driver.run(job(), changing(job_id(1), window="noon"))
    assert live(driver).phase is Phase.DEFERRED


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("word", [{"not_before_ms": "0"}, {"window": "always"}], ids=["now", "open window"])
def test_a_word_that_means_now_releases_what_was_put_off_at_once(driver, word, restarted):
    put_off(driver)
    if restarted:
        driver.restart()
    commands = driver.run(changing(job_id(1), **word))
    assert changed(commands) == (1, [])
    assert live(driver).phase is Phase.WAITING
    assert [one["cause"] for one in events(commands)][-2:] == ["change", "due"]
    driver.free = FREE
    assert forwards(driver.run(commanded("resume", "aer", target="pool")))


def test_a_scheduled_job_is_released_and_keeps_its_deadline(driver):
    driver.run(job(not_before_ms=driver.wall_ms + 30_000, deadline_ms=driver.wall_ms + 60_000))
    assert live(driver).phase is Phase.SCHEDULED
    driver.run(changing(job_id(1), not_before_ms=str(driver.wall_ms)))
    assert live(driver).phase is Phase.WAITING
    driver.pass_time(61)
    assert results(driver.run()) == [("expired", "")]


def test_a_word_that_means_now_is_none_against_a_rules_window(driver):
    put_off(driver)
    live(driver).keep(windows=["noon"])
    opens = live(driver).not_before_ms
    driver.run(changing(job_id(1), not_before_ms="0"))
    assert (live(driver).phase, live(driver).not_before_ms) == (Phase.DEFERRED, opens)
    driver.run(changing(job_id(1), window="always"))
    assert live(driver).phase is Phase.WAITING


def test_another_pool_is_no_word_about_when(driver):
    put_off(driver)
    driver.run(changing(job_id(1), pool="noop"))
    assert (live(driver).phase, live(driver).pool) == (Phase.DEFERRED, "noop")
