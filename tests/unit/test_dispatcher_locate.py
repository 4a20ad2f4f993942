"""What a shard answers when it is asked where a job is, or what it holds of a sweep or a pool."""

import pytest
from dispatcher_kit import (
    SHARD,
    Driver,
    commanded,
    config,
    emitted,
    finished,
    forwards,
    job_id,
    reported,
    request,
    submitted,
)

from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Credit


def driver_of(bundles=0):
    driver = Driver(lambda: Dispatcher(SHARD, 2, config()))
    driver.free = {"aer": [Credit("w1", 0, bundles)]}
    return driver


def submit(driver, *numbers, **changes):
    return driver.run(*(submitted(request(number, **changes), offset=number) for number in numbers))


def located(driver, name, **control):
    (fields,) = emitted(driver.run(commanded("locate", name, **control)), "located")
    assert (fields["job_id"], fields["correlation"]) == (name, "corr")
    return fields


def count(driver, name, target, **control):
    fields = located(driver, name, target=target, **control)
    assert fields["shard"] == SHARD
    return fields["status"], fields["jobs"], fields["in_flight"]


@pytest.mark.parametrize("restart", [False, True])
def test_a_job_is_known_to_its_own_tenant_alone_live_and_finished(restart):
    driver = driver_of(bundles=1)
    (bundle,) = forwards(submit(driver, 1))
    if restart:
        driver.restart()
    assert located(driver, job_id(1))["status"] == "QUEUED"
    assert located(driver, job_id(1), tenant="eve")["status"] == "UNKNOWN"
    driver.run(finished(bundle))
    if restart:
        driver.restart()
    place = located(driver, job_id(1))
    assert (place["status"], place["outcome"]) == ("FINISHED", "succeeded")
    foreign = located(driver, job_id(1), tenant="eve")
    assert (foreign["status"], foreign["outcome"], foreign["finished_ms"]) == ("UNKNOWN", "", 0)


@pytest.mark.parametrize("restart", [False, True])
def test_a_pool_tells_whether_it_is_paused_what_waits_and_what_is_in_flight(restart):
    driver = driver_of(bundles=1)
    (bundle,) = forwards(submit(driver, 1, 2, 3))
    driver.free = {}
    driver.run(commanded("pause", "aer", target="pool"))
    submit(driver, 4)
    if restart:
        driver.restart()
    assert count(driver, "aer", "pool") == ("PAUSED", 1, 3)
    assert count(driver, "noop", "pool") == ("READY", 0, 0)
    driver.run(finished(bundle))
    assert count(driver, "aer", "pool") == ("PAUSED", 1, 0)
    driver.run(commanded("resume", "aer", target="pool"))
    assert count(driver, "aer", "pool") == ("READY", 1, 0)
    assert count(driver, "nowhere", "pool") == ("UNKNOWN", 0, 0)


def test_a_cancelled_job_is_in_flight_until_its_worker_has_answered():
    driver = driver_of(bundles=1)
    (bundle,) = forwards(submit(driver, 1))
    driver.run(reported("started", bundle.bundle_id))
    driver.run(commanded("cancel", job_id(1)))
    assert count(driver, "aer", "pool") == ("READY", 0, 1)
    driver.run(finished(bundle))
    assert count(driver, "aer", "pool") == ("READY", 0, 0)


def test_a_sweep_counts_its_live_jobs_for_its_own_tenant():
    driver = driver_of(bundles=1)
    submit(driver, 1, 2, 3, 4, sweep_id="s", shard_index=0)
    driver.free = {}
    submit(driver, 5)
    assert count(driver, "s", "sweep") == ("LIVE", 4, 3)
    assert count(driver, "s", "sweep", tenant="eve") == ("UNKNOWN", 0, 0)
    assert count(driver, "", "sweep") == ("UNKNOWN", 0, 0)
    driver.run(commanded("cancel", "s", target="sweep"))
    assert count(driver, "s", "sweep") == ("UNKNOWN", 0, 0)
