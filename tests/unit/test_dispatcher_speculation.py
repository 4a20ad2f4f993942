"""A cheap answer is prepared beside a job: used when waiting is worth less, when the rest fails, or compared."""

import json
from dataclasses import replace

import pytest
from cheap_kit import PROBLEM, answered, asked, energy, pools, room_in
from dispatcher_kit import PARTITIONS, SHARD, START_MS, Driver, commanded, emitted, forwards, job_id, reported
from reuse_kit import result as earlier

from shotbus.broker.dispatcher.largeanswers import LargeAnswers
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Bury, Recall, Recalled
from shotbus.broker.dispatcher.states import Phase
from shotbus.schemas.pub import unpack_result


@pytest.fixture
def driver():
    return Driver(lambda: Dispatcher(SHARD, PARTITIONS, pools()))


def spec(mode="answer", **changes):
    """A job for the QPU that wants a cheap answer prepared by the classical pool."""
    return asked(**{"speculate": mode, "problem": PROBLEM, **changes})


def sent_to(driver, pool, *events):
    """The bundle that leaves for this pool, which alone has room."""
    driver.free = room_in(pool)
    found = [one for one in forwards(driver.run(*events)) if one.pool == pool]
    driver.free = {}
    assert len(found) == 1
    return found[0]


def prepare(driver, event, value=-1.0, **changes):
    """Submit, and have the cheap answer come; returns what that caused."""
    return driver.run(answered(sent_to(driver, "classical", event), value, **changes))


def results(commands, *, late=False):
    return [one for one in emitted(commands, "circuit_result") if bool(one.get("late")) is late]


def event_of(commands, cause):
    found = [one for batch in emitted(commands, "event_batch") for one in batch["events"]]
    return next(one for one in found if one["cause"] == cause)


COSTLY = {"value": 1.0, "value_per_second": 1e6}


def test_a_job_that_waits_is_answered_at_once_when_waiting_costs_more(driver):
    commands = prepare(driver, spec(**COSTLY))
    (told,) = results(commands)
    assert (told["job_id"], told["outcome"]) == (job_id(1), "succeeded_by_fallback")
    assert (told["answered_by"], told["fallback_from"]) == ("speculation", "qpu")
    assert json.loads(told["provenance"])["speculation"]["value_of_waiting"] < 0
    assert json.loads(event_of(commands, "succeeded_by_fallback")["detail"])["source"] == "unknown"
    driver.free = room_in("qpu")
    assert not forwards(driver.run())
    assert not driver.machine.live


@pytest.mark.parametrize("restarted", [False, True])
def test_what_runs_goes_on_and_its_answer_comes_late_with_its_deviation(driver, restarted):
    cheap = sent_to(driver, "classical", spec(**COSTLY))
    sent = sent_to(driver, "qpu")
    driver.run(reported("started", sent.bundle_id))
    (told,) = results(driver.run(answered(cheap, -1.0)))
    assert told["outcome"] == "succeeded_by_fallback"
    if restarted:
        driver.restart()
    commands = driver.run(answered(sent, -1.2, std=0.1))
    (late,) = results(commands, late=True)
    assert (late["job_id"], late["pool"], late["outcome"]) == (job_id(1), "qpu", "succeeded")
    assert late["deviation"] == pytest.approx(2.0)
    assert not results(commands)
    assert not driver.machine.shard.ghosts


def test_a_job_whose_waiting_is_worth_it_gets_the_better_answer(driver):
    commands = prepare(driver, spec(value=1e6, value_per_second=0.0, confidence=0.1))
    assert not results(commands)
    assert json.loads(event_of(commands, "change")["detail"])["speculation"]["gain"] == pytest.approx(9e5)
    (told,) = results(driver.run(answered(sent_to(driver, "qpu"), -1.2, std=0.1)))
    assert (told["outcome"], told["deviation"]) == ("succeeded", pytest.approx(2.0))


