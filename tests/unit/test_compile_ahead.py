"""What waits for a pool that stands still is compiled ahead: each circuit once, and never as an attempt."""

import pytest
from dispatcher_kit import (
    SHARD,
    Driver,
    commanded,
    config,
    emitted,
    finished,
    forwards,
    reported,
    request,
    submitted,
)

from shotbus.broker.config import BreakerConfig, Config, CronWindowConfig, FairnessConfig, PoolConfig
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Credit, Dispatch, Prepare
from shotbus.broker.dispatcher.waiting import WaitingQueue
from shotbus.broker.policy.config import AccessConfig
from shotbus.schemas.outcomes import ABOUT_A_POOL

CIRCUITS = [f"{number:064x}" for number in range(1, 200)]


def worker(name="w1", pool="aer", **changes):
    told = {"role": "worker", "name": name, "pool": pool, "state": "ready", "slots": 1}
    return {**told, "service_seconds": 0.1, "partitions": [3], "grants": {}, "compiles": True, **changes}


class World(Driver):
    """A shard that hears of workers; time passes by whole looks."""

    def __init__(self, settings, *workers):
        super().__init__(lambda: Dispatcher(SHARD, 2, settings))
        self.workers = workers

    def look(self, *events, seconds=1.5):
        """A micro-batch, then another one after a while."""
        commands = [one for event in events for one in self.machine.handle(event, self.now)]
        for _ in range(2):
            commands += self.machine.handle(Dispatch(self.free, self.workers), self.now)
            self.pass_time(seconds)
        self.write_rows()
        return commands


def asked(number, circuit=0, **changes):
    return submitted(request(number, circuit_id=CIRCUITS[circuit], **changes), offset=number)


def pause(command="pause"):
    return commanded(command, "aer", target="pool")


def ahead(commands):
    return [one for one in commands if isinstance(one, Prepare)]


@pytest.fixture
def world():
    return World(config(), worker())


def test_a_paused_pool_has_each_distinct_circuit_compiled_once(world):
    commands = world.look(pause(), *(asked(number, number % 3) for number in range(9)))
    found = ahead(commands)
    circuits = [world.machine.live[one.item.job_id].circuit_id for one in found]
    assert sorted(circuits) == CIRCUITS[:3]
    assert {(one.pool, one.partition) for one in found} == {("aer", 3)}
    assert not ahead(world.look(asked(10, 2)))
    assert len(ahead(world.look(asked(11, 3)))) == 1
    assert not forwards(commands)


def test_a_pool_that_flows_has_nothing_compiled_ahead(world):
    assert not ahead(world.look(*(asked(number, number) for number in range(5))))


def test_what_compiles_to_something_else_is_apart_and_what_only_runs_otherwise_is_not(world):
    packed = {"mode": "estimate", "observables": b"z"}
    jobs = [
        asked(1),
        asked(2, shots=7),
        asked(3, options={"optimization_level": "3"}),
        asked(4, options={"optimization_level": "3"}, shots=9),
        asked(5, **packed),
    ]
    found = ahead(world.look(pause(), *jobs))
    assert len(found) == 3


def test_what_is_compiled_ahead_is_no_attempt_and_stands_in_no_ledger(world):
    world.look(pause(), asked(1))
    rows = dict(world.ledger)
    (job,) = world.machine.live.values()
    assert (job.attempt, job.phase.value) == (0, "waiting")
    assert not world.machine.load()
    world.look()
    assert world.ledger.keys() == rows.keys()


def test_a_pool_that_is_resumed_runs_everything_once_whatever_was_compiled(world):
    world.look(pause(), *(asked(number, number) for number in range(3)))
    world.free = {"aer": [Credit("w1", 3, 2)]}
    sent = forwards(world.run(pause("resume")))
    for bundle in sent:
        world.run(reported("started", bundle.bundle_id))
    ended = [fields for bundle in sent for fields in emitted(world.run(finished(bundle)), "circuit_result")]
    assert [fields["outcome"] for fields in ended] == ["succeeded"] * 3
    assert {fields["attempt"] for fields in ended} == {1}
    assert not world.machine.live


def test_a_restart_sends_it_once_more_and_loses_no_job(world):
    first = ahead(world.look(pause(), asked(1), asked(2, 1)))
    world.restart()
    again = ahead(world.look())
    assert {one.item.job_id for one in again} == {one.item.job_id for one in first}
    assert len(world.machine.live) == 2
    assert not ahead(world.look())


@pytest.mark.parametrize(
    "workers",
    [
        (),
        (worker(compiles=False),),
        (worker(state="draining"),),
        (worker(partitions=[]),),
        (worker(pool="noop"),),
        (worker(unhealthy="no GPU"),),
        ({key: value for key, value in worker().items() if key != "compiles"},),
    ],
    ids=["none", "cannot", "leaving", "reads nothing", "another's", "ill", "older"],
)
def test_only_workers_that_can_are_asked(workers):
    assert not ahead(World(config(), *workers).look(pause(), asked(1)))


def test_workers_take_turns(world):
    world.workers = (worker("w1", partitions=[0, 1]), worker("w2", partitions=[2, 3]))
    found = ahead(world.look(pause(), *(asked(number, number) for number in range(4))))
    assert sorted(one.partition for one in found) == [0, 1, 2, 3]


def test_a_pool_outside_its_hours_and_one_whose_breaker_is_open_are_prepared_too():
    window = CronWindowConfig(cron="0 0 1 1 *")
    hours = PoolConfig(adapter="aer", access=AccessConfig(hours="new year"))
    broken = PoolConfig(adapter="aer", breaker=BreakerConfig(min_calls=1, pause_seconds=60.0))
    settings = Config(pools={"aer": hours}, windows={"new year": window})
    assert len(ahead(World(settings, worker()).look(asked(1)))) == 1
    world = World(Config(pools={"aer": broken}), worker())
    world.free = {"aer": [Credit("w1", 3, 1)]}
    (bundle,) = forwards(world.look(asked(1)))
    world.run(reported("started", bundle.bundle_id))
    world.free = {}
    assert len(ahead(world.look(finished(bundle, "BACKEND_DOWN"), asked(2, 1)))) == 1


def test_few_are_sent_at_a_time_and_all_of_a_long_queue_in_the_end():
    world = World(config(max_waiting=1_000), worker())
    events = [pause(), *(asked(number, number) for number in range(150))]
    found = ahead(world.look(*events))
    assert 0 < len(found) <= 8
    for _ in range(40):
        found += ahead(world.look())
    assert len({one.item.job_id for one in found}) == len(found) == 150


def test_it_is_told_as_an_event_of_the_pool(world):
    events = emitted(world.look(pause(), asked(1), asked(2, 1)), "event_batch")
    told = [one for batch in events for one in batch["events"] if one["state"] == ABOUT_A_POOL]
    assert [one["cause"] for one in told if "ahead" in one["cause"]] == ["compile ahead: 2 circuits"]


def test_the_front_of_a_queue_is_that_of_better_classes_and_of_all_tenants():
    queue = WaitingQueue({"interactive": 8.0, "bulk": 1.0}, FairnessConfig())
    jobs = [("bulk", "ada")] * 3 + [("bulk", "bob")] * 2 + [("interactive", "cy")]

    class Waits:
        session_id, cost, due_ms = "", 1.0, 5

        def __init__(self, order, priority, tenant):
            self.order, self.priority, self.tenant = order << 20, priority, tenant

    for key, (priority, tenant) in enumerate(jobs):
        queue.push(Waits(key, priority, tenant), key)
    assert list(queue.heads()) == [5, 0, 3, 1, 4, 2]
