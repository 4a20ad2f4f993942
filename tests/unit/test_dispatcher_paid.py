"""Pools that cost: nothing is sent twice on a guess, and a cancel is as honest as it can be."""

from dataclasses import replace

import pytest
from asking_kit import phase, results
from dispatcher_kit import (
    PARTITIONS,
    SHARD,
    Driver,
    commanded,
    config,
    emitted,
    finished,
    forwards,
    item,
    job_id,
    payload,
    reported,
    request,
    submitted,
)

from shotbus.broker.config import PriceConfig
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Credit, Revoke
from shotbus.broker.dispatcher.states import Phase
from shotbus.schemas.errors import Problem

FREE = {"aer": [Credit("w1", 0, 4)]}


@pytest.fixture
def driver():
    return priced(0.0)


def priced(per_task):
    """A dispatcher whose pool is hardware at so much a task."""
    settings = config(bundle_jobs=1)
    pool = replace(settings.pools["aer"], kind="hardware", price=PriceConfig(per_task=per_task))
    pools = settings.pools | {"aer": pool}
    made = Driver(lambda: Dispatcher(SHARD, PARTITIONS, replace(settings, pools=pools)))
    made.free = FREE
    return made


def job(number=1, **changes):
    return submitted(request(number, payload_hash=payload(number), **changes), offset=number)


def looked_up(forward, found, error_class=""):
    told = item(forward.items[0].job_id, forward.items[0].attempt, error_class) | {"found": found}
    return reported("finished", forward.bundle_id, items=[told])


def lose(driver, sent):
    """The worker claims the bundle and is never heard of again."""
    driver.run(reported("started", sent.bundle_id))
    driver.pass_time(30)
    driver.free = {}
    assert not results(driver.run())
    assert phase(driver) is Phase.RECONCILING


def ask(driver, purpose="look_up"):
    """The look-up that is sent next."""
    driver.pass_time(61)
    driver.free = FREE
    (sent,) = forwards(driver.run())
    assert sent.purpose == purpose
    return sent


@pytest.mark.parametrize("restarted", [False, True])
def test_a_lost_attempt_is_looked_up_and_its_answer_taken(driver, restarted):
    (sent,) = forwards(driver.run(job()))
    lose(driver, sent)
    if restarted:
        driver.restart()
    sent = ask(driver)
    if restarted:
        driver.restart()
    assert results(driver.run(looked_up(sent, "done"))) == {job_id(1): "succeeded"}


def test_a_lost_attempt_runs_again_only_when_the_provider_never_had_it(driver):
    (sent,) = forwards(driver.run(job()))
    lose(driver, sent)
    for found in ("running", "unknown"):
        driver.run(looked_up(ask(driver), found))
        assert phase(driver) is Phase.RECONCILING
    driver.run(looked_up(ask(driver), "absent"))
    driver.pass_time(10)
    (again,) = forwards(driver.run())
    assert (again.purpose, again.items[0].token) == ("run", f"{job_id(1)}.1")


@pytest.mark.parametrize("error_class", ["UNSTABLE", "CANCELLED_BY_PROVIDER"])
@pytest.mark.parametrize("lost", [False, True])
def test_what_the_provider_accepted_and_ended_badly_is_submitted_again_under_another_token(
    driver, error_class, lost
):
    (sent,) = forwards(driver.run(job()))
    if lost:
        lose(driver, sent)
        driver.run(looked_up(ask(driver), "done", error_class))
    else:
        told = item(job_id(1), 1, error_class) | {"provider_job_id": "p-1", "cost": 3.0}
        driver.run(reported("finished", sent.bundle_id, items=[told]))
    driver.restart()
    driver.pass_time(10)
    (again,) = forwards(driver.run())
    assert (again.purpose, again.items[0].token) == ("run", f"{job_id(1)}.1")


@pytest.mark.parametrize(("most", "ends"), [(None, False), (7.0, False), (5.0, True)])
def test_a_repeat_counts_what_was_billed_before_against_the_jobs_cap(most, ends):
    made = priced(3.0)
    (sent,) = forwards(made.run(job(max_cost=most)))
    told = item(job_id(1), 1, "UNSTABLE") | {"provider_job_id": "p-1", "cost": 3.0}
    failed = made.run(reported("finished", sent.bundle_id, items=[told]))
    assert results(failed) == ({job_id(1): "failed"} if ends else {})
    if not ends:
        made.restart()
        made.pass_time(10)
        (again,) = forwards(made.run())
        done = item(job_id(1), 2) | {"provider_job_id": "p-2", "cost": 3.0}
        (result,) = emitted(made.run(reported("finished", again.bundle_id, items=[done])), "circuit_result")
        assert result["cost"] == 6.0


def test_what_the_provider_did_not_take_is_submitted_under_the_same_token(driver):
    (sent,) = forwards(driver.run(job()))
    driver.run(finished(sent, "THROTTLED"))
    driver.pass_time(10)
    (again,) = forwards(driver.run())
    assert again.items[0].token in ("", f"{job_id(1)}.0")


def test_a_lost_look_up_is_asked_again(driver):
    (sent,) = forwards(driver.run(job()))
    lose(driver, sent)
    lose(driver, ask(driver))
    assert results(driver.run(looked_up(ask(driver), "done"))) == {job_id(1): "succeeded"}


def test_the_deadline_does_not_end_what_may_have_been_paid_for(driver):
    (sent,) = forwards(driver.run(job(deadline_ms=driver.wall_ms + 20_000)))
    lose(driver, sent)
    assert results(driver.run(looked_up(ask(driver), "done"))) == {job_id(1): "succeeded"}


