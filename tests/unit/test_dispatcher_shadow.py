"""A shadow is told as a late result beside the job's own; whoever looks on takes companions for what they are."""

from dataclasses import replace

import pytest
from cheap_kit import PROBLEM, answered, asked, pools, room_in
from dispatcher_kit import PARTITIONS, SHARD, Driver, commanded, emitted, forwards, job_id, reported

from shotbus.broker.bus.base import Record
from shotbus.broker.config import BudgetConfig, PriceConfig
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Told
from shotbus.broker.invariants import Checker
from shotbus.broker.machine import Emit
from shotbus.broker.topics import Topics
from shotbus.reducers.readmodels import ReadModels
from shotbus.schemas.codec import encode
from shotbus.schemas.outcomes import LATE_HEADER

SHADOWED = {"decision": {"shadow": "other"}}


@pytest.fixture
def driver():
    return Driver(lambda: Dispatcher(SHARD, PARTITIONS, pools()))


def both(driver, *events):
    """Submit; returns the bundles of the job and of its shadow."""
    driver.free = room_in("qpu", "other")
    sent = {one.pool: one for one in forwards(driver.run(*events))}
    driver.free = {}
    return sent["qpu"], sent["other"]


def told(commands):
    return [
        (one["job_id"], bool(one.get("late")), one["pool"]) for one in emitted(commands, "circuit_result")
    ]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_shadow_that_is_first_is_told_after_the_answer_with_its_deviation(driver, restarted):
    job, shadow = both(driver, asked(**SHADOWED, sweep_id="s", shard_index=3))
    assert not told(driver.run(answered(shadow, -1.0, std=0.1)))
    if restarted:
        driver.restart()
    commands = driver.run(answered(job, -1.2))
    assert told(commands) == [(job_id(1), False, "qpu"), (job_id(1), True, "other")]
    late = emitted(commands, "circuit_result")[1]
    assert (late["answered_by"], late["deviation"]) == ("shadow", pytest.approx(2.0))
    assert (late["sweep_id"], late["shard_index"]) == ("s", 3)
    assert [LATE_HEADER in one.headers for one in commands if one.schema == "circuit_result"] == [False, True]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_shadow_may_finish_after_its_job(driver, restarted):
    job, shadow = both(driver, asked(**SHADOWED, sweep_id="s", shard_index=3))
    assert told(driver.run(answered(job))) == [(job_id(1), False, "qpu")]
    if restarted:
        driver.restart()
    (late,) = emitted(driver.run(answered(shadow)), "circuit_result")
    assert (late["job_id"], late["late"], late["sweep_id"], late["shard_index"]) == (job_id(1), True, "s", 3)
    assert not driver.machine.live


def test_a_shadow_that_fails_or_dies_is_an_event_only(driver):
    job, shadow = both(driver, asked(**SHADOWED))
    commands = driver.run(answered(shadow, error_class="POISON"))
    assert [type(one) for one in commands] == [Emit]
    assert told(driver.run(answered(job))) == [(job_id(1), False, "qpu")]


@pytest.mark.parametrize("ended_by", ["cancel", "failure"])
def test_without_an_answer_to_compare_with_a_shadow_ends(driver, ended_by):
    job, shadow = both(driver, asked(**SHADOWED))
    if ended_by == "cancel":
        driver.run(commanded("cancel", job_id(1)))
        driver.run(answered(job, error_class="REVOKED"), answered(shadow, error_class="REVOKED"))
    else:
        driver.run(answered(job, error_class="INVALID"))
        driver.run(answered(shadow, error_class="REVOKED"))
    assert not driver.machine.live


def test_a_shadow_does_not_go_where_the_job_may_not(driver):
    driver.run(asked(decision={"shadow": "classical"}))
    assert set(driver.machine.live) == {job_id(1)}


def records(commands, topics, offset):
    return [
        (one.topic, Record(topics.name(one.topic), 0, offset + place, one.key, value, one.headers, 1))
        for place, one in enumerate(commands)
        if isinstance(one, Emit)
        for value in [encode(one.schema, one.fields)]
    ]


def test_the_checker_and_the_read_models_know_what_is_nobodys_job(driver):
    driver.free = room_in("qpu", "other", "classical")
    wishes = {"speculate": "answer", "problem": PROBLEM, "value_per_second": 1e6}
    commands = list(driver.run(asked(**SHADOWED, **wishes)))
    driver.free = {}
    qpu, other, classical = (
        next(one for one in forwards(commands) if one.pool == p) for p in ("qpu", "other", "classical")
    )
    for event in (answered(classical), answered(qpu), answered(other)):
        commands += driver.run(event)
    topics, checker = Topics("t", 2), Checker(complete=True)
    taken = records(commands, topics, 0)
    for topic, record in taken:
        checker.take(topic, record)
    assert checker.report(over=True).violations == []
    assert sum(bool(life.companion_of) for life in checker.lives.values()) == 2
    writes = ReadModels(topics).project([record for _, record in taken])
    assert [key for key in writes.documents if "status:" in key] == [f"end:status:{job_id(1)}"]
    assert list(writes.indexes["jobs"]) == [job_id(1)]


@pytest.fixture
def funded():
    """A driver whose QPU costs 7 a task, with 100 granted by the Treasury."""
    settings = pools(budgets={"b": BudgetConfig(tenant="ada", resource="money", limit=100.0)})
    priced = replace(settings.pools["qpu"], price=PriceConfig(per_task=7.0))
    settings = replace(settings, pools=settings.pools | {"qpu": priced})
    return Driver(lambda: Dispatcher(SHARD, PARTITIONS, settings))


def answered_early(driver):
    """A job that is answered with its cheap answer while the QPU has it; returns the QPU's bundle."""
    driver.free = room_in("qpu", "classical")
    (wish,) = emitted(
        driver.run(asked(speculate="answer", problem=PROBLEM, value_per_second=1e6)), "treasury_command"
    )
    names = ("budget", "measure", "tenant", "experiment", "pool", "since_ms")
    fields = {name: wish[name] for name in names} | {"kind": "granted", "number": 1, "shard": SHARD}
    fields |= dict.fromkeys(("units", "granted", "limit", "held"), 100_000_000)
    fields |= {"spent": 0, "available": 0, "reason": "", "at_us": 0}
    sent = {one.pool: one for one in forwards(driver.run(Told(fields)))}
    driver.free = {}
    driver.run(reported("started", sent["qpu"].bundle_id, pool="qpu"))
    assert told(driver.run(answered(sent["classical"]))) == [(job_id(1), False, "classical")]
    return sent["qpu"]


def spent(driver):
    """Money spent, and what the job still holds."""
    allowance = driver.machine.shard.funds.allowance
    used = sum(one.used for one in allowance._holdings.values()) / 1e6
    return used, sum(allowance.reserved(job_id(1)).values()) / 1e6


@pytest.mark.parametrize("restarted", [False, True])
def test_what_goes_on_after_the_answer_is_still_paid_for(funded, restarted):
    sent = answered_early(funded)
    if restarted:
        funded.restart()
    assert spent(funded) == (0.0, 7.0)
    (late,) = emitted(funded.run(answered(sent)), "circuit_result")
    assert (late["late"], late["cost"]) == (True, 7.0)
    assert spent(funded) == (7.0, 0.0)


def test_what_is_lost_after_the_answer_is_taken_to_be_paid(funded):
    answered_early(funded)
    funded.pass_time(60)
    assert not emitted(funded.run(), "circuit_result")
    assert spent(funded) == (7.0, 0.0)
