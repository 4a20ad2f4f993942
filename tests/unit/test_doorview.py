"""What a shard tells of its door beside routing: whoever decides with it decides as the door does."""

import itertools
import json
from dataclasses import replace

import pytest
from dispatcher_kit import PARTITIONS, SHARD, Driver, commanded, config, emitted, job_id, request, submitted

from shotbus.broker.config import PoolConfig, SheddingConfig
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.shedding import Shedder
from shotbus.broker.policy.doorview import UNASKED, DoorView, Level, Rival, revived
from shotbus.broker.policy.inforce import in_force
from shotbus.schemas.ids import job_id as make_job_id

CLASSES = ("bulk", "experiment", "production")
LEVELS = {
    "early": SheddingConfig(over=1.0, defer=("bulk", "experiment"), retry_after_seconds=5.0),
    "late": SheddingConfig(over=2.0, refuse=("bulk",), defer=("production",)),
    "elsewhere": SheddingConfig(refuse=CLASSES, pools=("noop",)),
}


def shedder():
    return Shedder({"aer": PoolConfig(high_seconds=100.0, low_seconds=50.0)}, LEVELS, 1)


@pytest.mark.parametrize(("waiting", "priority"), list(itertools.product((0, 60, 120, 250), CLASSES)))
def test_the_level_that_comes_first_is_the_one_that_the_door_goes_by(waiting, priority):
    marks = shedder()
    marks.update("aer", waiting)
    shed = marks.decide("aer", priority)
    concerned = DoorView(True, marks.levels()).concerning("aer", priority)
    first = concerned[0] if concerned and concerned[0].engaged else None
    told = first and (first.action(priority), first.name, first.retry_after_ms, first.waiting, first.high)
    assert told == (tuple(shed) if shed else None)


def test_a_level_that_would_do_something_later_is_told_with_its_marks():
    (early, late) = DoorView(True, shedder().levels()).concerning("aer", "bulk")
    assert [(one.name, one.action("bulk"), one.engaged) for one in (early, late)] == [
        ("late", "refuse", False),
        ("early", "defer", False),
    ]
    assert (late.high, late.low, late.retry_after_ms) == (100.0, 50.0, 5_000)
    assert DoorView(True, shedder().levels()).concerning("noop", "bulk") == []


def test_a_demoted_job_is_refused_by_its_own_class_and_deferred_by_the_new_one():
    level = Level("x", ("bulk",), ("bulk", "experiment"), True, 9.0, 5.0, 2.0, 1_000)
    assert level.action("bulk") == "refuse"
    assert level.action("production") == ""
    assert level.action("production", "experiment") == "defer"
    assert level.action("production", "bulk") == ""


def test_it_is_read_back_as_it_was_written_and_more_of_a_newer_program_is_left_out():
    view = DoorView(True, {"aer": shedder().levels()["aer"]}, Rival(job_id(1), "QUEUED", "aer"))
    told = json.loads(json.dumps(view.as_plain()))
    told["levels"]["aer"][0]["colour"] = "red"
    found = revived(told | {"mood": "calm"})
    assert (found.asked, found.rival) == (True, view.rival)
    assert found.levels == {"aer": tuple(view.levels["aer"])}
    assert revived(UNASKED.as_plain()) == UNASKED


def door_of(driver, **arguments):
    event = commanded("locate", "policy", target="policy")
    event.control["arguments"] = arguments
    (fields,) = emitted(driver.run(event), "located")
    return in_force(fields["told"]).door


def test_a_shard_tells_who_has_the_unique_key_in_its_session_and_nobody_elses():
    driver = Driver(lambda: Dispatcher(0, 1, config()))
    assert door_of(driver, unique_key="k") == DoorView(True)
    for session in ("", "s"):
        made = make_job_id("ada", session=session, unique_key="k", entropy=bytes(12))
        fields = request(1, unique_key="k", session_id=session, job_id=made)
        driver.run(submitted(fields, partition=0))
        assert door_of(driver, unique_key="k", session=session).rival == Rival(made, "WAITING", "aer")
    assert [door_of(driver, **asked).rival for asked in ({"unique_key": "other"}, {})] == [None, None]


def test_a_shard_tells_its_marks_and_what_waits():
    settings = replace(config(), shedding={"full": SheddingConfig(over=0.0, refuse=("bulk",))})
    driver = Driver(lambda: Dispatcher(SHARD, PARTITIONS, settings))
    driver.machine.shard.guard.shedder.update("aer", 3.0 / PARTITIONS)
    (level,) = door_of(driver).concerning("aer", "bulk")
    assert (level.name, level.action("bulk"), level.engaged, level.waiting) == ("full", "refuse", True, 3.0)
