"""What is decided about a pool is told as an event of no job, which nobody takes for a job's."""

import json

from dispatcher_kit import SHARD, Driver, config, emitted, finished, forwards, request, submitted

from shotbus.broker.bus.base import Record
from shotbus.broker.config import BreakerConfig, Config, PoolConfig, SheddingConfig
from shotbus.broker.dispatcher.breaker import Report
from shotbus.broker.dispatcher.guard import Guard
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Credit
from shotbus.broker.dispatcher.reports import TERMS_A_RECORD, Reports
from shotbus.broker.invariants import Checker
from shotbus.broker.machine import Now
from shotbus.broker.topics import Topics
from shotbus.producers.trail import encoded
from shotbus.reducers.readmodels import ReadModels
from shotbus.schemas.codec import encode
from shotbus.schemas.outcomes import ABOUT_A_POOL

ADVERT = {"role": "worker", "name": "w", "pool": "p", "state": "ready", "slots": 2, "service_seconds": 0.1}
SETTINGS = Config(
    pools={"p": PoolConfig(high_seconds=10.0, low_seconds=5.0, breaker=BreakerConfig(pause_seconds=4.0))},
    shedding={"full": SheddingConfig(over=2.0, refuse=("bulk",))},
)


def at(seen):
    return Now(1_700_000_000_000 + int(1000 * seen), seen)


def told(guard):
    return [(one.pool, one.cause) for one in guard.take_news()]


def test_breakers_marks_and_health_are_told_when_they_change():
    guard = Guard(SETTINGS, {}, 1)
    guard.look([ADVERT], {"p": 0.0}, (), at(0.0))
    assert told(guard) == []
    guard.look([ADVERT], {"p": 25.0}, (), at(1.0))
    assert told(guard) == [("p", "busy: on"), ("p", "shedding.full: on"), ("p", "pool: busy")]
    guard.look([], {"p": 1.0}, (), at(2.0))
    assert told(guard) == [("p", "busy: off"), ("p", "shedding.full: off"), ("p", "pool: empty")]
    guard.ended("p", "b", [Report("ada", "BACKEND_DOWN")], at(3.0))
    (news,) = guard.take_news()
    assert (news.cause, news.terms) == ("breaker: open", {"reason": "BACKEND_DOWN", "retry_seconds": 4.0})
    guard.advance(at(7.5))
    assert told(guard) == [("p", "breaker: half_open")]
    assert guard.take_news() == []


def test_repeats_that_are_held_back_are_told_once():
    guard = Guard(SETTINGS, {}, 1)
    while guard.may_repeat("p", "TRANSIENT", fresh_waits=True):
        assert told(guard) == []
    assert not guard.may_repeat("p", "TRANSIENT", fresh_waits=True)
    assert told(guard) == [("p", "repeats: held back, fresh work goes first")]
    assert guard.may_repeat("p", "TRANSIENT", fresh_waits=False)
    assert told(guard) == [("p", "repeats: go on")]


def driver_with_a_breaker():
    settings = config(max_attempts=10)
    settings.pools["aer"] = PoolConfig(
        adapter="aer", bundle_jobs=3, breaker=BreakerConfig(pause_seconds=60.0)
    )
    driver = Driver(lambda: Dispatcher(SHARD, 2, settings))
    driver.free = {"aer": [Credit("w1", 0, 1)]}
    return driver


def test_a_shard_writes_them_into_its_events():
    driver = driver_with_a_breaker()
    (bundle,) = forwards(driver.run(submitted(request(1))))
    (batch,) = emitted(driver.run(finished(bundle, "BACKEND_DOWN")), "event_batch")
    (event,) = [event for event in batch["events"] if not event["job_id"]]
    assert (event["state"], event["pool"], event["cause"]) == (ABOUT_A_POOL, "aer", "breaker: open")
    assert json.loads(event["detail"])["reason"] == "BACKEND_DOWN"


def batch_of_a_pool():
    reports, numbers = Reports(0, 2), iter(range(1, 9))
    reports.about_pool("p", "breaker: open", {"reason": "r"})
    (emit,) = reports.flush(at(0.0), lambda _: next(numbers))
    return encode(emit.schema, emit.fields)


def test_neither_read_models_nor_invariants_take_it_for_a_job_s():
    value, topics = batch_of_a_pool(), Topics()
    record = Record(topics.name("events"), 0, 0, None, value, (), 1)
    assert encoded(ABOUT_A_POOL) in value
    writes = ReadModels(topics).project([record])
    assert (writes.documents, writes.indexes) == ({}, {})
    checker = Checker(complete=True)
    checker.take("events", record)
    assert dict(checker.lives) == {}
    assert checker.report(over=True).violations == []


def test_much_to_say_is_divided_among_records():
    reports, numbers = Reports(0, 2), iter(range(1, 99))
    for _ in range(5):
        reports.about_pool("p", "c", {"reason": "r" * (TERMS_A_RECORD // 2)})
    emits = reports.flush(at(0.0), lambda _: next(numbers))
    assert [len(emit.fields["events"]) for emit in emits] == [1, 1, 1, 1, 1]
