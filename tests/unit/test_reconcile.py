"""Ledgers against a bus after an outage: what heals by itself is told, what does not is severe."""

import dataclasses

from dispatcher_kit import START_MS, config, job_id, outcome, request

from shotbus.broker.bus.base import Outgoing, TopicPartition
from shotbus.broker.bus.memory import MemoryBus
from shotbus.broker.dispatcher.job import Job, Reference, Seat
from shotbus.broker.dispatcher.rows import encode_row
from shotbus.broker.dispatcher.states import Phase
from shotbus.broker.ledger import positions_row
from shotbus.broker.reconcile import reconcile
from shotbus.broker.topics import Topics
from shotbus.schemas.codec import encode

TOPICS = Topics(partitions=2)
LEDGER = TopicPartition(TOPICS.name("jobs"), 0)
OUTCOMES = TopicPartition(TOPICS.name("outcomes"), 0)
REQUESTS = TopicPartition(TOPICS.requests("bulk"), 0)
POOLS = config().pools


def row(number, phase=Phase.WAITING, *, pool="aer", offset=0, worker="", bundle="b"):
    job = Job(request(number), Reference(REQUESTS.topic, 0, offset), pool)
    job.phase, job.bundle_id = phase, bundle
    key = job_id(number).encode()
    return Outgoing(*LEDGER, key, encode_row(job, Seat(worker=worker, lease_id="l" if worker else "")))


async def found(*records, positions=None, trimmed=None):
    """The remarks about a shard whose ledger holds these records and positions."""
    bus = MemoryBus()
    await bus.start()
    await bus.create_topics(TOPICS.specs(POOLS))
    written = [Outgoing(*REQUESTS, None, b"request")] * 3
    told = encode("outcome", outcome("finished", "b"))
    await bus.publish([*written, Outgoing(*OUTCOMES, b"b", told), *records])
    await bus.publish([positions_row(LEDGER, {REQUESTS: 3, OUTCOMES: 1} | (positions or {}))])
    await bus.trim(trimmed or {})
    return {one.kind: one for one in await reconcile(bus, TOPICS, POOLS)}


async def test_at_rest_there_is_nothing_to_say():
    assert await found(row(1)) == {}


async def test_a_job_whose_worker_is_gone_comes_back_by_itself():
    remarks = await found(row(1, Phase.RUNNING, worker="w1"))
    assert (remarks["worker-gone"].about, remarks["worker-gone"].severe) == (job_id(1), False)


async def test_a_worker_that_was_just_heard_of_is_not_gone():
    fields = dict.fromkeys(("done", "failed", "at_ms"), 0) | {"at_ms": START_MS, "service_seconds": 0.0}
    fields |= {"role": "worker", "name": "w1", "pool": "aer", "state": "ready", "partitions": [], "slots": 1}
    fields |= {"prefetch": 1, "grants": {}, "backlog": {}, "kind": "simulator", "version": ""}
    advert = Outgoing(TOPICS.name("pools"), 0, b"w/aer/w1", encode("pool_status", fields))
    assert await found(row(1, Phase.RUNNING, worker="w1"), advert) == {}


async def test_an_outcome_that_nobody_has_read_is_told_with_its_job():
    remarks = await found(row(1, Phase.RUNNING, worker="w1"), positions={OUTCOMES: 0})
    assert remarks.keys() == {"outcome-not-consumed", "position-behind"}
    assert "1 offsets" in remarks["position-behind"].seen
    assert not any(one.severe for one in remarks.values())


async def test_requests_of_a_shard_that_never_decided_anything_are_told():
    other = Outgoing(TOPICS.requests("bulk"), 1, None, b"request")
    remarks = await found(other)
    assert "dispatcher 1 is at 0, 1 offsets" in remarks["position-behind"].seen


async def test_what_the_bus_has_lost_is_severe():
    assert (await found(positions={REQUESTS: 9}))["position-beyond-the-end"].severe
    remarks = await found(row(1), positions={REQUESTS: 1}, trimmed={REQUESTS: 2})
    assert remarks["position-before-the-begin"].severe
    assert remarks["request-gone"].severe


async def test_a_job_of_a_pool_that_is_not_configured_is_severe():
    assert (await found(row(1, pool="gone")))["pool-unknown"].severe


async def test_a_bus_without_topics_has_no_ledgers():
    bus = MemoryBus()
    await bus.start()
    remarks = await reconcile(bus, dataclasses.replace(TOPICS, prefix="other."), POOLS)
    assert [one.kind for one in remarks] == ["no-ledger", "no-ledger"]
