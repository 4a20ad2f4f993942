"""The shards of one process: common clocks, one sight of pools, and only those that may send are waited for."""

from dataclasses import replace

import pytest
from dispatcher_kit import START_MS, commanded, config, request, submitted

from shotbus.broker.config import SheddingConfig
from shotbus.broker.dispatcher.breaker import Report
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Credit, Dispatch, Forward
from shotbus.broker.dispatcher.peers import Peers
from shotbus.broker.machine import Now

NOW = Now(START_MS, 0.0)


class Process:
    """Two shards with ten jobs of each tenant waiting in each."""

    def __init__(self, tenants=("ada", "bob"), settings=None):
        self.config = settings or config(bundle_jobs=1)
        self.peers = Peers(self.config, 2)
        self.machines = [Dispatcher(number, 2, self.config) for number in range(2)]
        for machine in self.machines:
            self.peers.join(machine.shard)
            for number in range(10):
                for at, tenant in enumerate(tenants):
                    self.submit(machine, 20 * number + at + 1, tenant=tenant)

    def submit(self, machine, number, **changes):
        shard = machine.shard.number
        fields = request(number, shard=shard, payload_hash=number.to_bytes(16, "big"), **changes)
        machine.handle(submitted(fields, offset=number, partition=shard), NOW)

    def ask(self, number, bundles=1, held=(0, 1)):
        free = {"aer": [Credit("w", 0, bundles)]}
        shards = [(self.machines[one].shard, NOW) for one in held]
        dealt = self.peers.ask(number, free, shards, now=0.0)
        given = 0
        if number is not None:
            commands = self.machines[number].handle(Dispatch(dealt.credits), NOW)
            given = sum(isinstance(one, Forward) for one in commands)
        return given, dealt.others

    def tenants(self, number):
        live = self.machines[number].live.values()
        return sorted(job.tenant for job in live if job.bundle_id)


def test_shards_take_turns_and_count_what_the_other_has_served():
    process = Process()
    for _ in range(4):
        given, others = process.ask(0)
        if others:
            assert (given, process.ask(1)) == (0, (1, ()))
    served = process.tenants(0) + process.tenants(1)
    assert (served.count("ada"), served.count("bob")) == (2, 2)


def test_several_credits_are_shared():
    process = Process()
    assert process.ask(0, 4) == (2, (1,))
    assert process.ask(1, 2)[0] >= 1


def test_a_better_class_in_one_shard_comes_before_the_other():
    process = Process()
    process.submit(process.machines[1], 900, priority="interactive")
    for _ in range(2):
        process.ask(0)
    given, others = process.ask(0)
    assert (given, others) == (0, (1,))


@pytest.mark.parametrize("why", ["paused", "not held", "gone", "open"])
def test_nobody_waits_for_a_shard_that_can_send_nothing(why):
    process = Process()
    if why == "paused":
        process.machines[1].handle(commanded("pause", "aer", target="pool"), NOW)
    elif why == "gone":
        process.peers.keep([0])
    elif why == "open":
        process.machines[1].shard.guard.room = lambda pool, now: 0
    held = (0,) if why in ("not held", "gone") else (0, 1)
    assert process.ask(0, 5, held) == (5, ())


def test_who_has_nothing_free_to_use_can_still_call_the_others():
    process = Process()
    assert process.ask(None, 20) == (0, (0, 1))


def test_a_shard_that_begins_again_has_no_place_twice():
    process = Process(tenants=("ada",))
    clock = process.peers._clocks["aer"].of("experiment")
    assert (clock.offered, clock._tenants["ada"].lines) == (1, 2)
    process.machines[1] = Dispatcher(1, 2, process.config)
    process.peers.join(process.machines[1].shard)
    assert (clock.offered, clock._tenants["ada"].lines) == (1, 1)
    process.peers.keep([])
    assert (clock.offered, clock._tenants) == (0, {})


def test_room_is_what_all_shards_of_the_process_have_left():
    limited = config(bundle_jobs=1, max_waiting=44)
    process = Process(settings=replace(limited, limits=replace(limited.limits, max_waiting_tenant=24)))
    first = process.machines[0]
    for number in range(101, 107):
        process.submit(first, number, tenant="ada")
    assert first.shard.jobs.of_tenant("ada") == 14
    process.peers.leave(1)
    process.submit(first, 107, tenant="bob")
    assert len(first.live) == 24


def looks(process, number, seen=1.0):
    """A shard sees what waits; returns what it says about pools."""
    now, shard = Now(START_MS + int(1000 * seen), seen), process.machines[number].shard
    shard.guard.look([], {pool: queue.seconds for pool, queue in shard.queues.items()}, (), now)
    return [
        news.cause for news in shard.guard.take_news() if "shedding" in news.cause or "busy" in news.cause
    ]


def crowded(jobs):
    """A process with 20 s of work a shard, and what ``jobs`` more in one of them take."""
    aer = replace(config().pools["aer"], seconds_per_point=1.0, high_seconds=80.0, low_seconds=50.0)
    settings = replace(config(bundle_jobs=1), pools={"aer": aer, "noop": config().pools["noop"]})
    settings = replace(settings, shedding={"soft": SheddingConfig(over=1.0, refuse=("bulk",))})
    process = Process(settings=settings)
    for number in range(jobs):
        process.submit(process.machines[0], 500 + number)
    return process


def test_a_pool_is_as_full_as_what_waits_in_all_shards_of_the_process():
    process = crowded(30)
    assert [looks(process, number) for number in (1, 0)] == [[], []]
    for number in range(10):
        process.submit(process.machines[0], 700 + number)
    assert looks(process, 0, 2.0) == ["busy: on", "shedding.soft: on"]
    assert looks(process, 1, 2.0) == []
    assert all(one.shard.guard.shed("aer", "bulk").action == "refuse" for one in process.machines)


def test_one_shard_alone_would_have_shed_what_all_together_do_not():
    process = crowded(25)
    alone = process.machines[0].shard.queues["aer"].seconds
    assert alone >= 40.0
    assert [looks(process, number) for number in (1, 0)] == [[], []]


def test_a_shard_that_goes_takes_its_part_of_the_crowd_with_it():
    process = crowded(60)
    looks(process, 1)
    assert looks(process, 0) == ["busy: on", "shedding.soft: on"]
    process.peers.keep([1])
    assert looks(process, 1, 2.0) == ["busy: off", "shedding.soft: off"]


def test_what_one_shard_hears_of_a_backend_the_other_knows_and_writes():
    process = Process()
    one, two = (machine.shard for machine in process.machines)
    one.guard.ended("aer", "b", [Report("ada", "BACKEND_DOWN")], NOW)
    assert process.ask(1, 3) == (0, ())
    assert b"breaker/aer" in two.take_touched()
    assert process.machines[1].snapshot(b"breaker/aer") == process.machines[0].snapshot(b"breaker/aer")


def test_routing_sees_what_all_shards_of_the_process_measured():
    process = Process()
    one, two = (machine.shard for machine in process.machines)
    for shard, good in ((one, True), (two, False)):
        shard.measured.observe("qft", "aer", success=good, seconds=2.0, answer={})
    found = one.router.history["qft", "aer"]
    assert (found.runs, found.success, found.turnaround_seconds) == (2, 0.5, 2.0)
    process.peers.keep([1])
    assert two.router.history["qft", "aer"].runs == one.router.history["qft", "aer"].runs == 1
