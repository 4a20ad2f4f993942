"""Pools that fail, are closed or full, and jobs that are helped on: breakers, remedies, hours, limits, shedding."""

from dataclasses import replace

import pytest
from asking_kit import FREE, job, phase
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
    item,
    job_id,
    reported,
)
from packing_kit import PackingDispatcher

from shotbus.broker.config import BreakerConfig, SheddingConfig
from shotbus.broker.dispatcher.job import shared_chain
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Credit, Dispatch
from shotbus.broker.dispatcher.states import Phase
from shotbus.broker.policy.config import AccessConfig, CronWindowConfig
from shotbus.broker.policy.decision import Decision

BREAKER = BreakerConfig(min_calls=2, pause_seconds=5.0, probes=1)


def driver_of(pool=None, limits=None, **sections):
    """A shard whose pool ``aer`` has these settings besides."""
    settings = config(bundle_jobs=1, **sections.pop("retry", {}))
    pools = {**settings.pools, "aer": replace(settings.pools["aer"], **(pool or {}))}
    capped = replace(settings.limits, **(limits or {}))
    settings = replace(settings, pools=pools, limits=capped, **sections)
    driver = Driver(lambda: Dispatcher(SHARD, PARTITIONS, settings))
    driver.free = FREE
    return driver


def sent(commands, pool="aer"):
    return [one for one in forwards(commands) if one.pool == pool]


def trip(driver):
    """Have the backend fail for two tenants' jobs."""
    first = sent(driver.run(job(91), job(92, tenant="bob")))
    driver.run(*(finished(one, "TRANSIENT") for one in first))


@pytest.mark.parametrize("restarted", [False, True])
def test_an_open_breaker_stops_a_pool_then_lets_a_probe_go_and_closes_when_it_succeeds(restarted):
    driver = driver_of({"breaker": BREAKER}, retry={"base": 60.0, "cap": 60.0})
    trip(driver)
    if restarted:
        driver.restart()
    assert not sent(driver.run(job(1), job(2), job(3)))
    driver.pass_time(6)
    (probe,) = sent(driver.run())
    assert not sent(driver.run())
    assert len(sent(driver.run(finished(probe)))) >= 2


def test_a_failed_probe_opens_the_breaker_again():
    driver = driver_of({"breaker": BREAKER}, retry={"base": 60.0, "cap": 60.0})
    trip(driver)
    driver.run(job(1), job(2))
    driver.pass_time(6)
    (probe,) = sent(driver.run())
    assert not sent(driver.run(finished(probe, "TRANSIENT")))
    driver.pass_time(6)
    assert not sent(driver.run())


def test_when_a_backend_is_down_its_job_goes_to_the_next_pool_and_others_wait():
    driver = driver_of({"breaker": BREAKER})
    (first,) = sent(driver.run(job(1)))
    driver.machine.live[job_id(1)].chain = shared_chain(("noop",))
    told = driver.run(finished(first, "BACKEND_DOWN"), job(2))
    assert [one.items[0].job_id for one in sent(told, "noop")] == [job_id(1)]
    assert phase(driver, 2) is Phase.WAITING
    (answer,) = emitted(driver.run(finished(sent(told, "noop")[0])), "circuit_result")
    assert (answer["outcome"], answer["fallback_from"]) == ("succeeded_by_fallback", "aer")


def test_on_another_pool_a_job_has_all_its_attempts():
    driver = driver_of(retry={"max_attempts": 2})
    commands = driver.run(job(1))
    driver.machine.live[job_id(1)].chain = shared_chain(("noop",))
    went = []
    for _ in range(4):
        (one,) = forwards(commands)
        went.append(one.pool)
        commands = driver.run(finished(one, "TRANSIENT"))
        driver.pass_time(5)
        commands += driver.run()
    assert went == ["aer", "aer", "noop", "noop"]


def test_what_helps_against_a_constraint_goes_along_with_the_next_attempt():
    driver = driver_of()
    (first,) = sent(driver.run(job(1, shots=100)))
    told = item(job_id(1), 1, "CONSTRAINT")
    told["problems"][0] |= {"limit": "40", "detail": "too many shots"}
    driver.free = {}
    driver.run(reported("finished", first.bundle_id, items=[told]))
    driver.restart()
    driver.free = FREE
    (again,) = sent(driver.run())
    assert again.items[0].overrides == {"shots_per_call": "40"}


def test_repeats_leave_room_for_fresh_work():
    driver = driver_of(retry={"budget": 0.2, "budget_burst": 1})
    driver.free = {"aer": [Credit("w1", 0, 2)]}
    first = sent(driver.run(job(1), job(2)))
    driver.free = {}
    driver.run(*(finished(one, "TRANSIENT") for one in first), *(job(n) for n in range(3, 9)))
    driver.pass_time(2)
    driver.run()
    assert sorted(phase(driver, n).value for n in (1, 2)) == ["retrying", "waiting"]


