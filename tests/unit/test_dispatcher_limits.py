"""Limits on jobs with workers, over the shards of a prefix: two machines and the records between them."""

from dataclasses import replace

import pytest
from dispatcher_kit import CLASSES, Driver, config, emitted, finished, forwards, request, submitted

from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Credit, Placed
from shotbus.schemas.codec import decode, encode


class Prefix:
    """Two shards of two processes; each has credits enough."""

    def __init__(self, **limits):
        settings = config(bundle_jobs=2)
        settings = replace(settings, limits=replace(settings.limits, concurrency=limits))
        self.shards = [Driver(lambda number=number: Dispatcher(number, 2, settings)) for number in range(2)]
        self.letters, self.running, self.number = [[], []], [], 0
        for shard in self.shards:
            shard.free = {"aer": [Credit("w1", 0, 3)]}

    def submit(self, at, **changes):
        self.number += 1
        fields = request(self.number, shard=at, payload_hash=self.number.to_bytes(16, "big"), **changes)
        self.step(at, submitted(fields, offset=self.number, partition=at))

    def step(self, at, *events):
        """One micro-batch of a shard, with what the other has said."""
        said, self.letters[at] = self.letters[at], []
        told = [Placed(decode(value, "place")[1]) for value in said]
        commands = self.shards[at].run(*told, *events)
        for one in commands:
            for fields in emitted([one], "place"):
                self.letters[one.partition].append(encode("place", fields))
        self.running += [(at, forward) for forward in forwards(commands)]

    def settle(self):
        for _ in range(8):
            self.step(0)
            self.step(1)

    def end(self):
        """The oldest bundle ends; returns whose it was."""
        at, forward = self.running.pop(0)
        self.step(at, finished(forward))
        return at

    def with_workers(self):
        return sum(len(forward.items) for _, forward in self.running)


@pytest.mark.parametrize("limits", [{"backend:aer": 1}, {"tenant": 1}, {"tenant:ada": 1, "backend": 3}])
def test_one_at_a_time_is_one_over_all_shards_and_they_take_turns(limits):
    prefix, served = Prefix(**limits), []
    for number in range(8):
        prefix.submit(number % 2)
    for _ in range(8):
        prefix.settle()
        assert prefix.with_workers() == 1
        served.append(prefix.end())
    prefix.settle()
    assert not prefix.running
    assert served.count(0) == served.count(1) == 4
    assert served[1:7] in ([0, 1] * 3, [1, 0] * 3)


def test_a_tenant_whose_work_is_all_on_one_shard_has_its_whole_limit():
    prefix = Prefix(tenant=4)
    for number in range(6):
        prefix.submit(1, priority=CLASSES[number % 4])
    prefix.settle()
    assert prefix.with_workers() == 4


def test_a_shard_that_is_taken_again_has_the_places_that_its_jobs_have():
    prefix = Prefix(**{"backend:aer": 1})
    for number in range(4):
        prefix.submit(number % 2)
    prefix.settle()
    ((at, forward),) = prefix.running
    prefix.shards[at].restart()
    prefix.settle()
    assert prefix.running == [(at, forward)]
    prefix.end()
    prefix.settle()
    assert prefix.with_workers() == 1


def test_where_nothing_is_limited_nothing_is_said():
    prefix = Prefix(session=1)
    prefix.submit(0)
    prefix.settle()
    assert (prefix.with_workers(), prefix.letters) == (1, [[], []])
    assert not any(key.startswith(b"place") for shard in prefix.shards for key in shard.ledger)
