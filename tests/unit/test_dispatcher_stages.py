"""What a rule has a job do on cheap pools first: pre-screen, green run, baseline; and what it demands."""

import json

import pytest
from asking_kit import events
from cheap_kit import PROBLEM, answered, asked, pools, room_in
from dispatcher_kit import PARTITIONS, SHARD, Driver, commanded, emitted, forwards, job_id, reported

from shotbus.broker.config import BudgetConfig
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.states import Phase
from shotbus.broker.policy.config import PrescreenConfig, Span

SCREEN = {"prescreen": PrescreenConfig("aer", "min_ev", Span("..-1.0"))}


@pytest.fixture
def driver():
    return Driver(lambda: Dispatcher(SHARD, PARTITIONS, pools()))


def requiring(*names):
    return {"requires": names}


def sent_to(driver, pool, *events):
    """The one bundle that leaves when only this pool has room."""
    driver.free = room_in(pool)
    (sent,) = forwards(driver.run(*events))
    driver.free = {}
    assert sent.pool == pool
    return sent


def result(commands):
    (told,) = emitted(commands, "circuit_result")
    return told


@pytest.mark.parametrize("restarted", [False, True])
def test_a_survivor_goes_on_to_its_own_pool_and_the_event_has_the_terms(driver, restarted):
    sent = sent_to(driver, "aer", asked(decision=SCREEN))
    if restarted:
        driver.restart()
    told = events(driver.run(answered(sent, -1.2)))[-1]
    assert (told["cause"], told["pool"]) == ("reroute", "qpu")
    terms = json.loads(told["detail"])
    assert (terms["quantity"], terms["value"], terms["keep"]) == ("min_ev", -1.2, "..-1.0")
    if restarted:
        driver.restart()
    sent = sent_to(driver, "qpu")
    assert sent.items[0].attempt == 2
    last = result(driver.run(answered(sent, -1.3)))
    assert (last["outcome"], last["pool"], last.get("answered_by", "run")) == ("succeeded", "qpu", "run")


def test_who_does_not_survive_ends_with_the_cheap_answer_and_says_so(driver):
    sent = sent_to(driver, "aer", asked(decision=SCREEN))
    commands = driver.run(answered(sent, -0.2))
    told = result(commands)
    assert (told["outcome"], told["answered_by"], told["pool"]) == ("succeeded", "prescreen", "aer")
    assert json.loads(told["provenance"])["prescreen"]["instead_of"] == "qpu"
    assert json.loads(events(commands)[-1]["detail"])["value"] == -0.2
    assert not driver.machine.live


def test_what_cannot_be_looked_at_goes_on(driver):
    sent = sent_to(driver, "aer", asked(decision=SCREEN))
    driver.run(answered(sent, payload=b"nothing that can be read"))
    assert driver.machine.live[job_id(1)].pool == "qpu"


def test_a_baseline_is_kept_and_the_answer_says_how_far_it_is_from_it(driver):
    sent = sent_to(driver, "classical", asked(decision=requiring("baseline"), problem=PROBLEM))
    driver.run(answered(sent, -1.0))
    driver.restart()
    sent = sent_to(driver, "qpu")
    told = result(driver.run(answered(sent, -1.2, std=0.1)))
    assert told["deviation"] == pytest.approx(2.0)
    assert told["improvement"] == pytest.approx(0.2)


def test_one_run_on_the_simulator_serves_every_stage_that_it_can(driver):
    decision = SCREEN | requiring("green_run", "baseline")
    driver.run(answered(sent_to(driver, "aer", asked(decision=decision)), -1.2))
    told = result(driver.run(answered(sent_to(driver, "qpu"), -1.2)))
    assert (told["attempt"], told["deviation"]) == (2, 0.0)


def test_stages_on_several_pools_come_one_after_the_other(driver):
    decision = SCREEN | requiring("green_run", "baseline")
    driver.run(answered(sent_to(driver, "aer", asked(decision=decision, problem=PROBLEM)), -1.2))
    driver.restart()
    driver.run(answered(sent_to(driver, "classical"), -1.25))
    assert result(driver.run(answered(sent_to(driver, "qpu"), -1.2)))["attempt"] == 3


def test_a_green_run_is_no_stage_for_what_runs_on_a_simulator_anyway(driver):
    told = driver.run(answered(sent_to(driver, "aer", asked(pool="aer", decision=requiring("green_run")))))
    assert result(told)["attempt"] == 1


def test_a_stage_that_fails_is_repeated_and_then_ends_the_job(driver):
    sent = sent_to(driver, "aer", asked(decision=requiring("green_run")))
    driver.run(answered(sent, error_class="TRANSIENT"))
    assert driver.machine.live[job_id(1)].phase is Phase.RETRYING
    driver.pass_time(10, seen=0)
    told = driver.run(answered(sent_to(driver, "aer"), error_class="INVALID"))
    assert result(told)["outcome"] == "failed"


def test_a_chain_does_not_lead_to_hardware_past_a_green_run(driver):
    sent = sent_to(driver, "aer", asked(decision=requiring("green_run"), steps=["other", "classical"]))
    told = result(driver.run(answered(sent, error_class="INVALID")))
    assert told["outcome"] == "failed"


def test_stages_go_on_while_the_jobs_own_pool_is_closed(driver):
    opens = driver.wall_ms + 60_000
    sent = sent_to(driver, "aer", asked(decision=SCREEN | {"not_before_ms": opens}))
    driver.run(answered(sent, -2.0))
    job = driver.machine.live[job_id(1)]
    assert (job.phase, job.pool, job.not_before_ms) == (Phase.DEFERRED, "qpu", opens)
    driver.restart()
    driver.pass_time(61)
    sent_to(driver, "qpu")


def test_a_cancel_during_a_stage_ends_the_job(driver):
    sent = sent_to(driver, "aer", asked(decision=SCREEN))
    driver.run(reported("started", sent.bundle_id))
    assert result(driver.run(commanded("cancel", job_id(1))))["outcome"] == "cancelled"
    assert not emitted(driver.run(answered(sent, -2.0)), "circuit_result")


def test_another_pool_cannot_be_wished_for_to_evade_a_stage(driver):
    wish = commanded("reprioritise", job_id(1))
    wish.control["arguments"] = {"pool": "other"}
    (told,) = emitted(driver.run(asked(decision=SCREEN), wish), "located")
    assert told["problems"] == ["1: its rule has it run elsewhere first"]


def test_what_the_stages_took_is_part_of_the_bill(driver):
    sent = sent_to(driver, "aer", asked(decision=SCREEN))
    driver.run(answered(sent, -2.0, backend_seconds=2.0))
    told = result(driver.run(answered(sent_to(driver, "qpu"), backend_seconds=1.0)))
    assert told["backend_seconds"] == 3.0


@pytest.mark.parametrize(("resource", "refused"), [("shots", True), ("money", False)])
def test_a_demanded_budget_must_be_one_of_money(resource, refused):
    budgets = {"b": BudgetConfig(tenant="ada", resource=resource, limit=1e6)}
    driver = Driver(lambda: Dispatcher(SHARD, PARTITIONS, pools(budgets=budgets)))
    told = emitted(driver.run(asked(decision=requiring("budget"))), "refusal")
    assert [one["code"] for one in told[0]["problems"]] == ["SB-1155"] if refused else not told


def test_a_demand_that_no_pool_can_meet_is_refused(driver):
    told = driver.run(asked(decision=requiring("green_run"), mode="sample", shots=0, observables=b""))
    (refusal,) = emitted(told, "refusal")
    assert refusal["problems"][0]["code"] in ("SB-1103", "SB-1155")