def test_a_pool_outside_its_opening_hours_gets_nothing():
    # It is 22:13 UTC.
    night = {"late": CronWindowConfig(cron="0 23 * * *", minutes=30)}
    driver = driver_of({"access": AccessConfig(hours="late")}, windows=night)
    assert not sent(driver.run(job(1)))
    driver.pass_time(3_600)
    assert len(sent(driver.run())) == 1
    driver.pass_time(3_600)
    assert not sent(driver.run(job(2)))


#: From 23:00 to 23:30 UTC; the story begins at 22:13.
LATE = {"late": CronWindowConfig(cron="0 23 * * *", minutes=30)}


@pytest.mark.parametrize("restarted", [False, True])
def test_who_waits_past_the_end_of_its_window_waits_for_the_next_one(restarted):
    driver = driver_of(windows=LATE)
    driver.free = {}
    driver.pass_time(3_600)
    decision = Decision("r", "v", "aer", windows=("late",))
    driver.run(replace(job(1), decision=decision), job(2))
    if restarted:
        driver.restart()
    driver.pass_time(1_800)
    driver.free = FREE
    assert [one.items[0].job_id for one in sent(driver.run())] == [job_id(2)]
    assert phase(driver) is Phase.DEFERRED
    driver.pass_time(84_000)
    assert [one.items[0].job_id for one in sent(driver.run())] == [job_id(1)]


def test_a_person_may_have_a_job_run_in_another_window():
    driver = driver_of(windows={**LATE, "now": CronWindowConfig(cron="0 22 * * *", minutes=30)})
    driver.free = {}
    driver.run(replace(job(1), decision=Decision("r", "v", "aer", windows=("late",))))
    wish = commanded("reprioritise", job_id(1))
    wish.control["arguments"] = {"window": "now"}
    driver.free = FREE
    assert len(sent(driver.run(wish))) == 1


def test_nobody_can_move_a_job_to_a_pool_that_is_never_free_in_its_window():
    driver = driver_of({"access": AccessConfig(reservations=("bob@late",))}, windows=LATE)
    driver.run(replace(job(1, pool="noop"), decision=Decision("r", "v", "noop", windows=("late",))))
    wish = commanded("reprioritise", job_id(1))
    wish.control["arguments"] = {"pool": "aer"}
    (told,) = emitted(driver.run(wish), "located")
    assert told["problems"] == ["1: aer is never free for it while its window is open"]


def test_a_pool_that_somebody_has_reserved_is_his_for_that_time():
    access = AccessConfig(reservations=("bob@late",))
    driver = driver_of({"access": access}, windows=LATE, limits={"concurrency": {"tenant": 2}})
    driver.pass_time(3_600)
    told = driver.run(job(1), job(2, tenant="bob"))
    assert [one.items[0].job_id for one in sent(told)] == [job_id(2)]
    driver.pass_time(1_800)
    assert [one.items[0].job_id for one in sent(driver.run())] == [job_id(1)]


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    ("kind", "names"), [("tenant", {}), ("backend:aer", {}), ("session", {"session_id": "s"})]
)
def test_no_more_jobs_are_with_workers_than_a_limit_allows(kind, names, restarted):
    # Of tenants and pools this shard of two has half.
    driver = driver_of(limits={"concurrency": {kind: 1 if kind == "session" else 2}})
    (first,) = sent(driver.run(*(job(n, **names) for n in (1, 2, 3))))
    if restarted:
        driver.restart()
    assert not sent(driver.run())
    assert len(sent(driver.run(finished(first)))) == 1


def test_a_cancelled_job_counts_until_its_worker_has_let_go_of_it():
    driver = driver_of(limits={"concurrency": {"tenant": 2}})
    (first,) = sent(driver.run(job(1), job(2)))
    assert not sent(driver.run(commanded("cancel", job_id(1))))
    driver.restart()
    assert not sent(driver.run())
    assert len(sent(driver.run(finished(first)))) == 1


ADVERT = {"role": "worker", "pool": "aer", "worker": "w1", "state": "ready", "slots": 1}


def look(driver):
    """Let the shard see how much waits."""
    driver.pass_time(1)
    driver.machine.handle(Dispatch({}, [ADVERT]), driver.now)


def measured(driver, seconds=2.0):
    """Something has ended on the pool."""
    driver.machine.shard.speeds.observe("aer", seconds, 0)


