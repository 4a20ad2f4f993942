"""A job that cannot run is answered with an earlier result, or goes on with its chain, or fails as it did."""

import asyncio
from dataclasses import replace

import pytest
from dispatcher_kit import (
    PARTITIONS,
    SHARD,
    START_MS,
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
from reuse_kit import record, result

from shotbus.broker.bus.base import BusError, TopicPartition
from shotbus.broker.bus.memory import MemoryBus, MemoryCluster
from shotbus.broker.dispatcher import recalls
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Bury, Credit, Recall, Recalled
from shotbus.broker.dispatcher.recalls import RecallDesk
from shotbus.broker.policy.decision import Decision
from shotbus.broker.policy.steps import Step
from shotbus.broker.store.base import StoreError
from shotbus.broker.store.memory import MemoryStore
from shotbus.broker.topics import Topics
from shotbus.schemas.codec import decode

ONE = {"aer": [Credit("w1", 0, 1)], "noop": [Credit("w2", 0, 1)]}
TRAIL = ({"step": "rule"}, {"step": "fallback"}, {"step": "decided"})


@pytest.fixture
def driver():
    settings = config(bundle_jobs=1, max_attempts=1)
    return Driver(lambda: Dispatcher(SHARD, PARTITIONS, settings))


def chained(number, *steps):
    """A submission whose pool is followed by these steps."""
    decision = Decision("r", "v", "aer", fallback=tuple(map(Step.parse, steps)), trail=TRAIL)
    fields = request(number, payload_hash=payload(number))
    return replace(submitted(fields, offset=number), decision=decision, history_key="w/here")


def failing(driver, number, *steps, error_class="TRANSIENT"):
    """Send a job to its pool and have it fail there; returns the commands of that."""
    driver.free = ONE
    (sent,) = forwards(driver.run(chained(number, *steps)))
    driver.free = {}
    return driver.run(finished(sent, error_class))


def found(age_seconds, **changes):
    """An earlier result, so old at the driver's begin."""
    at_us = (START_MS - int(1000 * age_seconds)) * 1000
    return result(job_id(900), finished_us=at_us, payload=b"kept", **changes)


def recalls_in(commands):
    return [(one.job_id, one.seconds) for one in commands if isinstance(one, Recall)]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_job_whose_pool_failed_is_answered_with_an_earlier_result(driver, restarted):
    assert recalls_in(failing(driver, 1, "cache:60")) == [(job_id(1), 60.0)]
    if restarted:
        driver.restart()
        assert recalls_in(driver.run()) == [(job_id(1), 60.0)]
    told = emitted(driver.run(Recalled(job_id(1), found(9))), "circuit_result")[0]
    assert (told["outcome"], told["answered_by"], told["age_ms"]) == ("succeeded_by_fallback", "cache", 9_000)
    assert (told["fallback_from"], told["payload"], told["shots"]) == ("aer", b"kept", 0)
    # Else its age would be forgotten the next time.
    assert not told.get("history_key")
    assert driver.run(Recalled(job_id(1), found(9))) == []


@pytest.mark.parametrize(
    "answer", [None, found(61), found(9, tenant="bob")], ids=["nothing", "too old", "another tenant's"]
)
def test_what_is_no_answer_lets_the_chain_go_on(driver, answer):
    failing(driver, 1, "cache:60", "noop")
    driver.free = ONE
    (sent,) = forwards(driver.run(Recalled(job_id(1), answer)))
    assert sent.pool == "noop"
    told = emitted(driver.run(finished(sent)), "circuit_result")[0]
    assert (told["outcome"], told["fallback_from"]) == ("succeeded_by_fallback", "aer")
    # It ran elsewhere than it was asked to: only what was asked is the same.
    assert told["history_key"] == "w"


def test_a_job_that_runs_in_its_own_pool_after_all_is_no_fallback(driver):
    failing(driver, 1, "cache:60", "demote:bulk")
    driver.free = ONE
    (sent,) = forwards(driver.run(Recalled(job_id(1), None)))
    (told,) = emitted(driver.run(finished(sent)), "circuit_result")
    assert (sent.pool, told["outcome"], told.get("fallback_from", "")) == ("aer", "succeeded", "")


@pytest.mark.parametrize(
    ("error_class", "outcome"),
    [("TRANSIENT", "dead_lettered"), ("CONSTRAINT", "failed"), ("UNSEEN", "dead_lettered")],
)
def test_without_any_answer_it_fails_as_its_pool_did(driver, error_class, outcome):
    failing(driver, 1, "cache:60", "cache:3600", error_class=error_class)
    assert recalls_in(driver.run(Recalled(job_id(1), found(100_000)))) == [(job_id(1), 3_600.0)]
    commands = driver.run(Recalled(job_id(1), None))
    (told,) = emitted(commands, "circuit_result")
    assert (told["outcome"], told["problems"][0]["code"]) == (outcome, "SB-5001")
    buried = [one.error_class for one in commands if isinstance(one, Bury)]
    assert buried == [error_class] * (outcome == "dead_lettered")


def test_a_job_that_looks_for_a_result_can_be_cancelled_and_the_answer_then_is_for_nobody(driver):
    failing(driver, 1, "cache:60")
    assert emitted(driver.run(commanded("cancel", job_id(1))), "circuit_result")[0]["outcome"] == "cancelled"
    assert driver.run(Recalled(job_id(1), found(1))) == []
    driver.restart()
    assert recalls_in(driver.run()) == []


def at_the_door(driver, *steps):
    first, *rest = map(Step.parse, steps)
    decision = Decision("r", "v", action="cache", step=first, fallback=tuple(rest), trail=TRAIL)
    fields = request(1, payload_hash=payload(1))
    return driver.run(replace(submitted(fields), decision=decision))


def test_a_job_that_no_pool_can_take_looks_for_a_result_at_once(driver):
    assert recalls_in(at_the_door(driver, "cache:60")) == [(job_id(1), 60.0)]
    (told,) = emitted(driver.run(Recalled(job_id(1), found(2))), "circuit_result")
    assert (told["outcome"], told["fallback_from"]) == ("succeeded_by_fallback", "aer")


def test_and_is_told_that_its_chain_is_exhausted_when_there_is_none(driver):
    at_the_door(driver, "cache:60")
    (told,) = emitted(driver.run(Recalled(job_id(1), None)), "circuit_result")
    assert (told["outcome"], told["problems"][0]["code"]) == ("failed", "SB-1154")


TOPICS = Topics(partitions=2)


class AwayBus(MemoryBus):
    away = 0

    async def publish(self, records):
        if self.away:
            self.away -= 1
            raise BusError("away")
        return await super().publish(records)


class DeadStore(MemoryStore):
    async def get_many(self, keys):
        raise StoreError("dead")


@pytest.mark.parametrize("store", [MemoryStore, DeadStore])
async def test_the_desk_publishes_what_the_store_has_until_it_is_durable(store, monkeypatch):
    monkeypatch.setattr(recalls, "_RETRY_SECONDS", 0.01)
    bus, kept = AwayBus(MemoryCluster()), store()
    await bus.start()
    await bus.create_topics(TOPICS.specs(()))
    await kept.start()
    await kept.put_many({"history:w": record("old")})
    desk = RecallDesk(bus=bus, store=kept, topics=TOPICS)
    await desk.start()
    bus.away = 2
    for number in range(40):
        desk.ask(f"job{number}", "history:w" if number % 2 else "history:unknown", number % 2)
    reader = bus.reader({TopicPartition(TOPICS.name("outcomes"), shard): 0 for shard in range(2)})
    answers = {}
    async with asyncio.timeout(10):
        while len(answers) < 40:
            for one in await reader.poll(max_records=100, timeout=1):
                answers[one.key.decode()] = (one.partition, decode(one.value, "recalled")[1]["found"])
                assert dict(one.headers)["kind"] == b"recalled"
    old = record("old") if store is MemoryStore else b""
    assert answers == {f"job{n}": (n % 2, old if n % 2 else b"") for n in range(40)}
    await desk.stop()
    assert not desk.failure.done()
    await bus.close()
