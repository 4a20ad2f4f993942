"""A deadline that passes in a worker's hand: the job ends as by the dispatcher's own clock, and never goes again."""

from dataclasses import replace

import pytest
from asking_kit import job, phase, results
from dispatcher_kit import (
    PARTITIONS,
    SHARD,
    START_MS,
    Driver,
    commanded,
    config,
    control,
    emitted,
    finished,
    forwards,
    item,
    job_id,
    reported,
)

from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Commanded, Credit
from shotbus.broker.dispatcher.states import Phase

FREE = {"aer": [Credit("w1", 0, 1)]}
SOON = START_MS + 60_000


@pytest.fixture(params=["simulator", "hardware"])
def driver(request):
    settings = config()
    pools = settings.pools | {"aer": replace(settings.pools["aer"], kind=request.param)}
    made = Driver(lambda: Dispatcher(SHARD, PARTITIONS, replace(settings, pools=pools)))
    made.free = FREE
    return made


def changing(name, **arguments):
    fields = control("reprioritise", name)
    return Commanded(fields | {"arguments": arguments, "reason": "r"})


def late(sent, *, actual="0.500 s late"):
    """The event that a worker did not begin any job of a bundle, their deadlines having passed."""
    event = finished(sent, "EXPIRED")
    for one in event.outcome["items"]:
        one["problems"] = [one["problems"][0] | {"code": "SB-4003", "actual": actual}]
    return event


def test_what_is_sent_to_a_worker_says_until_when_it_may_begin(driver):
    (sent,) = forwards(driver.run(job(1, deadline_ms=SOON), job(2)))
    assert {one.job_id: one.deadline_ms for one in sent.items} == {job_id(1): SOON, job_id(2): 0}


def test_a_deadline_that_was_changed_is_the_one_that_is_sent(driver):
    driver.free = {}
    driver.run(job(deadline_ms=SOON))
    driver.run(changing(job_id(1), deadline_ms=str(START_MS + 5_000)))
    driver.restart()
    driver.free = FREE
    (sent,) = forwards(driver.run())
    assert [one.deadline_ms for one in sent.items] == [START_MS + 5_000]


@pytest.mark.parametrize("claimed", [True, False])
@pytest.mark.parametrize("passed", [0, 61])
def test_a_job_that_its_worker_found_late_expires_whatever_our_clock_says(driver, claimed, passed):
    (sent,) = forwards(driver.run(job(deadline_ms=SOON)))
    if claimed:
        driver.run(reported("started", sent.bundle_id))
        driver.restart()
    driver.pass_time(passed, seen=0)
    told = driver.run(late(sent))
    (result,) = emitted(told, "circuit_result")
    (problem,) = result["problems"]
    assert (result["outcome"], problem["code"], problem["actual"]) == ("expired", "SB-4003", "0.500 s late")
    assert problem["detail"] == "its worker had not begun it"
    assert not forwards(told)
    assert not driver.machine.live
    driver.pass_time(120)
    assert (forwards(driver.run()), driver.machine.load()) == ([], {})


def test_its_neighbours_answers_count_and_it_is_charged_no_failure(driver):
    (sent,) = forwards(driver.run(job(1, deadline_ms=SOON), job(2)))
    first, second = (item(one.job_id, one.attempt) for one in sent.items)
    first = first | {"error_class": "EXPIRED", "payload": b"", "shots": 0}
    told = driver.run(reported("finished", sent.bundle_id, items=[first, second]))
    assert results(told) == {job_id(1): "expired", job_id(2): "succeeded"}
    assert driver.machine.take_counters().retries == {}


def test_a_word_about_an_earlier_attempt_ends_nothing(driver):
    (sent,) = forwards(driver.run(job(deadline_ms=START_MS + 900_000)))
    driver.pass_time(30)
    driver.run()
    driver.pass_time(5)
    (again,) = forwards(driver.run())
    assert again.items[0].attempt == 2
    assert results(driver.run(late(sent))) == {}
    assert results(driver.run(finished(again))) == {job_id(1): "succeeded"}


def test_a_job_without_a_deadline_does_not_expire_by_anybodys_word(driver):
    (sent,) = forwards(driver.run(job()))
    assert results(driver.run(late(sent))) == {}
    assert phase(driver) is Phase.RETRYING


def test_a_job_that_was_called_off_before_its_worker_found_it_late_is_cancelled(driver):
    (sent,) = forwards(driver.run(job(deadline_ms=SOON)))
    told = driver.run(reported("started", sent.bundle_id), commanded("cancel", job_id(1)))
    told += driver.run(late(sent))
    assert results(told) == {job_id(1): "cancelled"}
    assert driver.machine.load() == {}