@pytest.mark.parametrize(
    ("level", "refused"), [(SheddingConfig(refuse=("bulk",)), True), (SheddingConfig(defer=("bulk",)), False)]
)
def test_an_overloaded_pool_takes_a_class_later_or_not_at_all(level, refused):
    pool = {"seconds_per_point": 1.0, "high_seconds": 4.0, "low_seconds": 2.0}
    driver = driver_of(pool, shedding={"full": level})
    driver.free = {}
    driver.run(*(job(n) for n in range(1, 4)))
    look(driver)
    told = driver.run(job(8, priority="bulk"), job(9))
    assert phase(driver, 9) is Phase.WAITING
    if refused:
        (answer,) = emitted(told, "refusal")
        assert (answer["problems"][0]["code"], answer["retry_after_ms"]) == ("SB-1111", 30_000)
    else:
        assert phase(driver, 8) is Phase.DEFERRED
        driver.pass_time(31)
        driver.run()
        assert phase(driver, 8) is Phase.WAITING


def test_a_waiting_job_is_told_its_place_its_end_and_what_it_waits_for():
    driver = driver_of({"seconds_per_point": 2.0})
    driver.free = {}
    measured(driver)
    driver.run(job(1), job(2), job(3, deadline_ms=START_MS + 60_000))
    look(driver)
    (place,) = emitted(driver.run(commanded("locate", job_id(2))), "located")
    assert (place["position"], place["pool"], place["reason"]) == (2, "aer", "others go first")
    assert driver.wall_ms < place["eta_low_ms"] <= place["eta_mid_ms"] <= place["eta_high_ms"]


def test_a_job_in_a_pool_that_stands_still_has_a_place_and_no_end():
    driver = driver_of({"seconds_per_point": 2.0})
    driver.free = {}
    measured(driver)
    driver.run(job(1), job(2))
    look(driver)
    driver.run(commanded("pause", "aer", target="pool"))
    for _ in range(2):  # at once, and when the pool has been looked at again
        (place,) = emitted(driver.run(commanded("locate", job_id(2))), "located")
        assert (place["position"], place["reason"]) == (1, "aer is paused: somebody paused it")
        assert [place.get(f"eta_{name}_ms", 0) for name in ("low", "mid", "high")] == [0, 0, 0]
        look(driver)
    driver.run(commanded("resume", "aer", target="pool"))
    look(driver)
    (place,) = emitted(driver.run(commanded("locate", job_id(2))), "located")
    assert place["eta_low_ms"] > driver.wall_ms


def test_nothing_is_predicted_of_a_job_that_comes_to_a_paused_pool():
    driver = driver_of({"seconds_per_point": 2.0})
    measured(driver)
    driver.free = {}
    look(driver)
    driver.run(commanded("pause", "aer", target="pool"))
    driver.run(job(1))
    guard = driver.machine.shard.guard
    driver.pass_time(600)
    guard.advance(driver.now)
    assert guard.forecasts.take_told() == {}


def moved(driver, **arguments):
    wish = commanded("reprioritise", job_id(1))
    wish.control["arguments"] = arguments
    driver.run(wish)


def closed(driver):
    driver.pass_time(3_600, seen=1)
    look(driver)


def unserved(driver):
    driver.pass_time(1)
    driver.machine.handle(Dispatch({}, ()), driver.now)


#: What keeps a job from ending that has nothing to do with the pace of its pool.
STOPS = {
    "paused": lambda driver: driver.run(commanded("pause", "aer", target="pool")),
    "closed": closed,
    "unserved": unserved,
    "moved": lambda driver: moved(driver, pool="noop"),
    "deferred": lambda driver: moved(driver, not_before_ms=str(driver.wall_ms + 60_000)),
}


@pytest.mark.parametrize("stop", STOPS)
def test_what_was_predicted_before_its_pool_stopped_is_no_error_of_predictions(stop):
    hours = {"day": CronWindowConfig(cron="0 0 * * *", minutes=1_380)}
    driver = driver_of({"seconds_per_point": 2.0, "access": AccessConfig(hours="day")}, windows=hours)
    measured(driver)
    driver.free = {}
    look(driver)
    driver.run(job(1))
    guard = driver.machine.shard.guard
    assert guard.forecasts._open
    STOPS[stop](driver)
    driver.pass_time(3_600)
    guard.advance(driver.now)
    guard.forecasts.ended(job_id(1), driver.seen)
    assert guard.forecasts.take_told() == {}


def test_a_job_that_only_waits_is_packed_with_what_it_asked_for_and_found_again():
    settings = config(bundle_jobs=1)
    driver = Driver(lambda: PackingDispatcher(SHARD, PARTITIONS, settings))
    gate = {"quality.outcomes": "00,11", "quality.share": "0.5"}
    told = driver.run(job(1, max_cost=5.0, options=gate), job(2))
    assert not emitted(told, "refusal")
    book = driver.machine.shard.jobs
    assert book.hot == 0
    kept = book.look(job_id(1)).extras
    assert (kept["max_cost"], kept["quality"]) == (5.0, gate)
    driver.free = FREE
    (sent,) = [one for one in forwards(driver.run()) if one.items[0].job_id == job_id(1)]
    assert phase(driver, 1) is Phase.FORWARDED
