"""The same work asked for twice: shared while under way, one job a unique key, and what becomes of those that wait."""

from dataclasses import replace

import pytest
from asking_kit import refusals, results
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
from shotbus.broker.dispatcher.messages import Credit
from shotbus.schemas.ids import affine_route
from shotbus.schemas.ids import job_id as make_job_id

ONE = {"aer": [Credit("w1", 0, 1)]}


@pytest.fixture
def driver():
    settings = config(bundle_jobs=1)
    return Driver(lambda: Dispatcher(SHARD, PARTITIONS, settings))


def same(number, **changes):
    """A submission whose work has the cache key k."""
    fields = request(number, payload_hash=payload(number), seed=7, **changes)
    return replace(submitted(fields, offset=number), cache_key="k")


def test_the_same_work_runs_once_and_answers_all_who_asked(driver):
    driver.free = ONE
    sent = forwards(driver.run(same(1), same(2), same(3)))
    assert [item.job_id for forward in sent for item in forward.items] == [job_id(1)]
    told = driver.run(finished(sent[0]))
    assert results(told) == {
        job_id(1): "succeeded",
        job_id(2): "served_from_cache",
        job_id(3): "served_from_cache",
    }
    answers = emitted(told, "circuit_result")
    assert {one["payload"] for one in answers} == {b"answer"}
    assert [one["answered_by"] for one in answers[1:]] == ["shared", "shared"]
    assert [one["shots"] for one in answers] == [100, 0, 0]


@pytest.mark.parametrize("restarted", [False, True])
def test_when_the_work_fails_the_next_who_asked_runs_it_himself(driver, restarted):
    driver.free = ONE
    (sent,) = forwards(driver.run(same(1), same(2), same(3)))
    if restarted:
        driver.restart()
    told = driver.run(finished(sent, "INVALID"))
    assert results(told) == {job_id(1): "failed"}
    (again,) = forwards(told)
    assert again.items[0].job_id == job_id(2)
    assert results(driver.run(finished(again))) == {
        job_id(2): "succeeded",
        job_id(3): "served_from_cache",
    }


def test_cancelling_the_one_that_computes_leaves_the_others_an_answer(driver):
    driver.run(same(1), same(2))
    driver.free = ONE
    told = driver.run(commanded("cancel", job_id(1)))
    assert results(told) == {job_id(1): "cancelled"}
    (sent,) = forwards(told)
    assert results(driver.run(finished(sent))) == {job_id(2): "succeeded"}


def test_who_waits_for_a_result_can_be_cancelled_and_expires(driver):
    deadline = driver.wall_ms + 1_000
    driver.run(same(1), same(2), same(3, deadline_ms=deadline))
    assert results(driver.run(commanded("cancel", job_id(2)))) == {job_id(2): "cancelled"}
    driver.pass_time(2)
    assert results(driver.run()) == {job_id(3): "expired"}


def test_a_better_class_lends_its_class_to_the_work_it_waits_for(driver):
    driver.run(same(1, priority="bulk"), same(2, priority="interactive"))
    assert driver.machine.live[job_id(1)].priority == "interactive"
    driver.free = {}
    driver.restart()
    assert driver.machine.live[job_id(1)].priority == "interactive"


#: Whose jobs belong to this shard, whichever of the two tenants has it.
KEY = next(
    key
    for key in map("loop-{}".format, range(99))
    if all(affine_route(one, key) % PARTITIONS == SHARD for one in ("ada", "bob"))
)


def unique_id(number, tenant="ada"):
    return make_job_id(tenant, unique_key=KEY, entropy=number.to_bytes(12, "big"))


def unique(number, policy="", tenant="ada"):
    fields = request(
        number, payload_hash=payload(number), unique_key=KEY, unique_policy=policy, tenant=tenant
    )
    return submitted(fields | {"job_id": unique_id(number, tenant)}, offset=number)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_second_job_with_a_unique_key_is_sent_to_the_first_or_refused(driver, restarted):
    driver.run(unique(1))
    if restarted:
        driver.restart()
    told = driver.run(unique(2), unique(3, "reject"))
    assert refusals(told) == [(unique_id(2), "SB-1114"), (unique_id(3), "SB-1115")]
    assert emitted(told, "refusal")[0]["problems"][0]["actual"] == unique_id(1)
    assert refusals(driver.run(unique(4, tenant="bob"))) == []


def test_a_newer_job_supersedes_the_one_that_waits_and_takes_its_key(driver):
    driver.run(unique(1))
    assert results(driver.run(unique(2, "supersede"))) == {unique_id(1): "superseded"}
    assert refusals(driver.run(unique(3))) == [(unique_id(3), "SB-1114")]
    driver.run(commanded("cancel", unique_id(2)))
    assert refusals(driver.run(unique(4))) == []


def test_one_tenants_flood_does_not_take_the_room_of_others():
    settings = config(max_waiting=40)
    settings = replace(settings, limits=replace(settings.limits, max_waiting_tenant=8))
    driver = Driver(lambda: Dispatcher(SHARD, PARTITIONS, settings))
    flood = [submitted(request(n, payload_hash=payload(n)), offset=n) for n in range(1, 8)]
    told = driver.run(*flood)
    assert refusals(told) == [(job_id(n), "SB-1111") for n in range(5, 8)]
    assert all(one["retry_after_ms"] for one in emitted(told, "refusal"))
    other = request(9, payload_hash=payload(9), tenant="bob")
    assert refusals(driver.run(submitted(other, offset=9))) == []
