"""What waits until its circuit has been inspected or a person has decided, and private work that stays where it may be."""

from dataclasses import replace

import pytest
from asking_kit import FREE, phase, refusals
from dispatcher_kit import (
    PARTITIONS,
    SHARD,
    Driver,
    cached_result,
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

from shotbus.broker.config import SheddingConfig
from shotbus.broker.dispatcher.job import shared_chain
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Credit, Dispatch, Inspect, Learnt
from shotbus.broker.dispatcher.states import Phase
from shotbus.broker.inspection.facts import Inspected, refused
from shotbus.broker.policy.config import AccessConfig
from shotbus.broker.policy.decision import Decision
from shotbus.schemas.ids import affine_route
from shotbus.schemas.ids import job_id as make_job_id
from shotbus.schemas.openqasm import inspect

CIRCUIT = "c" * 64
FACTS = inspect('OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[3] q; bit[3] c; h q; c = measure q;')


@pytest.fixture
def driver():
    settings = config(bundle_jobs=1, max_attempts=1)
    pools = settings.pools | {
        "aer": replace(settings.pools["aer"], access=AccessConfig(data_classes=("private",)))
    }
    made = Driver(lambda: Dispatcher(SHARD, PARTITIONS, replace(settings, pools=pools)))
    made.free = FREE
    return made


def job(number=1, pool="aer", *, known=False, **changes):
    event = submitted(request(number, payload_hash=payload(number), **changes), offset=number, pool=pool)
    return replace(event, facts=FACTS) if known else replace(event, uninspected=True)


def learnt(*numbers, **changes):
    """The inspection's answer, with the submissions that waited for it."""
    again = tuple(job(number, known=True, **changes) for number in numbers)
    return Learnt(Inspected(CIRCUIT, FACTS), again)


def asked(commands):
    return [one.circuit_id for one in commands if isinstance(one, Inspect)]


def test_jobs_of_an_unknown_circuit_wait_and_it_is_asked_for_once(driver):
    assert asked(driver.run(job(1), job(2))) == [CIRCUIT]
    assert phase(driver) is Phase.VALIDATING
    assert len(forwards(driver.run(learnt(1, 2)))) == 2


def test_after_a_restart_it_is_asked_for_again(driver):
    driver.run(job(1))
    driver.restart()
    assert asked(driver.run()) == [CIRCUIT]
    assert len(forwards(driver.run(learnt(1)))) == 1


def test_who_came_while_the_answer_was_under_way_has_it_asked_for_again(driver):
    driver.run(job(1), job(2))
    assert asked(driver.run(learnt(1))) == [CIRCUIT]
    assert phase(driver, 2) is Phase.VALIDATING


def test_a_circuit_that_is_refused_refuses_all_that_waited_for_it_with_the_place(driver):
    driver.run(job(1), job(2))
    told = driver.run(Learnt(refused(CIRCUIT, "SB-1203", detail="no program")))
    assert refusals(told) == [(job_id(1), "SB-1203"), (job_id(2), "SB-1203")]
    assert emitted(told, "refusal")[0]["problems"][0]["path"] == "$.circuit"
    assert not driver.machine.live
    # The same id may come again.
    assert asked(driver.run(job(1))) == [CIRCUIT]


def test_a_circuit_too_large_for_its_pool_is_refused_when_that_is_known(driver):
    driver.run(job(1))
    big = replace(FACTS, qubits=2_000)
    again = replace(job(1, known=True), facts=big)
    assert refusals(driver.run(Learnt(Inspected(CIRCUIT, big), (again,)))) == [(job_id(1), "SB-1116")]


@pytest.mark.parametrize("end", ["cancelled", "expired"])
def test_who_waits_for_inspection_can_be_cancelled_and_expires(driver, end):
    driver.run(job(1, deadline_ms=driver.wall_ms + 1_000))
    driver.pass_time(2 if end == "expired" else 0)
    told = driver.run(*([commanded("cancel", job_id(1))] if end == "cancelled" else []))
    assert [one["outcome"] for one in emitted(told, "circuit_result")] == [end]
    assert not forwards(driver.run(learnt(1)))


def test_not_before_holds_after_the_inspection(driver):
    later = driver.wall_ms + 5_000
    driver.run(job(1, not_before_ms=later))
    assert not forwards(driver.run(learnt(1, not_before_ms=later)))
    driver.pass_time(6)
    assert len(forwards(driver.run())) == 1


KEY = next(key for key in map("loop-{}".format, range(99)) if affine_route("ada", key) % PARTITIONS == SHARD)


def unique(number, policy="", *, known=False):
    made = make_job_id("ada", unique_key=KEY, entropy=number.to_bytes(12, "big"))
    event = job(number, known=known, unique_key=KEY, unique_policy=policy)
    return replace(event, request={**event.request, "job_id": made}), made


@pytest.mark.parametrize("restarted", [False, True])
def test_of_two_with_one_unique_key_the_first_that_was_inspected_has_it(driver, restarted):
    driver.free = {}
    (first, one), (second, two) = unique(1), unique(2)
    driver.run(first, second)
    if restarted:
        driver.restart()
        driver.run()
    again = tuple(unique(number, known=True)[0] for number in (1, 2))
    assert refusals(driver.run(Learnt(Inspected(CIRCUIT, FACTS), again))) == [(two, "SB-1114")]
    assert set(driver.machine.live) == {one}


def test_a_superseded_job_on_a_paid_pool_does_not_take_its_key_back_after_a_restart():
    settings = config(bundle_jobs=1)
    paid = replace(settings.pools["aer"], kind="hardware")
    driver = Driver(
        lambda: Dispatcher(SHARD, PARTITIONS, replace(settings, pools=settings.pools | {"aer": paid}))
    )
    driver.free = {"aer": [Credit("w1", 0, 1)]}
    (first, one), (second, two), (third, three) = (unique(n, "supersede", known=True) for n in (1, 2, 3))
    driver.run(first)
    driver.free = {}
    driver.run(second)
    driver.restart()
    told = driver.run(third)
    assert [(result["job_id"], result["outcome"]) for result in emitted(told, "circuit_result")] == [
        (two, "superseded")
    ]
    assert set(driver.machine.live) == {one, three}


def test_private_work_does_not_fall_back_to_where_it_may_not_be_seen(driver):
    (sent,) = forwards(driver.run(job(1, known=True, data_class="private")))
    driver.machine.live[job_id(1)].chain = shared_chain(("noop",))
    told = driver.run(finished(sent, "TRANSIENT"))
    assert not forwards(told)
    assert [one["outcome"] for one in emitted(told, "circuit_result")] == ["dead_lettered"]


def changing(name, **arguments):
    event = commanded("reprioritise", name)
    event.control["arguments"] = arguments
    return event


def test_nor_is_it_moved_there_by_a_change_of_mind(driver):
    driver.free = {}
    driver.run(job(1, known=True, data_class="private"))
    (told,) = emitted(driver.run(changing(job_id(1), pool="noop")), "located")
    assert (told["changed"], list(told["problems"])) == (0, ["1: noop may not see private data"])


def reviewed(number=1, **changes):
    """A submission about which a person has to decide."""
    event = job(number, known=True, **changes)
    trail = ({"step": "rule"}, {"step": "fallback"}, {"step": "decided"})
    return replace(event, decision=Decision("r", "v", event.pool, action="review", trail=trail))


def test_nor_by_approving_it(driver):
    driver.run(replace(reviewed(data_class="private"), pool="noop"))
    assert phase(driver) is Phase.AWAITING_REVIEW
    commands = driver.run(commanded("approve", job_id(1)))
    assert not forwards(commands)
    assert list(emitted(commands, "located")[0]["problems"]) == ["noop may not see private data"]
    assert phase(driver) is Phase.AWAITING_REVIEW


def test_an_approved_job_waits_for_its_time(driver):
    driver.run(reviewed(not_before_ms=driver.wall_ms + 60_000))
    assert not forwards(driver.run(commanded("approve", job_id(1))))
    assert phase(driver) is Phase.DEFERRED
    driver.pass_time(61)
    assert len(forwards(driver.run())) == 1


def crowded():
    """A shard whose pool ``aer`` is full for class bulk, and ``noop`` is idle; the default is ``aer``."""
    settings = config(bundle_jobs=1)
    full = replace(settings.pools["aer"], seconds_per_point=1.0, high_seconds=4.0, low_seconds=2.0)
    settings = replace(
        settings, pools=settings.pools | {"aer": full}, shedding={"full": SheddingConfig(refuse=("bulk",))}
    )
    driver = Driver(lambda: Dispatcher(SHARD, PARTITIONS, settings))
    driver.run(*(job(number, known=True) for number in range(1, 6)))
    driver.pass_time(1)
    driver.machine.handle(Dispatch({}, []), driver.now)
    return driver


def test_a_class_that_is_shed_is_held_against_the_pool_that_inspection_leads_to():
    driver = crowded()
    assert asked(driver.run(job(11, priority="bulk"), job(12, priority="bulk"))) == [CIRCUIT]
    elsewhere, there = (
        job(number, pool, known=True, priority="bulk") for number, pool in ((11, "noop"), (12, "aer"))
    )
    told = driver.run(Learnt(Inspected(CIRCUIT, FACTS), (elsewhere, there)))
    (refusal,) = emitted(told, "refusal")
    assert (refusal["job_id"], refusal["problems"][0]["code"]) == (job_id(12), "SB-1111")
    assert refusal["retry_after_ms"] > 0
    assert phase(driver, 11) is Phase.WAITING


def test_an_answer_that_is_there_already_is_given_however_full_the_pool_is():
    driver = crowded()
    known = job(13, known=True, priority="bulk")
    assert refusals(driver.run(known)) == [(job_id(13), "SB-1111")]
    assert not refusals(driver.run(replace(job(14, known=True, priority="bulk"), cached=cached_result())))


def test_what_the_default_pool_cannot_do_is_not_held_against_a_job_that_inspection_may_send_elsewhere(driver):
    assert asked(driver.run(job(1, shots=0))) == [CIRCUIT]
    named = job(2, shots=0, backend="aer")
    assert refusals(driver.run(named)) == [(job_id(2), "SB-1103")]
