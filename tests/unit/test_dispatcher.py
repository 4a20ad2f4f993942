"""The dispatcher where the model does not look: changed configuration, bounded memory, waking in time, what is said."""

import dataclasses
import struct

import pytest
from dispatcher_kit import (
    START_MS,
    Driver,
    cached_result,
    commanded,
    config,
    emitted,
    finished,
    forwards,
    item,
    job_id,
    payload,
    reported,
    request,
    submitted,
)

from shotbus.broker.config import ClassConfig
from shotbus.broker.dispatcher.bundles import START_MARGIN_MS
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Credit, Relay
from shotbus.broker.dispatcher.states import Phase
from shotbus.broker.stages import Timings


def driver_of(settings=None, bundles=8):
    driver = Driver(lambda: Dispatcher(0, 2, settings or config()))
    driver.free = {"aer": [Credit("w0", 0, bundles)]} if bundles else {}
    return driver


def submit(driver, *numbers, **changes):
    return driver.run(*[submitted(request(n, **changes), offset=n) for n in numbers])


def outcomes(commands):
    return [fields["outcome"] for fields in emitted(commands, "circuit_result")]


# --- configuration that changed under live jobs ---


def test_jobs_of_a_pool_that_is_no_longer_configured_wait_for_it():
    driver = driver_of(bundles=0)
    submit(driver, 1, deadline_ms=START_MS + 60_000)
    less = config()
    del less.pools["aer"]
    driver.build = lambda: Dispatcher(0, 2, less)
    driver.restart()
    driver.free = {"aer": [Credit("w0", 0, 8)]}
    assert forwards(driver.run()) == []
    assert driver.machine.waiting()["aer"][0] == 1
    driver.build = lambda: Dispatcher(0, 2, config())
    driver.restart()
    assert len(forwards(driver.run())) == 1


def test_a_worker_may_report_for_a_pool_that_is_no_longer_configured():
    driver = driver_of()
    (bundle,) = forwards(submit(driver, 1))
    less = config()
    del less.pools["aer"]
    driver.build = lambda: Dispatcher(0, 2, less)
    driver.restart()
    assert outcomes(driver.run(finished(bundle))) == ["succeeded"]


def test_jobs_of_a_class_that_is_no_longer_configured_still_run():
    driver = driver_of(bundles=0)
    submit(driver, 1)
    fewer = dataclasses.replace(config(), classes={"bulk": ClassConfig(1.0)})
    driver.build = lambda: Dispatcher(0, 2, fewer)
    driver.restart()
    driver.free = {"aer": [Credit("w0", 0, 1)]}
    assert driver.machine.waiting()["aer"][0] == 1
    assert len(forwards(driver.run())) == 1


# --- waiting ---


def test_a_job_without_a_deadline_does_not_wait_for_ever_behind_those_with_one():
    driver = driver_of(config(bundle_jobs=1), bundles=0)
    submit(driver, 1)
    for turn in range(20):
        driver.pass_time(600, seen=0.1)
        driver.free = {}
        submit(driver, 100 + turn, deadline_ms=driver.wall_ms + 3_000_000)
        driver.free = {"aer": [Credit("w0", 0, 1)]}
        (bundle,) = forwards(driver.run())
        if bundle.items[0].job_id == job_id(1):
            break
        driver.run(finished(bundle))
    assert turn <= 6, "its patience is an hour, its rivals' deadlines are 50 minutes away"


def test_the_queue_stage_adds_up_what_was_waited_and_survives_a_restart():
    driver = driver_of(bundles=0)
    submit(driver, 1, client_prepare_us=1_000_000, think_us=2_000_000)
    driver.pass_time(3, seen=0.1)
    driver.free = {"aer": [Credit("w0", 0, 1)]}
    (bundle,) = forwards(driver.run())
    driver.restart()
    driver.pass_time(7, seen=0.1)
    failed = item(job_id(1), 1, "TRANSIENT")
    driver.free = {}
    driver.run(reported("finished", bundle.bundle_id, items=[failed]))
    driver.pass_time(30, seen=0.1)
    driver.run()
    driver.pass_time(5, seen=0.1)
    driver.free = {"aer": [Credit("w0", 0, 1)]}
    (bundle,) = forwards(driver.run())
    (result,) = emitted(driver.run(finished(bundle)), "circuit_result")
    stages = Timings.unpack(result["timings"]).as_dict()
    assert stages["queue"] == pytest.approx(3 + 5)
    assert (stages["client-prepare"], stages["think"]) == (1.0, 2.0)


