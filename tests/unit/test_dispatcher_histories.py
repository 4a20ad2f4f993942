"""What the histories of families learn from jobs: of each pool what it did itself, and only its own time."""

from dataclasses import replace

import pytest
from cheap_kit import PROBLEM, answered, asked, pools, room_in
from dispatcher_kit import PARTITIONS, SHARD, Driver, commanded, forwards, job_id, reported

from shotbus.broker.config import PriceConfig
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Recalled
from shotbus.broker.dispatcher.states import Phase
from shotbus.broker.policy.config import FamilyConfig


def settings(**more):
    return pools(families={"vqe": FamilyConfig()}, **more)


@pytest.fixture
def driver():
    return Driver(lambda: Dispatcher(SHARD, PARTITIONS, settings()))


def sent_to(driver, pool, *events):
    """The bundle that leaves for this pool, which alone has room."""
    driver.free = room_in(pool)
    (found,) = [one for one in forwards(driver.run(*events)) if one.pool == pool]
    driver.free = {}
    return found


def of_family(number=1, **changes):
    return asked(number, **{"family": "vqe", **changes})


def learnt(driver, pool):
    """(runs, success) of the family on a pool, as the ledger has it."""
    driver.restart()
    found = driver.machine.shard.measured.by_pair.get(("vqe", pool))
    return None if found is None else (found.runs, found.success)


def measured(driver, pool):
    return driver.machine.shard.measured.by_pair["vqe", pool]


@pytest.mark.parametrize(("error_class", "tries"), [("TRANSIENT", 3), ("UNSTABLE", 2), ("BACKEND_DOWN", 1)])
def test_a_job_that_goes_elsewhere_is_a_failure_of_the_pool_that_failed_it(driver, error_class, tries):
    driver.run(of_family(steps=["aer"]))
    for _ in range(tries):
        assert learnt(driver, "qpu") is None
        driver.run(answered(sent_to(driver, "qpu"), error_class=error_class))
        driver.pass_time(10)
    assert (learnt(driver, "qpu"), learnt(driver, "aer")) == ((1, 0.0), None)
    driver.run(answered(sent_to(driver, "aer")))
    assert (learnt(driver, "qpu"), learnt(driver, "aer")) == ((1, 0.0), (1, 1.0))


def test_a_job_that_only_waited_in_vain_is_nobodys_failure(driver):
    driver.run(of_family(steps=["aer"], decision={"max_queue_seconds": 5.0}))
    driver.pass_time(6)
    driver.run()
    driver.run(answered(sent_to(driver, "aer")))
    assert (learnt(driver, "qpu"), learnt(driver, "aer")) == (None, (1, 1.0))


@pytest.mark.parametrize("found", [False, True])
def test_a_job_that_looks_for_an_earlier_answer_was_failed_once(driver, found):
    sent = sent_to(driver, "qpu", of_family(steps=["cache:60"]))
    driver.run(answered(sent, error_class="INVALID"))
    if driver.machine.live:
        driver.run(Recalled(job_id(1), None))
    assert not driver.machine.live
    assert learnt(driver, "qpu") == (1, 0.0)


def test_a_prepared_answer_does_not_hide_that_the_pool_failed(driver):
    event = of_family(speculate="compare", problem=PROBLEM)
    driver.run(answered(sent_to(driver, "classical", event)))
    driver.run(answered(sent_to(driver, "qpu"), error_class="INVALID"))
    assert not driver.machine.live
    assert (learnt(driver, "qpu"), learnt(driver, "classical")) == ((1, 0.0), None)


@pytest.mark.parametrize(("error_class", "success"), [("", 1.0), ("TRANSIENT", 0.0)])
def test_what_comes_after_the_cheap_answer_counts_for_its_pool(driver, error_class, success):
    event = of_family(speculate="answer", problem=PROBLEM, value=1.0, value_per_second=1e6)
    cheap = sent_to(driver, "classical", event)
    sent = sent_to(driver, "qpu")
    driver.run(reported("started", sent.bundle_id))
    driver.run(answered(cheap))
    driver.run(answered(sent, error_class=error_class))
    assert learnt(driver, "qpu") == (1, success)


def test_a_stage_that_passed_counts_for_the_pool_that_did_it(driver):
    stage = sent_to(driver, "classical", of_family(decision={"requires": ["baseline"]}, problem=PROBLEM))
    driver.run(answered(stage))
    driver.run(answered(sent_to(driver, "qpu"), -1.2, std=0.1))
    assert (learnt(driver, "classical"), learnt(driver, "qpu")) == ((1, 1.0), (1, 1.0))
    found = measured(driver, "qpu")
    assert (found.deviation, found.deviations) == (pytest.approx(2.0), 1)


def test_a_pool_is_not_blamed_for_a_person_who_said_no(driver):
    driver.run(of_family(decision={"requires": ["approval"]}))
    assert driver.machine.live[job_id(1)].phase is Phase.AWAITING_REVIEW
    driver.run(commanded("reject", job_id(1)))
    assert not driver.machine.live
    assert learnt(driver, "qpu") is None


@pytest.mark.parametrize("until", ["review", "not before", "a window", "another pool"])
def test_turnaround_is_the_pools_own_time(driver, until):
    opens = driver.wall_ms + 60_000
    event = {
        "review": of_family(decision={"requires": ["approval"]}),
        "not before": of_family(not_before_ms=opens),
        "a window": of_family(decision={"not_before_ms": opens}),
        "another pool": of_family(pool="other", steps=["qpu"]),
    }[until]
    driver.run(event)
    driver.pass_time(61, seen=1)
    if until == "review":
        driver.run(commanded("approve", job_id(1)))
    if until == "another pool":
        driver.run(answered(sent_to(driver, "other"), error_class="CANCELLED_BY_PROVIDER"))
        driver.pass_time(10, seen=1)
        driver.run(answered(sent_to(driver, "other"), error_class="CANCELLED_BY_PROVIDER"))
    driver.run()
    driver.pass_time(3)
    sent = sent_to(driver, "qpu")
    driver.restart()
    driver.pass_time(4)
    driver.run(answered(sent))
    assert measured(driver, "qpu").turnaround_seconds == 7.0


def test_repeats_on_a_pool_are_part_of_its_turnaround_and_its_cost():
    own = settings()
    own = replace(own, pools={n: replace(p, price=PriceConfig(per_task=2.0)) for n, p in own.pools.items()})
    driver = Driver(lambda: Dispatcher(SHARD, PARTITIONS, own))
    stage = sent_to(driver, "classical", of_family(decision={"requires": ["baseline"]}, problem=PROBLEM))
    driver.run(answered(stage))
    driver.run(answered(sent_to(driver, "qpu"), error_class="TRANSIENT", cost=1.0))
    driver.pass_time(9)
    driver.run(answered(sent_to(driver, "qpu"), cost=4.0))
    found = measured(driver, "qpu")
    assert (found.runs, found.turnaround_seconds, found.cost) == (1, 9.0, 5.0)