@pytest.mark.parametrize(
    ("word", "outcome"), [("", "succeeded"), ("REVOKED", "cancelled"), ("TRANSIENT", "cancelled")]
)
def test_a_running_paid_job_is_cancelled_by_its_workers_word(driver, word, outcome):
    (sent,) = forwards(driver.run(job()))
    driver.run(reported("started", sent.bundle_id))
    told = driver.run(commanded("cancel", job_id(1)))
    assert [one.jobs for one in told if isinstance(one, Revoke)] == [(job_id(1),)]
    assert not results(told)
    assert phase(driver) is Phase.CANCELLING
    driver.restart()
    assert results(driver.run(finished(sent, word))) == {job_id(1): outcome}


def test_a_cancelled_paid_job_whose_worker_was_lost_is_looked_up_and_not_sent_again(driver):
    (sent,) = forwards(driver.run(job()))
    driver.run(reported("started", sent.bundle_id), commanded("cancel", job_id(1)))
    lose(driver, sent)
    assert results(driver.run(looked_up(ask(driver, "cancel"), "absent"))) == {job_id(1): "cancelled"}


def test_a_look_up_of_what_is_called_off_asks_the_provider_to_cancel_and_goes_apart_from_the_others(driver):
    sent = forwards(driver.run(job(1), job(2)))
    driver.run(*[reported("started", one.bundle_id) for one in sent])
    driver.pass_time(30)
    driver.free = {}
    driver.run()
    driver.run(commanded("cancel", job_id(1)))
    driver.restart()
    driver.pass_time(61)
    driver.free = {"aer": [Credit("w1", 0, 8)]}
    asked = [*forwards(driver.run()), *forwards(driver.run())]
    told = {one.purpose: [item.job_id for item in one.items] for one in asked}
    assert told == {"cancel": [job_id(1)], "look_up": [job_id(2)]}
    assert not results(driver.run(looked_up(asked[0], "running"), looked_up(asked[1], "running")))
    assert ask(driver, asked[0].purpose)


@pytest.mark.parametrize("error_class", ["TRANSIENT", "REVOKED", "UNSTABLE"])
def test_a_cancelled_paid_job_whose_failure_a_look_up_tells_is_not_sent_again(driver, error_class):
    (sent,) = forwards(driver.run(job()))
    driver.run(reported("started", sent.bundle_id), commanded("cancel", job_id(1)))
    lose(driver, sent)
    assert results(driver.run(looked_up(ask(driver, "cancel"), "done", error_class))) == {
        job_id(1): "cancelled"
    }
    driver.pass_time(600)
    assert not forwards(driver.run())


def test_how_far_a_cancelled_paid_job_had_come_is_told_in_the_words_of_whoever_stopped_it(driver):
    (sent,) = forwards(driver.run(job()))
    driver.run(reported("started", sent.bundle_id), commanded("cancel", job_id(1)))
    word = "its provider has cancelled it as it was asked to"
    told = item(job_id(1), 1, "REVOKED") | {"provider_job_id": "p-1", "cost": 0.0}
    told["problems"] = [Problem("SB-4002", "$", detail=word).as_record()]
    ended = driver.run(reported("finished", sent.bundle_id, items=[told]))
    (result,) = emitted(ended, "circuit_result")
    assert (result["outcome"], result["problems"][0]["detail"]) == ("cancelled", word)


def granted(commands):
    return [(one.bundle_id, one.granted) for one in commands if isinstance(one, Revoke) and one.granted]


def test_the_first_claim_of_a_bundle_that_costs_is_granted_once_and_no_other(driver):
    (sent,) = forwards(driver.run(job()))
    claim = reported("started", sent.bundle_id, lease="mine")
    assert granted(driver.run(claim)) == [(sent.bundle_id, "mine")]
    driver.restart()
    for late in (claim, reported("heartbeat", sent.bundle_id, lease="mine")):
        assert granted(driver.run(late)) == []
    assert granted(driver.run(reported("started", sent.bundle_id, lease="another"))) == []


def test_a_job_whose_deadline_passes_in_its_workers_hand_is_revoked_before_any_grant(driver):
    (sent,) = forwards(driver.run(job(deadline_ms=driver.wall_ms + 5_000)))
    driver.pass_time(6)
    told = driver.run()
    assert results(told) == {job_id(1): "expired"}
    assert [one.jobs for one in told if isinstance(one, Revoke)] == [(job_id(1),)]
    assert not results(driver.run(reported("started", sent.bundle_id), finished(sent, "REVOKED")))
    assert driver.machine.load() == {}


def test_what_has_begun_goes_on_past_its_deadline(driver):
    (sent,) = forwards(driver.run(job(deadline_ms=driver.wall_ms + 5_000)))
    driver.run(reported("started", sent.bundle_id))
    driver.pass_time(6)
    assert not results(driver.run())
    assert results(driver.run(finished(sent))) == {job_id(1): "succeeded"}


def test_a_look_up_needs_no_grant(driver):
    (sent,) = forwards(driver.run(job()))
    lose(driver, sent)
    assert granted(driver.run(reported("started", ask(driver).bundle_id))) == []


def test_a_free_pools_job_ends_at_once_and_its_worker_is_told():
    settings = config()
    driver = Driver(lambda: Dispatcher(SHARD, PARTITIONS, settings))
    driver.free = FREE
    (sent,) = forwards(driver.run(job()))
    told = driver.run(commanded("cancel", job_id(1)))
    assert results(told) == {job_id(1): "cancelled"}
    assert [one.bundle_id for one in told if isinstance(one, Revoke)] == [sent.bundle_id]
