"""What routing looks at, told by a shard: whoever decides with it decides as the door does; all errors at once."""

import json
from dataclasses import replace

import pytest
from dispatcher_kit import PARTITIONS, SHARD, Driver, commanded, config, emitted, request

from shotbus.broker.config import BudgetConfig, PoolConfig, PriceConfig
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.policy.config import FamilyConfig
from shotbus.broker.policy.facts import Asked, History, PoolView
from shotbus.broker.policy.inforce import InForce, in_force
from shotbus.broker.policy.policy import Policy
from shotbus.broker.policy.reload import with_policy
from shotbus.schemas.errors import ShotbusError

QUICK = {
    "name": "quick",
    "when": {"families": ["vqe"]},
    "then": {"pools": ["noop", "aer"]},
    "where": {"turnaround_seconds": "..2"},
}
NEW = {"name": "new way", "flag": "new", "then": {"pools": ["noop"]}}


def settings():
    plain = config()
    families, flags = {"vqe": FamilyConfig()}, {"new": 0.0}
    return replace(plain, families=families, flags=flags, routing=replace(plain.routing, min_history=3))


def driver_of(*rules):
    driver = Driver(lambda: Dispatcher(SHARD, PARTITIONS, settings()))
    event = commanded("reload", "policy", target="policy")
    event.control["arguments"] = {"policy": json.dumps({"routing": {"min_history": 3, "rules": rules}})}
    driver.run(event)
    return driver


def told(driver, **arguments):
    """What a shard answers, read back."""
    event = commanded("locate", "policy", target="policy")
    event.control["arguments"] = arguments
    (fields,) = emitted(driver.run(event), "located")
    assert (fields["status"], fields["shard"], fields["correlation"]) == ("TOLD", SHARD, "corr")
    return in_force(fields["told"])


def both(driver, **changes):
    """The decision of the door, and that of whoever was told."""
    fields = request(1, **changes)
    force = told(driver, family=fields["family"], session=fields["session_id"])
    asked = Asked.of(fields, session_pool=force.session_pool)
    decided = Policy.compile(force.config).decide(
        asked, force.views, flags=force.flags, history=force.history, now_ms=driver.wall_ms
    )
    return driver.machine.shard.router.decide(fields, None, driver.wall_ms), decided


def test_a_policy_that_came_at_run_time_is_told_with_its_version():
    driver = driver_of({"name": "all", "then": {"pools": ["noop"]}})
    door, decided = both(driver)
    assert door == decided
    assert (decided.pool, decided.rule) == ("noop", "all")


def test_a_flag_that_was_switched_is_told():
    driver = driver_of(NEW)
    assert both(driver)[1].pool == "aer"
    event = commanded("flag", "new", target="policy")
    event.control["arguments"] = {"value": "on"}
    driver.run(event)
    door, decided = both(driver)
    assert door == decided
    assert decided.pool == "noop"


def test_what_was_measured_of_its_family_is_told():
    driver = driver_of(QUICK)
    measured = driver.machine.shard.measured
    for pool, seconds in (("noop", 9.0), ("aer", 1.0)) * 3:
        measured.observe("vqe", pool, success=True, seconds=seconds, answer={})
    door, decided = both(driver, family="vqe")
    assert door == decided
    assert (decided.pool, decided.rule) == ("aer", "quick")
    assert set(told(driver, family="other").history) == set()


@pytest.mark.parametrize("state", ["breaker_open", "paused", "draining", "unserved"])
def test_a_pool_is_called_what_routing_calls_it_and_all_of_its_view_is_told(state):
    driver = driver_of({"name": "both", "then": {"pools": ["noop", "aer"]}})
    price = PriceConfig(per_task=0.25)
    views = {
        "noop": PoolView(state, (1.0, 2.0, 4.0), seconds_per_point=3.0, price=price),
        "aer": PoolView(wait=(0.0, 0.0, 0.0)),
    }
    driver.machine.shard.router.views = views
    assert told(driver).views == views
    door, decided = both(driver)
    assert door == decided
    assert decided.pool == "aer"


def test_where_a_session_was_is_told():
    driver = driver_of({"name": "both", "then": {"pools": ["noop", "aer"], "sticky": True}})
    driver.machine.shard.router.sessions.went("ada", "s1", "aer", sticky=True)
    door, decided = both(driver, session_id="s1")
    assert door == decided
    assert (decided.pool, told(driver, session="s1").session_pool) == ("aer", "aer")
    assert told(driver).session_pool == ""


def test_it_is_read_back_as_it_was_written():
    budgets = {"team": BudgetConfig(limit=3.0)}
    own = replace(settings(), budgets=budgets, pools={"qpu": PoolConfig(adapter="aer", kind="hardware")})
    own = replace(own, routing=replace(own.routing, default="qpu"))
    history = {("vqe", "qpu"): History(runs=5, success=0.5), ("other", "qpu"): History(runs=1)}
    force = in_force(InForce(own, {}, {"new": 50.0}, history, "qpu").as_text("vqe"))
    assert (force.config.pools, force.config.classes, force.config.budgets) == (
        own.pools,
        own.classes,
        budgets,
    )
    assert (force.flags, force.session_pool) == ({"new": 50.0}, "qpu")
    assert force.history == {("vqe", "qpu"): History(runs=5, success=0.5)}
    assert Policy.compile(force.config).version == Policy.compile(own).version


def test_everything_that_is_wrong_with_a_policy_is_said_at_once():
    rule = {
        "name": "bad",
        "when": {"classes": ["nobody"], "qubits": "many"},
        "then": {"pools": ["nowhere"], "fallback": ["cach:5"], "explore": 200},
    }
    document = {
        "colours": {},
        "pools": {"qpu": {}, "aer": {"price": {"per_task": -1}}},
        "routing": {"explore_percent": 300, "rules": [rule]},
    }
    with pytest.raises(ShotbusError) as error:
        with_policy(config(), document)
    at, then = "$.routing.rules[0]", "$.routing.rules[0].then"
    assert {one.path for one in error.value.problems} == {
        *("$.colours", "$.pools.qpu", "$.pools.aer.price.per_task", "$.routing.explore_percent"),
        *(f"{at}.when.classes", f"{at}.when.qubits", f"{then}.pools", f"{then}.fallback", f"{then}.explore"),
    }