def test_admission_is_timed_from_the_record_on_the_bus():
    driver = driver_of()
    driver.pass_time(4, seen=0.1)
    (bundle,) = forwards(submit(driver, 1))
    (result,) = emitted(driver.run(finished(bundle)), "circuit_result")
    assert Timings.unpack(result["timings"]).seconds("admit") == pytest.approx(4)


# --- bounded memory ---


def test_what_came_and_went_leaves_nothing_in_heaps_and_ledger():
    driver = driver_of(config(max_waiting=100_000), bundles=0)
    year = START_MS + 365 * 86_400_000
    for number in range(1, 4_001):
        changes = {"not_before_ms": year - 1} if number % 2 else {}
        cancel = commanded("cancel", job_id(number))
        driver.run(submitted(request(number, deadline_ms=year, **changes), offset=number), cancel)
    machine = driver.machine
    assert len(machine.live) == 0
    assert len(machine.shard.agenda) < 4_000
    assert not [key for key in driver.ledger if not key.startswith((b"done/", b"meta/"))]


def test_a_full_shard_refuses_with_the_time_to_come_back_and_drops_nothing():
    driver = driver_of(config(max_waiting=6), bundles=0)
    (refusal,) = emitted(submit(driver, 1, 2, 3, 4), "refusal")
    assert (refusal["job_id"], refusal["problems"][0]["code"]) == (job_id(4), "SB-1111")
    assert refusal["retry_after_ms"] > 0
    driver.run(commanded("cancel", job_id(1)))
    assert emitted(submit(driver, 4), "refusal") == []


def test_however_much_happens_in_a_micro_batch_it_fits_its_event_records():
    driver = driver_of(config(max_waiting=10_000), bundles=0)
    batches = emitted(submit(driver, *range(1, 3_501), sweep_id="s"), "event_batch")
    assert [len(batch["events"]) for batch in batches] == [1_000, 1_000, 1_000, 500]
    assert len({batch["sequence"] for batch in batches}) == 4


# --- waking ---


def test_an_empty_shard_needs_no_waking():
    assert driver_of().machine.wake_at(driver_of().now) is None


def test_a_shard_wakes_for_the_next_due_job_deadline_and_lease():
    driver = driver_of()
    submit(driver, 1, not_before_ms=START_MS + 9_000)
    assert driver.machine.wake_at(driver.now) == 9.0
    submit(driver, 2, not_before_ms=START_MS + 8_000, deadline_ms=START_MS + 8_500)
    assert driver.machine.wake_at(driver.now) == 8.0
    (bundle,) = forwards(submit(driver, 3))
    driver.run(reported("started", bundle.bundle_id))
    driver.pass_time(3.0)
    assert driver.machine.wake_at(driver.now) == 5.0
    assert driver.machine.shard.bundles.next_lapse(driver.now) == 7.0


def test_a_shard_does_not_spin_while_an_unclaimed_bundle_runs_out():
    """Its start-by has passed, but not the margin that a slow clock elsewhere is given."""
    driver = driver_of()
    submit(driver, 1)
    driver.pass_time(20.0)
    assert driver.machine.wake_at(driver.now) == START_MARGIN_MS / 1_000
    driver.run()
    assert driver.machine.live[job_id(1)].phase is Phase.FORWARDED
    driver.pass_time(START_MARGIN_MS / 1_000)
    driver.run()
    assert driver.machine.live[job_id(1)].phase is Phase.RETRYING


def test_waiting_work_looks_for_credits_soon_unless_its_pool_is_paused():
    driver = driver_of(bundles=0)
    submit(driver, 1)
    assert driver.machine.wake_at(driver.now) < 0.1
    driver.run(commanded("pause", "aer", target="pool"))
    assert driver.machine.wake_at(driver.now) is None


# --- leases ---


@pytest.mark.parametrize("claimed", [True, False])
def test_after_a_taking_every_lease_has_a_full_period(claimed):
    driver = driver_of()
    (bundle,) = forwards(submit(driver, 1))
    if claimed:
        driver.run(reported("started", bundle.bundle_id))
    driver.pass_time(60.0, seen=9.9)
    driver.restart()
    driver.pass_time(9.9)
    driver.run()
    assert driver.machine.load() == {("aer", "w1" if claimed else "w0"): 1}
    driver.pass_time(0.2)
    driver.run()
    assert driver.machine.load() == {}


def test_a_lease_outlives_any_jump_of_the_wall_clock():
    driver = driver_of()
    (bundle,) = forwards(submit(driver, 1))
    driver.run(reported("started", bundle.bundle_id))
    for jump in (3_600.0, -7_200.0):
        driver.pass_time(jump, seen=1.0)
        driver.run()
    assert outcomes(driver.run(finished(bundle))) == ["succeeded"]


