"""Another policy while the broker runs: taken whole or not at all, audited, kept over restarts; what is measured."""

import json
from dataclasses import replace

import pytest
from asking_kit import changed
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
from shotbus.broker.policy.config import FamilyConfig
from shotbus.broker.policy.decision import Decision
from shotbus.broker.policy.reload import policy_document

FREE = {"aer": [Credit("w1", 0, 4)]}
RULE = {"name": "noop for bulk", "when": {"classes": ["bulk"]}, "then": {"pools": ["noop"]}}


def driver_of(settings):
    return Driver(lambda: Dispatcher(SHARD, PARTITIONS, settings))


def reload(document, command="reload", **change):
    event = commanded(command, "policy", target="policy")
    text = document if isinstance(document, str) else json.dumps(document)
    event.control["arguments"] = {"policy": text, **change}
    return event


def route(driver):
    fields = request(1, priority="bulk")
    return driver.machine.shard.router.decide(fields, None, driver.wall_ms).pool


def test_another_policy_routes_from_now_on_and_survives_a_restart():
    driver = driver_of(config())
    assert route(driver) == "aer"
    commands = driver.run(reload({"routing": {"default": "aer", "rules": [RULE]}}))
    assert changed(commands)[0] == 1
    (entry,) = emitted(commands, "audit_entry")
    assert "noop for bulk" in entry["after"]
    assert route(driver) == "noop"
    driver.restart()
    assert route(driver) == "noop"


NIGHT = {
    "windows": {"night": {"cron": "0 3 * * *"}},
    "flags": {"new": 10},
    "pools": {"aer": {"price": {"per_task": 2.0}}},
}


def test_what_a_reload_does_not_mention_stays_and_the_audit_has_the_difference_alone():
    driver = driver_of(config())
    driver.run(reload({**NIGHT, "routing": {"min_history": 7}}))
    commands = driver.run(reload({"routing": {"rules": [RULE]}}))
    (entry,) = emitted(commands, "audit_entry")
    (change,) = json.loads(entry["after"])["changes"]
    assert change.startswith("rule 'noop for bulk' is new, first")
    assert changed(commands) == (1, [change])
    driver.restart()
    own = driver.machine.shard.config
    assert (list(own.windows), own.flags, own.routing.min_history) == (["night"], {"new": 10.0}, 7)
    assert (own.pools["aer"].price.per_task, driver.machine.shard.router.policy.version) == (
        2.0,
        json.loads(entry["after"])["version"],
    )


def test_what_goes_must_be_said():
    driver = driver_of(config())
    driver.run(reload({**NIGHT, "routing": {"rules": [RULE]}}))
    told = changed(driver.run(reload({}, remove=json.dumps(["windows.night", "rules.noop for bulk"]))))
    assert told == (1, ["rule 'noop for bulk' is gone", "windows.night is gone"])
    told = changed(driver.run(reload({"routing": {"min_history": 7}}, replace="yes")))
    assert told[1] == [
        "routing.min_history: 20 -> 7",
        "pools.aer.price.per_task: 2.0 -> 0.0",
        "flags.new is gone",
    ]
    driver.restart()
    assert driver.machine.shard.config.routing.min_history == 7
    assert not driver.machine.shard.config.flags


def test_a_policy_that_is_only_tried_is_judged_by_the_one_in_force_and_changes_nothing():
    driver = driver_of(config())
    driver.run(reload(NIGHT))
    version = driver.machine.shard.router.policy.version
    commands = driver.run(reload({"flags": {"newer": 1}}, command="locate"))
    found = json.loads(emitted(commands, "located")[0]["told"])
    assert (found["changes"], found["problems"]) == (["flags.newer is new: 1.0"], [])
    assert driver.machine.shard.router.policy.version == version != found["version"]
    assert not emitted(commands, "audit_entry")
    assert changed(driver.run(reload({"flags": {"newer": 1}})))[1] == found["changes"]
    assert driver.machine.shard.router.policy.version == found["version"]
    commands = driver.run(reload({"flags": {"newer": 101}}, command="locate"))
    (problem,) = json.loads(emitted(commands, "located")[0]["told"])["problems"]
    assert problem["path"] == "$.flags.newer"


def test_a_policy_that_cannot_work_changes_nothing():
    driver = driver_of(config())
    for document in ({"routing": {"default": "nowhere"}}, {"colours": {}}, {"pools": {"qpu": {}}}):
        count, problems = changed(driver.run(reload(document)))
        assert (count, bool(problems)) == (0, True)
    assert route(driver) == "aer"
    assert not emitted(driver.run(reload("nonsense")), "audit_entry")


def test_a_file_that_was_changed_since_goes_before_what_was_sent():
    settings = config()
    driver = driver_of(settings)
    driver.run(reload({"routing": {"rules": [RULE]}}))
    newer = replace(settings, routing=replace(settings.routing, default="noop"))
    driver.build = lambda: Dispatcher(SHARD, PARTITIONS, newer)
    driver.restart()
    assert driver.machine.shard.reloaded.snapshot(b"") is None
    assert policy_document(driver.machine.shard.config) == policy_document(newer)


def test_what_a_family_does_on_a_pool_is_measured_and_kept():
    driver = driver_of(replace(config(bundle_jobs=1), families={"qaoa": FamilyConfig()}))
    driver.free = FREE
    for number, error_class in enumerate(("", "", "INVALID", ""), start=1):
        fields = request(number, payload_hash=payload(number), family="qaoa")
        (sent,) = forwards(driver.run(submitted(fields, offset=number)))
        driver.pass_time(2)
        driver.run(finished(sent, error_class))
    driver.restart()
    history = driver.machine.shard.router.history["qaoa", "aer"]
    assert (history.runs, history.success) == (4, 0.75)
    assert history.turnaround_seconds == 2.0


@pytest.mark.parametrize(("restarted", "at_once"), [(False, True), (True, False)])
def test_a_job_whose_window_is_taken_away_keeps_its_time_says_so_and_runs_then_or_when_told(
    restarted, at_once
):
    driver = driver_of(config())
    driver.run(reload(NIGHT))
    fields = request(1, payload_hash=payload(1), backend="aer")
    opens = driver.wall_ms + 5 * 3_600_000
    decision = Decision("r", "v", "aer", windows=("night",), not_before_ms=opens)
    driver.run(replace(submitted(fields, pool="aer"), decision=decision))
    (before,) = emitted(driver.run(commanded("locate", job_id(1))), "located")
    assert (before["sub_status"], "night" in before["reason"]) == ("SCHEDULED", False)
    assert changed(driver.run(reload({}, remove=json.dumps(["windows.night"]))))[0] == 1
    if restarted:
        driver.restart()
    (told,) = emitted(driver.run(commanded("locate", job_id(1))), "located")
    assert told["sub_status"] == "SCHEDULED"
    gone = "; window night is no longer in the policy, the time found before is kept"
    assert told["reason"] == before["reason"] + gone
    driver.free = FREE
    assert forwards(driver.run()) == []
    if at_once:
        wish = commanded("reprioritise", job_id(1))
        wish.control["arguments"] = {"not_before_ms": str(driver.wall_ms)}
        assert len(forwards(driver.run(wish))) == 1
    else:
        driver.pass_time(5 * 3_600)
        assert len(forwards(driver.run())) == 1
