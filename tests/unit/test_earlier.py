"""Earlier shots and estimates: when they are enough, when they count, and what is never added up."""

import json
from dataclasses import replace

import pytest
from dispatcher_kit import (
    PARTITIONS,
    SHARD,
    START_MS,
    Driver,
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
from hypothesis import given
from hypothesis import strategies as st
from reuse_kit import counts, estimated, record, result, sampled

from shotbus.broker.dispatcher.answers import drawn_seed
from shotbus.broker.dispatcher.earlier import MAX_RUNS, PRIOR_BYTES, check_reuse, prior_of, reused
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Credit
from shotbus.broker.dispatcher.reuse import age_ms
from shotbus.schemas.pub import pack_counts, unpack_result
from shotbus.workers.adapters.base import BatchItem, ItemResult
from shotbus.workers.running import Ran
from shotbus.workers.topup import with_priors

OLD = job_id(900)
AGO_US = (START_MS - 5_000) * 1000


def earlier(shots=40, **changes):
    """An earlier result of so many shots, five seconds old."""
    fields = {"payload": sampled({0: shots}), "finished_us": AGO_US, "seed": 11} | changes
    return result(OLD, **fields)


def asked(**changes):
    return request(1, **({"top_up": True} | changes))


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"top_up": True, "seed": 3}, "$.top_up"),
        ({"top_up": True, "mode": "estimate"}, "$.top_up"),
        ({"tolerance": 0.1}, "$.tolerance"),
        ({"top_up": True}, None),
        ({"tolerance": 0.0, "mode": "estimate"}, None),
    ],
    ids=str,
)
def test_only_unseeded_samples_are_topped_up_and_only_estimates_have_a_tolerance(changes, path):
    told = [problem.path for problem in check_reuse(request(1, **changes))]
    assert told == ([path] if path else [])


def test_all_the_shots_are_there_already():
    told = reused(asked(shots=40), earlier(), START_MS)
    assert (told["answered_by"], told["age_ms"], told["shots"]) == ("top_up", 5_000, 0)
    named = json.loads(told["provenance"])["reused"]
    assert named == {"job_id": OLD, "age_ms": 5_000, "shots": 40}
    assert reused(asked(shots=41), earlier(), START_MS) is None


@pytest.mark.parametrize(("stds", "enough"), [([0.1, 0.05], True), ([0.1, 0.11], False), ([0.0, 0.0], True)])
def test_an_estimate_is_enough_when_each_of_its_errors_is_small_enough(stds, enough):
    wanted = asked(mode="estimate", top_up=False, tolerance=0.1)
    told = reused(wanted, earlier(payload=estimated([0.5, 0.7], stds)), START_MS)
    assert (told is not None) is enough
    if told is not None:
        assert told["answered_by"] == "tolerance"
        assert json.loads(told["provenance"])["reused"]["largest_std"] == max(stds)


def test_the_missing_shots_are_what_the_point_with_the_fewest_is_short_of():
    result = earlier(payload=sampled({0: 30}, {1: 10, 2: 15}), points=2)
    assert prior_of(asked(points=2), result, 1, START_MS) == (OLD, 75)


@pytest.mark.parametrize(
    ("wanted", "result"),
    [
        ({}, {"tenant": "bob"}),
        ({"points": 2}, {}),
        ({"max_result_age_ms": 4_999}, {}),
        ({"shots": 40}, {}),
        ({}, {"payload": b""}),
        ({}, {"payload": b"junk"}),
        ({}, {"payload": estimated([0.5], [0.1])}),
        ({}, {"provenance": b" " * PRIOR_BYTES}),
        ({"top_up": False}, {}),
    ],
    ids=str,
)
def test_what_does_not_count(wanted, result):
    assert prior_of(asked(), earlier(), 1, START_MS) is not None
    assert prior_of(asked(**wanted), earlier(**result), 1, START_MS) is None


def topped(seeds, oldest_us=AGO_US):
    told = {"top_up": {OLD: {"seeds": list(seeds), "oldest_us": oldest_us}}}
    return earlier(answered_by="top_up", provenance=json.dumps(told).encode())


@given(st.lists(st.integers(0, 2**31 - 1), max_size=5), st.integers(0, 2**31 - 1))
def test_no_seed_is_ever_added_to_itself(seeds, seed):
    prior = prior_of(asked(), topped(seeds), seed, START_MS)
    assert (prior is None) == (seed in {*seeds, 11})


def test_a_result_of_very_many_runs_is_not_added_to():
    assert prior_of(asked(), topped(range(100, 99 + MAX_RUNS)), 1, START_MS) is None


def test_the_age_of_a_result_is_that_of_its_oldest_shots():
    old = topped([], oldest_us=AGO_US - 60_000_000)
    assert age_ms(old, START_MS) == 65_000
    assert prior_of(asked(max_result_age_ms=64_999), old, 1, START_MS) is None


# --- through the machine and the worker ---


@pytest.fixture
def driver():
    settings = config(bundle_jobs=1)
    made = Driver(lambda: Dispatcher(SHARD, PARTITIONS, settings))
    made.free = {"aer": [Credit("w1", 0, 1)]}
    return made


