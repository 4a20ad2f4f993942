"""What runs took decides where jobs go, what is too late or too dear, what is full, and which ends are told."""

from dataclasses import replace

import pytest
from asking_kit import job, phase
from dispatcher_kit import (
    PARTITIONS,
    SHARD,
    START_MS,
    Driver,
    commanded,
    emitted,
    finished,
    forwards,
    item,
    job_id,
    reported,
    request,
)
from policy_kit import config_of

from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Credit, Dispatch
from shotbus.broker.dispatcher.states import Phase
from shotbus.broker.stages import Timings
from shotbus.schemas.openqasm import inspect

POOLS = """
[routing]
default = "slow"
[pools.slow]
adapter = "aer"
bundle_jobs = 1
price.per_second = 1.0
high_seconds = 10.0
low_seconds = 5.0
[pools.fast]
adapter = "aer"
bundle_jobs = 1
[shedding.full]
refuse = ["bulk"]
"""
EITHER = '[[routing.rules]]\nname = "r"\nthen = { pools = ["slow", "fast"], %s }\n'


def driver_of(text=""):
    """A shard with a slow and a fast pool, of which its configuration says the same."""
    settings = config_of(POOLS + text, pools=False)
    return Driver(lambda: Dispatcher(SHARD, PARTITIONS, settings))


def look(driver):
    """Let the shard see its pools; each has one slot."""
    driver.pass_time(1)
    adverts = [
        {"role": "worker", "pool": pool, "worker": pool, "state": "ready", "slots": 1}
        for pool in ("slow", "fast")
    ]
    driver.machine.handle(Dispatch({}, adverts), driver.now)


def ran(bundle, seconds):
    """The event that a bundle ended after so many seconds."""
    timings = Timings()
    timings.add("execute", seconds)
    items = [item(one.job_id, one.attempt) | {"timings": timings.pack()} for one in bundle.items]
    return reported("finished", bundle.bundle_id, items=items, pool=bundle.pool)


def run(driver, pool, seconds, number):
    """Have a job run on a pool."""
    driver.free = {pool: [Credit(pool, 0, 1)]}
    (bundle,) = forwards(driver.run(job(number, pool=pool, backend=pool)))
    driver.free = {}
    driver.pass_time(seconds)
    driver.run(ran(bundle, seconds))


def known(text="", restarted=False):
    """A shard that has seen three jobs a pool: 6 s each on the slow one, half a second on the fast one."""
    driver = driver_of(text)
    for number in range(3):
        run(driver, "slow", 6.0, 10 + number)
        run(driver, "fast", 0.5, 20 + number)
    if restarted:
        driver.restart()
    look(driver)
    return driver


def decided(driver, **changes):
    return driver.machine.shard.router.decide(request(50, **changes), None, driver.wall_ms)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_deadline_that_no_run_of_the_pool_has_met_is_refused_also_after_a_restart(restarted):
    driver = known(restarted=restarted)
    assert decided(driver, backend="slow", deadline_ms=driver.wall_ms + 2_000).refused
    assert not decided(driver, backend="slow", deadline_ms=driver.wall_ms + 7_000).refused


def test_a_deadline_is_not_refused_where_some_runs_are_short_enough():
    driver = known()
    run(driver, "slow", 0.5, 30)
    look(driver)
    assert not decided(driver, backend="slow", deadline_ms=driver.wall_ms + 2_000).refused


def test_what_ends_soonest_is_what_was_measured_to():
    assert decided(known(EITHER % 'choose = "soonest"')).pool == "fast"


def test_a_budget_for_execution_is_held_against_what_runs_take():
    text = EITHER % 'choose = "first", fallback = ["fast"], latency_budget = "tight"'
    assert decided(known(text + "[latency.tight]\nexecute = 1.0\n")).pool == "fast"


def test_the_door_and_a_later_move_know_one_price():
    driver = known()
    asked = job(51, pool="slow", backend="slow", max_cost=3.0)
    assert decided(driver, backend="slow", max_cost=3.0).refused
    assert not decided(driver, backend="slow", max_cost=6.1).refused
    driver.run(job(51, pool="fast", backend="fast", max_cost=3.0))
    told = driver.machine.shard.dear(driver.machine.live[asked.request["job_id"]], "slow")
    assert told == "costs 6, at most 3 asked"


def test_what_a_worker_is_busy_with_is_part_of_the_wait():
    driver = known()
    assert driver.machine.shard.router.views["slow"].wait[1] < 0.1
    driver.free = {"slow": [Credit("slow", 0, 1)]}
    (bundle,) = forwards(driver.run(job(60, pool="slow", backend="slow")))
    look(driver)
    assert 4.0 < driver.machine.shard.router.views["slow"].wait[1] < 6.0
    driver.free = {}
    driver.run(finished(bundle))
    look(driver)
    assert driver.machine.shard.router.views["slow"].wait[1] < 0.1