# --- what is said ---


def test_a_request_on_the_wrong_partition_is_relayed_once():
    driver = driver_of()
    stray = request(1, shard=1)
    (relay,) = driver.run(submitted(stray, offset=5))
    assert (type(relay), relay.partition, relay.reference.offset) == (Relay, 1, 5)
    (refusal,) = emitted(driver.run(submitted(stray, offset=6, relayed=True)), "refusal")
    assert refusal["problems"][0]["code"] == "SB-1109"


@pytest.mark.parametrize("seed", [None, 0, 7])
def test_the_seed_is_the_callers_or_follows_from_the_id(seed):
    driver, twin = driver_of(), driver_of()
    seeds = [forwards(submit(one, 1, seed=seed))[0].items[0].seed for one in (driver, twin)]
    assert seeds[0] == seeds[1] == (seeds[0] if seed is None else seed)
    assert 0 <= seeds[0] < 2**31


def test_unseeded_jobs_have_different_seeds():
    bundles = forwards(submit(driver_of(), 1, 2, 3))
    assert len({one.seed for bundle in bundles for one in bundle.items}) == 3


def test_an_answer_from_the_cache_says_so_and_takes_no_shots():
    driver = driver_of()
    commands = driver.run(submitted(request(1, seed=5), cached=cached_result()))
    (result,) = emitted(commands, "circuit_result")
    assert (result["outcome"], result["shots"], result["payload"]) == ("served_from_cache", 0, b"kept")
    assert driver.machine.live == {}


def test_another_tenants_repetition_of_a_finished_job_learns_nothing():
    driver = driver_of()
    (bundle,) = forwards(submit(driver, 1))
    driver.run(finished(bundle))
    commands = submit(driver, 1, tenant="eve")
    assert emitted(commands, "located") == []
    assert emitted(commands, "refusal")[0]["problems"][0]["code"] == "SB-1106"


def test_a_cancel_of_the_sweep_without_a_name_ends_nothing():
    driver = driver_of(bundles=0)
    submit(driver, 1)
    assert outcomes(driver.run(commanded("cancel", "", target="sweep"))) == []
    assert outcomes(driver.run(commanded("cancel", "aer", target="pool"))) == []
    assert len(driver.machine.live) == 1


def test_a_bundle_is_bounded_by_jobs_seconds_and_bytes():
    settings = config(bundle_jobs=1_000, max_waiting=10_000)
    driver = driver_of(settings, bundles=1)
    (bundle,) = forwards(submit(driver, *range(1, 1_001)))
    assert len(bundle.items) == 250, "half a second at 2 ms a point"
    driver = driver_of(settings, bundles=1)
    driver.machine.shard.speeds.observe("aer", 1e-6, 0)
    large = [dataclasses.replace(submitted(request(n), offset=n), size=200_000) for n in range(1, 9)]
    (bundle,) = forwards(driver.run(*large))
    assert len(bundle.items) == 3


@pytest.mark.parametrize(
    ("seconds", "learned"), [(1.0, True), (0.0, False), (float("inf"), False), (float("nan"), False)]
)
def test_the_estimate_follows_what_was_measured_unless_it_is_nonsense(seconds, learned):
    driver = driver_of()
    (bundle,) = forwards(submit(driver, 1))
    timings = Timings()
    timings.add("execute", 0.0)
    wire = timings.pack().replace(struct.pack("<d", 0.0), struct.pack("<d", seconds), 1)
    one = item(job_id(1), 1) | {"timings": wire}
    driver.run(reported("finished", bundle.bundle_id, items=[one]))
    submit(driver, 2, not_before_ms=START_MS + 1_000)
    assert driver.machine.live[job_id(2)].cost == (seconds if learned else 0.002)


def test_repetitions_and_fenced_reports_are_counted():
    driver = driver_of()
    (bundle,) = forwards(submit(driver, 1))
    submit(driver, 1)
    driver.run(finished(bundle), finished(bundle), finished(bundle, lease="other"))
    counters = driver.machine.take_counters()
    assert (counters.dedup_hits, counters.fenced) == (1, 2)
    assert driver.machine.take_counters().fenced == 0


def test_payloads_are_told_apart_by_all_of_their_hash():
    driver = driver_of(bundles=0)
    submit(driver, 1, payload_hash=payload(1))
    commands = submit(driver, 1, payload_hash=payload(2))
    assert emitted(commands, "refusal")[0]["problems"][0]["code"] == "SB-1106"