def topping(number=1, found=None, **changes):
    fields = asked(payload_hash=payload(number), **changes) | {"job_id": job_id(number)}
    return replace(submitted(fields, offset=number), history_key="w/here", cache_key="", earlier=found)


def ran(forward, prior):
    """What a worker makes of a bundle whose jobs are given an earlier result."""
    items = [
        BatchItem(one.job_id, one.attempt, one.seed, b"", overrides={}, shots=one.shots)
        for one in forward.items
    ]
    fresh = [ItemResult(payload=sampled({1: one.shots}), shots=one.shots) for one in items]
    return with_priors(Ran(items, fresh, b'{"backend":"aer"}', ""), {one.job_id: prior for one in items})


def told_of(driver, forward, done):
    """The result of a bundle of one job that a worker has run."""
    one, answer = forward.items[0], done.results[0]
    told = item(one.job_id, one.attempt) | {"payload": answer.payload, "shots": answer.shots}
    event = reported("finished", forward.bundle_id, items=[told])
    event.outcome["provenance"] = done.provenance
    return emitted(driver.run(event), "circuit_result")[0]


def test_only_the_missing_shots_run_and_the_answer_has_all_of_them(driver):
    (sent,) = forwards(driver.run(topping(found=earlier())))
    one = sent.items[0]
    assert (one.top_up, one.shots, one.seed) == (OLD, 60, drawn_seed(job_id(1)))
    told = told_of(
        driver, sent, ran(sent, record(OLD, payload=sampled({0: 40}), seed=11, finished_us=AGO_US))
    )
    assert (told["outcome"], told["answered_by"], told["shots"]) == ("succeeded", "top_up", 60)
    assert (told["age_ms"], told["cache_key"], told["history_key"]) == (5_000, "", "w/here")
    assert unpack_result(told["payload"]).row(0) == {"00": 40, "01": 60}
    named = json.loads(told["provenance"])["top_up"][job_id(1)]
    assert named == {"job_id": OLD, "shots": 40, "seeds": [11], "oldest_us": AGO_US}


def test_what_was_topped_up_is_topped_up_again_and_all_seeds_are_named(driver):
    (first,) = forwards(driver.run(topping(found=earlier())))
    prior = record(OLD, payload=sampled({0: 40}), seed=11, finished_us=AGO_US)
    told = told_of(driver, first, ran(first, prior))
    known = result(
        job_id(1), **{name: told[name] for name in ("payload", "provenance", "seed", "finished_us")}
    )
    (second,) = forwards(driver.run(topping(2, known | {"answered_by": "top_up"}, shots=150)))
    assert second.items[0].shots == 50
    changes = {name: known[name] for name in ("payload", "provenance", "seed", "finished_us")}
    told = told_of(driver, second, ran(second, record(job_id(1), answered_by="top_up", **changes)))
    named = json.loads(told["provenance"])["top_up"][job_id(2)]
    assert named["seeds"] == [11, drawn_seed(job_id(1))]
    assert named["oldest_us"] == AGO_US
    assert unpack_result(told["payload"]).row(0) == {"00": 40, "01": 110}


def test_a_job_runs_all_its_shots_when_it_is_sent_to_another_pool(driver):
    driver.machine.handle(topping(found=earlier()), driver.now)
    job = driver.machine.shard.live(job_id(1))
    driver.machine.shard.move_to(job, "noop", driver.now)
    assert job.extras["history"] == "w"
    assert "top_up" not in job.extras


def test_enough_shots_answer_at_once_and_a_restart_keeps_what_is_missing(driver):
    (told,) = emitted(driver.run(topping(found=earlier(100))), "circuit_result")
    assert (told["outcome"], told["answered_by"]) == ("served_from_cache", "top_up")
    driver.free = {}
    driver.run(topping(2, earlier()))
    driver.restart()
    driver.free = {"aer": [Credit("w1", 0, 1)]}
    (sent,) = forwards(driver.run())
    assert (sent.items[0].top_up, sent.items[0].shots) == (OLD, 60)


def test_a_request_that_cannot_be_topped_up_is_refused(driver):
    commands = driver.run(topping(seed=3))
    assert [one["problems"][0]["path"] for one in emitted(commands, "refusal")] == ["$.top_up"]


def test_a_calibration_that_changed_meanwhile_takes_the_answer_out_of_its_place(driver):
    event = replace(topping(), calibration="monday", cache_key="k")
    (sent,) = forwards(driver.run(event))
    done = finished(sent)
    done.outcome["calibration_id"] = "tuesday"
    (told,) = emitted(driver.run(done), "circuit_result")
    assert (told["cache_key"], told["history_key"]) == ("", "w")


def test_shots_that_do_not_add_up_fail_the_attempt():
    item_ = BatchItem("j", 1, 5, b"", shots=10)
    other = pack_counts(counts({0: 1}, registers=(("d", 2),)))
    fresh = ItemResult(payload=sampled({0: 10}), shots=10)
    done = with_priors(Ran([item_], [fresh], b"{}", ""), {"j": record(OLD, payload=other)})
    assert [one.problems[0].code for one in done.results] == ["SB-1004"]
    assert json.loads(done.provenance) == {}