@pytest.mark.parametrize(("paused", "outcomes"), [(False, []), (True, ["succeeded_by_fallback"])])
def test_who_waits_for_a_pool_that_stands_still_is_answered_where_waiting_costs_anything(
    driver, paused, outcomes
):
    if paused:
        driver.run(commanded("pause", "qpu", target="pool"))
    told = prepare(driver, spec(value=10.0, value_per_second=0.001, confidence=0.1))
    assert [one["outcome"] for one in results(told)] == outcomes


def test_compare_waits_for_the_better_answer_whatever_it_costs(driver):
    assert not results(prepare(driver, spec("compare", **COSTLY)))
    driver.restart()
    (told,) = results(driver.run(answered(sent_to(driver, "qpu"), -1.2, std=0.1)))
    assert told["deviation"] == pytest.approx(2.0)
    assert unpack_result(told["payload"]).evs == pytest.approx(-1.2)


def test_blend_mixes_both_and_says_so(driver):
    prepare(driver, spec("blend"), -1.0, payload=energy(-1.0, 0.1))
    (told,) = results(driver.run(answered(sent_to(driver, "qpu"), -1.2, std=0.1)))
    assert (told["outcome"], told["answered_by"], told["cache_key"]) == ("succeeded", "blend", "")
    assert unpack_result(told["payload"]).evs == pytest.approx(-1.1)
    assert json.loads(told["provenance"])["blend"]["with"] == "classical"


def test_an_exact_cheap_answer_is_compared_instead_of_mixed_in(driver):
    prepare(driver, spec("blend"))
    (told,) = results(driver.run(answered(sent_to(driver, "qpu"), -1.2, std=0.1)))
    assert told.get("answered_by", "run") == "run"
    assert unpack_result(told["payload"]).evs == pytest.approx(-1.2)


@pytest.mark.parametrize("mode", ["answer", "compare", "blend"])
@pytest.mark.parametrize("error_class", ["INVALID", "POISON"])
def test_when_the_rest_fails_the_prepared_answer_is_used(driver, mode, error_class):
    prepare(driver, spec(mode))
    commands = driver.run(answered(sent_to(driver, "qpu"), error_class=error_class))
    (told,) = results(commands)
    assert (told["outcome"], told["answered_by"]) == ("succeeded_by_fallback", "speculation")
    assert not [one for one in commands if isinstance(one, Bury)]


@pytest.mark.parametrize(("error_class", "outcome"), [("", "succeeded_by_fallback"), ("INVALID", "failed")])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_job_that_failed_waits_for_the_answer_that_is_being_prepared(
    driver, restarted, error_class, outcome
):
    cheap = sent_to(driver, "classical", spec())
    assert not results(driver.run(answered(sent_to(driver, "qpu"), error_class="INVALID")))
    assert driver.machine.live[job_id(1)].phase is Phase.FALLING_BACK
    if restarted:
        driver.restart()
        assert not [one for one in driver.run() if isinstance(one, Recall)]
    (told,) = results(driver.run(answered(cheap, error_class=error_class)))
    assert (told["outcome"], told["job_id"]) == (outcome, job_id(1))


@pytest.mark.parametrize("restarted", [False, True])
def test_near_its_deadline_a_job_takes_what_is_prepared(driver, restarted):
    prepare(driver, spec("compare", deadline_ms=driver.wall_ms + 60_000))
    if restarted:
        driver.restart()
    driver.pass_time(58.9)
    assert not results(driver.run())
    assert driver.machine.wake_at(driver.now) <= 0.1
    driver.pass_time(0.2)
    (told,) = results(driver.run())
    assert told["outcome"] == "succeeded_by_fallback"
    assert not driver.run()


