"""Quality gates on their way through the dispatcher: a rule's demands, what a failed gate leads to, earlier answers."""

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
    job_id,
    payload,
    request,
    submitted,
)
from policy_kit import decide, job, looked_at, rule
from reuse_kit import estimated, result

from shotbus.broker.config import Config
from shotbus.broker.config_parse import parse
from shotbus.broker.config_rules import check_config
from shotbus.broker.dispatcher.keys import Targets
from shotbus.broker.dispatcher.lookups import Lookups
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Credit, Recalled
from shotbus.broker.policy.decision import Decision
from shotbus.broker.policy.steps import Step
from shotbus.broker.store.memory import MemoryStore
from shotbus.broker.telemetry import Metrics
from shotbus.schemas.errors import Problem

DEMAND = {"quality.rule.max_stderr": "0.01"}
ROOM = {"aer": [Credit("w1", 0, 1)], "noop": [Credit("w2", 0, 1)]}
WIDE = {"registers": [{"name": "c", "width": 3}], "observables": 0, "shape": [1]}


@pytest.fixture
def driver():
    made = Driver(lambda: Dispatcher(SHARD, PARTITIONS, config(bundle_jobs=1)))
    made.free = ROOM
    return made


def estimation(number=1, *, steps=(), demand=DEMAND, **changes):
    fields = request(number, payload_hash=payload(number), mode="estimate", observables=b"o", **changes)
    trail = ({"step": "rule"}, {"step": "quality"}, {"step": "decided"})
    decision = Decision("r", "v", "aer", fallback=tuple(map(Step.parse, steps)), trail=trail, quality=demand)
    return replace(submitted(fields, offset=number), decision=decision, history_key="w/here")


def unstable(sent):
    failed = Problem("SB-5011", "$.options.quality.rule.max_stderr", limit="0.01", actual="0.03 at point 0")
    event = finished(sent, "UNSTABLE")
    event.outcome["items"][0]["problems"] = [failed.as_record()]
    return event


def later(driver):
    driver.pass_time(10)
    return driver.run()


def overrides(commands):
    (sent,) = forwards(commands)
    return sent, sent.items[0].overrides


def test_a_rules_gate_goes_with_every_attempt_and_is_kept_over_a_restart(driver):
    sent, told = overrides(driver.run(estimation(options={"quality.range": "0..1"})))
    assert told == DEMAND
    driver.run(unstable(sent))
    driver.restart()
    _, again = overrides(later(driver))
    assert again == {**DEMAND, "recompile": "true"}


def test_a_job_of_no_rule_has_its_own_gate_in_its_request_alone(driver):
    _, told = overrides(driver.run(estimation(demand={}, options={"quality.range": "0..1"})))
    assert told == {}


def test_an_answer_that_fails_its_gate_is_compiled_anew_and_then_goes_down_the_chain(driver):
    sent, _ = overrides(driver.run(estimation(steps=("noop",))))
    events = [one for batch in emitted(driver.run(unstable(sent)), "event_batch") for one in batch["events"]]
    (retried,) = [
        json.loads(one["detail"].partition("{")[1] + one["detail"].partition("{")[2]) for one in events
    ]
    assert retried["overrides"] == {"recompile": "true"}
    assert retried["problems"][0]["actual"] == "0.03 at point 0"
    again, _ = overrides(later(driver))
    (elsewhere,) = forwards(driver.run(unstable(again)))
    assert (again.pool, elsewhere.pool) == ("aer", "noop")
    assert elsewhere.items[0].overrides["quality.rule.max_stderr"] == "0.01"
    told = emitted(driver.run(finished(elsewhere)), "circuit_result")[0]
    assert (told["outcome"], told["fallback_from"]) == ("succeeded_by_fallback", "aer")


def test_without_a_chain_the_job_fails_with_the_gate_that_was_missed(driver):
    sent, _ = overrides(driver.run(estimation()))
    driver.run(unstable(sent))
    again, _ = overrides(later(driver))
    told = emitted(driver.run(unstable(again)), "circuit_result")[0]
    assert (told["outcome"], told["problems"][0]["code"]) == ("failed", "SB-5011")


