"""Every decision about a job leaves an event that says why: who wished it, what it was decided from."""

import json
from dataclasses import replace

import pytest
from dispatcher_kit import (
    PARTITIONS,
    SHARD,
    Driver,
    config,
    control,
    emitted,
    finished,
    forwards,
    job_id,
    payload,
    reported,
    request,
    submitted,
)

from shotbus.broker.config import PoolConfig
from shotbus.broker.deadletters import redriven
from shotbus.broker.dispatcher.admission import check_pool
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Bury, Commanded, Credit

WISHED = {"who": "ada", "reason": "a better idea"}


@pytest.fixture
def driver():
    settings = config(bundle_jobs=1, max_attempts=1)
    pools = settings.pools | {"paid": replace(settings.pools["aer"], kind="hardware")}
    made = Driver(lambda: Dispatcher(SHARD, PARTITIONS, replace(settings, pools=pools)))
    made.free = {name: [Credit("w1", 0, 4)] for name in ("aer", "paid")}
    return made


def job(number=1, pool="aer", **changes):
    fields = request(number, payload_hash=payload(number), backend=pool, **changes)
    return submitted(fields, offset=number, pool=pool)


def told(commands):
    """Causes and terms of a micro-batch's events."""
    events = [event for batch in emitted(commands, "event_batch") for event in batch["events"]]
    return {event["cause"]: json.loads(event["detail"] or "{}") for event in events}


def cancel(reason="a better idea"):
    return Commanded(control("cancel", job_id(1)) | {"reason": reason})


def test_a_redriven_request_says_how_often_and_why_it_comes_again(driver):
    again = {"redriven": 2, "redrive_reason": "repaired"}
    assert told(driver.run(replace(job(), redriven=again)))["accept"] == again
    assert told(driver.run(job(2)))["accept"] == {}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"redrive-count": b"2", "redrive-reason": b"repaired"}, (2, "repaired")),
        ({"redrive-count": b"\xff9e9"}, (0, "")),
        ({"redrive-count": b"9" * 5_000, "redrive-reason": b"r" * 5_000}, (0, "r" * 256)),
    ],
)
def test_headers_of_a_redrive_may_hold_anything(headers, expected):
    assert tuple(redriven(headers).values()) == expected


def test_a_cancel_says_by_whom_why_and_how_far_the_job_had_come(driver):
    driver.free = {}
    driver.run(job())
    assert told(driver.run(cancel()))["cancelled"] == {"where": "it was waiting", **WISHED}


def test_a_reason_without_end_does_not_make_an_event_so(driver):
    driver.free = {}
    driver.run(job())
    assert told(driver.run(cancel("r" * 10_000)))["cancelled"]["reason"] == "r" * 256


def test_a_cancel_of_what_nobody_knows_about_is_an_event_and_changes_no_phase(driver):
    (sent,) = forwards(driver.run(job(pool="paid")))
    driver.run(reported("started", sent.bundle_id, pool="paid"))
    driver.pass_time(30)
    driver.free = {}
    driver.run()
    before = driver.machine.live[job_id(1)].phase
    assert told(driver.run(cancel()))["revoke"] == {"wish": "cancel", **WISHED}
    assert driver.machine.live[job_id(1)].phase is before
    assert told(driver.run(cancel())) == {}, "it is known already"


def test_a_cancel_before_its_job_is_told_when_that_arrives(driver):
    driver.run(cancel())
    assert told(driver.run(job()))["cancelled"] == {"why": "before it arrived"}


def test_a_deadline_that_passed_is_told(driver):
    driver.free = {}
    deadline = driver.wall_ms + 1_000
    driver.run(job(deadline_ms=deadline))
    driver.pass_time(5)
    assert told(driver.run())["expired"] == {"deadline_ms": deadline}


def test_a_failure_is_told_with_its_codes_and_its_letter_names_the_pool(driver):
    (sent,) = forwards(driver.run(job()))
    commands = driver.run(finished(sent, "TRANSIENT"))
    (letter,) = [one for one in commands if isinstance(one, Bury)]
    assert letter.pool == "aer"
    end = told(commands)["dead_lettered"]
    assert end["codes"] == ["SB-5001"]
    assert end["why"].startswith("TRANSIENT")


def test_too_deep_a_circuit_is_refused_by_its_pool():
    settings = replace(
        config(), pools={"p": PoolConfig(max_depth=10), "n": PoolConfig(kind="none", max_depth=10)}
    )
    (problem,) = check_pool(request(), "p", settings, depth=11)
    assert (problem.code, problem.limit, problem.actual) == ("SB-1117", "10 layers on p", "11 layers")
    assert check_pool(request(), "p", settings, depth=10) == []
    assert check_pool(request(), "n", settings, depth=11) == [], "nothing runs there"
