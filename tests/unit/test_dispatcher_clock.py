"""A wall clock that is set an hour ahead or back neither lapses leases nor keeps repeats waiting."""

import pytest
from dispatcher_kit import (
    PARTITIONS,
    SHARD,
    START_MS,
    Driver,
    config,
    finished,
    forwards,
    job_id,
    payload,
    reported,
    request,
    submitted,
)

from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Credit
from shotbus.broker.dispatcher.states import Phase

HOUR_MS = 3_600_000
JUMPS = pytest.mark.parametrize("jump", [HOUR_MS, -HOUR_MS], ids=["ahead", "back"])


@pytest.fixture
def driver():
    made = Driver(lambda: Dispatcher(SHARD, PARTITIONS, config(bundle_jobs=1)))
    made.free = {"aer": [Credit("w1", 0, 1)]}
    return made


def job(**changes):
    return submitted(request(1, payload_hash=payload(1), **changes))


def live(driver):
    return driver.machine.live[job_id(1)]


def jump_(driver, by_ms):
    """Set the clock between two ticks."""
    driver.run()
    driver.wall_ms += by_ms


@JUMPS
@pytest.mark.parametrize("started", [False, True])
def test_a_bundle_lapses_after_its_time_and_no_sooner_or_later(driver, jump, started):
    (sent,) = forwards(driver.run(job()))
    driver.free = {}
    if started:
        driver.run(reported("started", sent.bundle_id))
    jump_(driver, jump)
    lasts = 10 if started else 22
    driver.pass_time(lasts - 1)
    driver.run()
    assert live(driver).phase in (Phase.RUNNING, Phase.FORWARDED)
    driver.pass_time(1.5)
    driver.run()
    assert live(driver).phase not in (Phase.RUNNING, Phase.FORWARDED)


@JUMPS
def test_a_repeat_waits_for_seconds_and_not_for_an_hour(driver, jump):
    (sent,) = forwards(driver.run(job()))
    driver.run(finished(sent, "TRANSIENT"))
    assert live(driver).phase is Phase.RETRYING
    jump_(driver, jump)
    commands = driver.run()
    driver.pass_time(10)
    (again,) = forwards(commands + driver.run())
    assert again.items[0].attempt == 2


def test_a_repeat_that_waits_through_a_restart_after_the_clock_was_set_back_waits_for_seconds(driver):
    (sent,) = forwards(driver.run(job()))
    driver.run(finished(sent, "TRANSIENT"))
    jump_(driver, -HOUR_MS)
    driver.run()
    driver.restart()
    driver.pass_time(10)
    assert forwards(driver.run())


def test_what_is_not_to_begin_before_a_time_waits_for_that_time_by_the_clock(driver):
    driver.run(job(not_before_ms=START_MS + 10_000))
    jump_(driver, -HOUR_MS)
    driver.run()
    driver.pass_time(60)
    assert not forwards(driver.run())
    assert live(driver).phase is Phase.SCHEDULED


@JUMPS
def test_an_unread_bundle_has_its_time_and_no_more_after_a_restart(driver, jump):
    driver.run(job())
    driver.free = {}
    driver.wall_ms += jump
    driver.restart()
    driver.pass_time(9)
    driver.run()
    assert live(driver).phase is Phase.FORWARDED
    driver.pass_time(14)
    driver.run()
    assert live(driver).phase is not Phase.FORWARDED