@pytest.mark.parametrize(("std", "outcome"), [(0.005, "succeeded_by_fallback"), (0.02, "")])
def test_an_earlier_result_answers_only_if_it_passes_the_gate(std, outcome):
    driver = Driver(lambda: Dispatcher(SHARD, PARTITIONS, config(bundle_jobs=1, max_attempts=1)))
    driver.free = ROOM
    (sent,) = forwards(driver.run(estimation(steps=("cache:60", "noop"))))
    driver.run(finished(sent, "TRANSIENT"))
    known = result(job_id(900), finished_us=START_MS * 1000, payload=estimated([[0.5]], [[std]]))
    commands = driver.run(Recalled(job_id(1), known))
    assert [one["outcome"] for one in emitted(commands, "circuit_result")] == [outcome] * bool(outcome)
    assert [one.pool for one in forwards(commands)] == ["noop"] * (not outcome)


def test_an_answer_of_a_job_without_the_rules_gate_is_not_found_for_one_with_it():
    lookups = Lookups(MemoryStore(), Metrics(role="dispatcher", version="1"), Targets(config()), lambda: True)
    keyed = [lookups._keyed(estimation(seed=1, demand=demand), always=True) for demand in ({}, DEMAND)]
    assert keyed[0].cache_key != keyed[1].cache_key
    assert keyed[0].history_key.partition("/")[0] == keyed[1].history_key.partition("/")[0]
    assert keyed[0].history_key != keyed[1].history_key


def test_outcomes_that_no_answer_to_a_job_can_have_are_a_demand_that_cannot_be_met(driver):
    event = submitted(request(expected=WIDE))
    demand = {"quality.rule.outcomes": "00", "quality.rule.share": "0.5"}
    refused = driver.run(replace(event, decision=Decision("r", "v", "aer", quality=demand)))
    (told,) = emitted(refused, "refusal")
    assert [one["code"] for one in told["problems"]] == ["SB-1155"]


def test_a_malformed_gate_is_refused_at_the_door_with_everything_that_is_wrong(driver):
    options = {"quality.max_stderr": "no", "quality.parity": "even:0.5", "quality.colour": "red"}
    (told,) = emitted(
        driver.run(submitted(request(mode="estimate", observables=b"o", options=options))), "refusal"
    )
    assert [one["code"] for one in told["problems"]] == ["SB-1108"] * 3


def test_a_rule_demands_what_concerns_the_kind_of_answer_and_the_trail_says_so():
    gate = 'then = { pools = ["cheap"], quality = { max_stderr = 0.01, parity = "even:0.9" } }'
    policy = rule(gate)
    estimate, sample, exact = (
        decide(policy, job(mode=mode, shots=shots))
        for mode, shots in (("estimate", 9), ("sample", 9), ("estimate", 0))
    )
    assert estimate.quality == DEMAND
    assert sample.quality == {"quality.rule.parity": "even:0.9"}
    assert exact.quality == {}
    assert looked_at(estimate, "quality") == [{"step": "quality", "rule": "r", "demands": DEMAND}]
    assert looked_at(exact, "quality")[0]["demands"] == "nothing of this kind of answer"
    assert decide(rule('then = { pools = ["cheap"] }')).quality == {}


def test_what_is_wrong_with_a_rules_gate_is_told_with_its_place():
    quality = {"max_stderr": "-1", "outcomes": "00,1", "range": "0..1"}
    rules = [{"name": "r", "then": {"quality": quality}}]
    problems = check_config(parse(Config, {"routing": {"rules": rules}}))
    assert sorted((one.code, one.path.rpartition(".")[2]) for one in problems) == [
        ("SB-2002", "max_stderr"),
        ("SB-2002", "outcomes"),
        ("SB-2002", "share"),
    ]