def test_an_earlier_result_is_the_cheap_answer_where_the_chain_says_so(driver):
    told = driver.run(asked(steps=["cache:60"], speculate="answer", **COSTLY))
    (recall,) = [one for one in told if isinstance(one, Recall)]
    assert recall.job_id != job_id(1)
    driver.restart()
    assert [one.job_id for one in driver.run() if isinstance(one, Recall)] == [recall.job_id]
    found = earlier(job_id(900), finished_us=(START_MS - 1_000) * 1000, payload=energy(-1.0))
    (answer,) = results(driver.run(Recalled(recall.job_id, found)))
    assert (answer["answered_by"], answer["age_ms"]) == ("speculation", 1_000)


def test_a_cheap_answer_that_is_not_to_be_had_changes_nothing(driver):
    assert not results(prepare(driver, spec(**COSTLY), error_class="INVALID"))
    (told,) = results(driver.run(answered(sent_to(driver, "qpu"), -1.2)))
    assert told["outcome"] == "succeeded"


def test_an_answer_too_large_for_the_row_is_prepared_again_after_a_restore(driver):
    large = energy(-1.0) + bytes(20_000)
    cheap = sent_to(driver, "classical", spec("compare"))
    driver.run(answered(cheap, payload=large))
    driver.restart()
    again = sent_to(driver, "classical")
    assert again.items[0].job_id != cheap.items[0].job_id
    driver.run(answered(again))
    (told,) = results(driver.run(answered(sent_to(driver, "qpu"), -1.2, std=0.1)))
    assert told["deviation"] == pytest.approx(2.0)


def test_an_answer_for_which_there_is_no_room_is_told_and_the_job_goes_on_without(driver):
    driver.machine.shard.beside._large = LargeAnswers(1_000)
    cheap = sent_to(driver, "classical", spec("compare"))
    commands = driver.run(answered(cheap, payload=energy(-1.0) + bytes(20_000)))
    assert "no room to keep its answer" in event_of(commands, "change")["detail"]
    (told,) = results(driver.run(answered(sent_to(driver, "qpu"), -1.2, std=0.1)))
    assert told["outcome"] == "succeeded"
    assert "deviation" not in told


def test_large_answers_are_held_up_to_a_number_of_bytes():
    held = LargeAnswers(100)
    assert held.put("a", {"payload": bytes(60), "provenance": b""})
    assert not held.put("b", {"payload": bytes(30), "provenance": bytes(11)})
    assert held.put("a", {"payload": bytes(90), "provenance": b""})
    held.drop("a")
    held.drop("a")
    assert held.put("b", {"payload": bytes(100), "provenance": b""})
    assert (held.get("a"), len(held.get("b")["payload"])) == (None, 100)


def test_a_cancel_ends_what_runs_beside_the_job(driver):
    cheap = sent_to(driver, "classical", spec(**COSTLY))
    (told,) = results(driver.run(commanded("cancel", job_id(1))))
    assert (told["outcome"], len(driver.machine.live)) == ("cancelled", 0)
    assert not results(driver.run(answered(cheap)))


def test_it_is_nobodys_job(driver):
    driver.run(spec(sweep_id="s", shard_index=0))
    (other,) = set(driver.machine.live) - {job_id(1)}
    wish = commanded("reprioritise", "e", target="experiment")
    wish.control["arguments"] = {"class": "bulk"}
    asks = [commanded("locate", other), commanded("locate", "s", target="sweep"), wish]
    unknown, sweep, changed = emitted(driver.run(*asks, commanded("cancel", other)), "located")
    assert unknown["status"] == "UNKNOWN"
    assert (sweep["jobs"], changed["changed"]) == (1, 1)
    assert set(driver.machine.live) == {job_id(1), other}
    assert driver.machine.shard.jobs.of_tenant("ada") == 2


def test_there_is_no_companion_where_there_is_no_room(driver):
    settings = replace(pools(), limits=replace(pools().limits, max_waiting_tenant=2))
    driver = Driver(lambda: Dispatcher(SHARD, PARTITIONS, settings))
    driver.run(spec())
    assert set(driver.machine.live) == {job_id(1)}