def test_jobs_that_came_before_anything_was_measured_fill_a_pool_by_what_they_take():
    driver = driver_of()
    driver.run(*(job(number, pool="slow", backend="slow") for number in range(100, 126)))
    look(driver)
    assert driver.machine.shard.guard.shed("slow", "bulk") is None
    driver.free = {"slow": [Credit("slow", 0, 1)]}
    (bundle,) = forwards(driver.run())
    driver.free = {}
    driver.pass_time(2)
    driver.run(ran(bundle, 2.0))
    look(driver)
    assert driver.machine.shard.waiting_seconds("slow") == pytest.approx(50.0)
    assert driver.machine.shard.guard.shed("slow", "bulk").action == "refuse"
    driver.restart()
    assert driver.machine.shard.waiting_seconds("slow") == pytest.approx(50.0)


def test_points_that_wait_are_those_of_the_jobs_that_wait():
    driver = driver_of()
    driver.run(*(job(number, pool="slow", backend="slow", points=number) for number in (1, 2, 4, 8)))
    queue = driver.machine.shard.queues["slow"]
    assert queue.load.seconds(lambda _: 1.0) == 15
    driver.run(commanded("cancel", job_id(2)))
    move = commanded("reprioritise", job_id(4))
    move.control["arguments"] = {"class": "bulk"}
    driver.run(move)
    assert queue.load.seconds(lambda _: 1.0) == 13
    driver.free = {"slow": [Credit("slow", 0, 1)]}
    driver.run()
    assert queue.load.seconds(lambda _: 1.0) in (12, 9, 5)
    assert phase(driver, 1) in (Phase.FORWARDED, Phase.WAITING)


def test_no_end_is_told_of_a_pool_on_which_nothing_has_ended():
    driver = driver_of()
    driver.run(*(job(number, pool="slow", backend="slow") for number in (1, 2)))
    look(driver)
    (place,) = emitted(driver.run(commanded("locate", job_id(2))), "located")
    assert (place["position"], place.get("eta_mid_ms", 0)) == (1, 0)
    assert place["reason"] == "others go first; nothing has ended on slow yet by which to tell when"
    driver.machine.shard.speeds.observe("slow", 2.0, 0)
    (place,) = emitted(driver.run(commanded("locate", job_id(2))), "located")
    assert place["eta_mid_ms"] == pytest.approx(START_MS + 1_000 + 4_000, abs=50)


def circuit(qubits):
    """Facts of a register of so many qubits, each turned and measured."""
    return inspect(f"OPENQASM 3;\nqubit[{qubits}] q;\nbit[{qubits}] c;\nU(1, 2, 3) q;\nc = measure q;\n")


def of_size(number, qubits, **changes):
    """A submission whose circuit has been inspected."""
    return replace(job(number, pool="slow", backend="slow", **changes), facts=circuit(qubits))


def test_a_job_costs_what_work_of_its_size_took():
    driver = driver_of()
    for number, (qubits, seconds) in enumerate([(4, 0.01), (20, 9.0)], 1):
        driver.free = {"slow": [Credit("slow", 0, 1)]}
        (bundle,) = forwards(driver.run(of_size(number, qubits)))
        driver.free = {}
        driver.run(ran(bundle, seconds))
    driver.run(of_size(11, 4), of_size(12, 20), of_size(13, 12), of_size(14, 4, points=5))
    costs = [driver.machine.live[job_id(number)].cost for number in (11, 12, 13, 14)]
    assert costs == pytest.approx([0.01, 9.0, 4.505, 0.05])
    shard = driver.machine.shard
    assert shard.waiting_seconds("slow") == pytest.approx(sum(costs))
    driver.restart()
    assert driver.machine.shard.waiting_seconds("slow") == pytest.approx(sum(costs))


def test_a_deadline_that_larger_circuits_have_met_is_held_against_what_such_a_circuit_takes():
    driver = driver_of()
    driver.free = {"slow": [Credit("slow", 0, 1)]}
    for number, (qubits, seconds) in enumerate([(4, 0.01), (20, 9.0)], 1):
        (bundle,) = forwards(driver.run(of_size(number, qubits)))
        driver.run(ran(bundle, seconds))
    look(driver)
    asked = request(50, backend="slow", deadline_ms=driver.wall_ms + 5_000)
    router = driver.machine.shard.router
    assert router.decide(asked, circuit(20), driver.wall_ms).refused
    assert not router.decide(asked, circuit(4), driver.wall_ms).refused
    assert not router.decide(asked, circuit(12), driver.wall_ms).refused
