"""Another policy while the broker runs: taken whole or not at all, audited, kept over restarts; what is measured."""

import json
from dataclasses import replace

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
    payload,
    request,
    submitted,
)

from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Credit
from shotbus.broker.policy.config import FamilyConfig
from shotbus.broker.policy.reload import policy_document

FREE = {"aer": [Credit("w1", 0, 4)]}
RULE = {"name": "noop for bulk", "when": {"classes": ["bulk"]}, "then": {"pools": ["noop"]}}


def driver_of(settings):
    return Driver(lambda: Dispatcher(SHARD, PARTITIONS, settings))


def reload(document):
    event = commanded("reload", "policy", target="policy")
    event.control["arguments"] = {"policy": json.dumps(document)}
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
