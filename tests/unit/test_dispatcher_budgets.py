"""Budgets at the shard: set aside before a job waits, billed by what it took, freed at its end."""

from dataclasses import replace

import pytest
from asking_kit import FREE, changed, job, phase, results
from dispatcher_kit import (
    PARTITIONS,
    SHARD,
    commanded,
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
from funded_kit import Funded, with_money

from shotbus.broker.config import BudgetConfig, PriceConfig
from shotbus.broker.dispatcher.job import shared_chain
from shotbus.broker.dispatcher.messages import Recall
from shotbus.broker.dispatcher.states import Phase
from shotbus.broker.policy.decision import Decision
from shotbus.broker.policy.steps import Step
from shotbus.broker.treasury.answers import Refused
from shotbus.schemas.ids import affine_route
from shotbus.schemas.ids import job_id as make_job_id

UNIT = 1_000_000


@pytest.fixture
def driver():
    made = Funded(with_money(2.0))
    made.free = FREE
    return made


def refusals(commands):
    return [
        (one["job_id"], one["problems"][0]["code"], one["retry_after_ms"] > 0)
        for one in emitted(commands, "refusal")
    ]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_submission_waits_for_its_budget_and_goes_on_when_it_is_granted(driver, restarted):
    assert not forwards(driver.run(job()))
    assert phase(driver) is Phase.VALIDATING
    if restarted:
        driver.restart()
        driver.run()
    (sent,) = forwards(driver.bank())
    assert sent.items[0].job_id == job_id(1)
    assert driver.held(job_id(1)) == UNIT


def test_what_the_budget_does_not_cover_is_refused_with_the_time_to_come_again(driver):
    driver.run(job(1), job(2), job(3))
    assert refusals(driver.bank()) == [(job_id(3), "SB-1121", True)]
    assert job_id(3) not in driver.machine.live


def test_a_tenant_without_a_budget_asks_nobody(driver):
    assert forwards(driver.run(job(tenant="bob")))


def test_a_silent_treasury_lets_nobody_wait_for_ever(driver):
    driver.run(job())
    driver.pass_time(11)
    ((who, _, comes_again),) = refusals(driver.run())
    assert (who, comes_again) == (job_id(1), True)


def test_a_job_is_billed_by_what_its_worker_says_and_the_rest_is_free_again(driver):
    driver.run(job())
    (sent,) = forwards(driver.bank())
    told = item(job_id(1), 1) | {"cost": 0.25, "backend_seconds": 3.5}
    (answer,) = emitted(driver.run(reported("finished", sent.bundle_id, items=[told])), "circuit_result")
    assert (answer["cost"], answer["backend_seconds"]) == (0.25, 3.5)
    driver.pass_time(2)
    driver.run()
    driver.bank()
    assert (driver.spent(), driver.held(job_id(1))) == (UNIT // 4, 0)


def test_a_bill_counts_on_a_pool_without_a_price_too(driver):
    (sent,) = forwards(driver.run(job(1, "noop")))
    told = item(job_id(1), 1) | {"cost": 0.5}
    (answer,) = emitted(driver.run(reported("finished", sent.bundle_id, items=[told])), "circuit_result")
    assert answer["cost"] == 0.5


def test_without_the_providers_bill_the_price_list_counts(driver):
    driver.run(job())
    (sent,) = forwards(driver.bank())
    assert emitted(driver.run(finished(sent)), "circuit_result")[0]["cost"] == 1.0


@pytest.mark.parametrize("end", ["cancelled", "expired"])
def test_who_ends_without_running_frees_what_was_set_aside(driver, end):
    driver.free = {}
    driver.run(job(1, deadline_ms=driver.wall_ms + 5_000), job(2))
    driver.bank()
    assert driver.held(job_id(1)) == UNIT
    if end == "expired":
        driver.pass_time(6)
    told = driver.run(*([commanded("cancel", job_id(1))] if end == "cancelled" else []))
    assert results(told) == {job_id(1): end}
    assert driver.held(job_id(1)) == 0
    # There is room for another one now.
    driver.run(job(3))
    driver.bank()
    assert phase(driver, 3) is Phase.WAITING


def failing_on_the_free_pool(driver):
    """A job that has nothing set aside fails, and the next pool of its chain costs."""
    (sent,) = forwards(driver.run(job(1, "noop")))
    driver.machine.shard.jobs.get(job_id(1)).chain = shared_chain(("aer",))
    return driver.run(finished(sent, "TRANSIENT"))


def test_a_rerouted_job_is_put_off_until_it_can_be_paid_for_there(driver):
    assert not forwards(failing_on_the_free_pool(driver))
    assert phase(driver) is Phase.DEFERRED
    driver.bank()
    driver.pass_time(1)
    (sent,) = forwards(driver.run())
    assert (sent.pool, driver.held(job_id(1))) == ("aer", UNIT)


def test_a_job_that_is_moved_to_a_dearer_pool_is_paid_for_first(driver):
    driver.free = {}
    driver.run(job(1, "noop"))
    wish = commanded("reprioritise", job_id(1))
    wish.control["arguments"] = {"pool": "aer"}
    driver.run(wish)
    assert phase(driver) is Phase.DEFERRED
    driver.free = FREE
    driver.bank()
    driver.pass_time(1)
    assert [one.pool for one in forwards(driver.run())] == ["aer"]
    assert driver.held(job_id(1)) == UNIT


def moved(driver, pool):
    wish = commanded("reprioritise", job_id(1))
    wish.control["arguments"] = {"pool": pool}
    return changed(driver.run(wish))


def waits_for(driver):
    (told,) = emitted(driver.run(commanded("locate", job_id(1))), "located")
    return told["reason"]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_job_that_leaves_the_pool_it_could_not_be_paid_for_on_waits_no_longer(driver, restarted):
    driver.free = {}
    driver.run(job(1), job(2))
    driver.bank()
    driver.run(job(3, "noop"))
    wish = commanded("reprioritise", job_id(3))
    wish.control["arguments"] = {"pool": "aer"}
    driver.run(wish)
    driver.bank()
    driver.pass_time(1)
    driver.run()
    assert phase(driver, 3) is Phase.DEFERRED
    if restarted:
        driver.restart()
    wish.control["arguments"] = {"pool": "noop"}
    assert changed(driver.run(wish)) == (1, [])
    assert phase(driver, 3) is Phase.WAITING


def test_a_job_that_waits_for_its_budget_says_so(driver):
    driver.free = {}
    driver.run(job(1, "noop"))
    assert moved(driver, "aer") == (1, [])
    assert "its budget does not cover it" in waits_for(driver)
    assert moved(driver, "noop") == (1, [])
    assert "budget" not in waits_for(driver)


def test_a_move_to_where_a_job_can_never_be_paid_for_is_refused():
    driver = Funded(with_money(0.5))
    driver.run(job(1, "noop"))
    count, (why,) = moved(driver, "aer")
    assert (count, why) == (0, "1: aer is beyond budgets.money: 1 money wanted, at most 0.5 a day")
    assert (phase(driver), driver.machine.live[job_id(1)].pool) == (Phase.WAITING, "noop")


def test_a_job_that_was_cancelled_before_it_arrived_asks_for_no_budget(driver):
    driver.run(commanded("cancel", job_id(1)))
    assert results(driver.run(job())) == {job_id(1): "cancelled"}
    assert not forwards(driver.bank())


#: Whose jobs belong to this shard.
KEY = next(key for key in map("loop-{}".format, range(99)) if affine_route("ada", key) % PARTITIONS == SHARD)


def unique(number, policy=""):
    made = make_job_id("ada", unique_key=KEY, entropy=number.to_bytes(12, "big"))
    fields = request(number, payload_hash=payload(number), unique_key=KEY, unique_policy=policy)
    return submitted(fields | {"job_id": made}, offset=number), made


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("policy", ["", "supersede"])
def test_of_two_with_one_unique_key_that_wait_for_their_budgets_one_is_left(driver, policy, restarted):
    driver.free = {}
    (first, one), (second, two) = unique(1), unique(2, policy)
    driver.run(first, second)
    if restarted:
        driver.restart()
        driver.run()
    told = driver.bank()
    if policy:
        assert results(told) == {one: "superseded"}
        assert set(driver.machine.live) == {two}
    else:
        assert refusals(told) == [(two, "SB-1114", False)]
        assert set(driver.machine.live) == {one}


def test_nobody_is_superseded_by_a_job_that_is_refused_for_want_of_budget():
    driver = Funded(with_money(1.0))
    (first, one), (second, two) = unique(1), unique(2, "supersede")
    driver.run(first)
    driver.bank()
    driver.run(second)
    told = driver.bank()
    assert [who for who, _, _ in refusals(told)] == [two]
    assert set(driver.machine.live) == {one}


def test_a_job_outlives_the_period_in_which_it_was_paid_for(driver):
    driver.run(replace(job(), pool="aer"))
    (sent,) = forwards(driver.bank())
    told = item(job_id(1), 1, "THROTTLED") | {"cost": 1.0}
    driver.run(reported("finished", sent.bundle_id, items=[told]))
    for _ in range(6):
        driver.free = {}
        driver.pass_time(40_000, 10)
        driver.run()
        driver.bank()
    driver.free = FREE
    driver.pass_time(1)
    (sent,) = forwards(driver.run())
    assert results(driver.run(finished(sent))) == {job_id(1): "succeeded"}


def priced(**price):
    """A shard whose pool ``aer`` has these prices; ada has a thousand units."""
    settings = with_money(1_000.0)
    settings.pools["aer"] = replace(settings.pools["aer"], price=PriceConfig(**price))
    made = Funded(settings)
    made.free = FREE
    return made


@pytest.mark.parametrize(
    ("price", "changes", "units"),
    [
        ({"per_shot": 0.01}, {"shots": 100}, 1.0),
        ({"per_shot": 0.01}, {"mode": "estimate", "observables": b"o", "expected": {"observables": 3}}, 3.0),
        ({"per_task": 1.0, "per_session": 7.0}, {"session_id": "u"}, 8.0),
    ],
    ids=["shots", "observables", "session"],
)
def test_what_is_set_aside_is_what_the_policy_has_reckoned_with(price, changes, units):
    driver = priced(**price)
    fields = request(1, payload_hash=payload(1), backend="aer", **changes)
    if changes.get("session_id"):
        route = affine_route("ada", "u")
        fields["job_id"] = f"{route:08x}{1:024x}"
    decision = driver.machine.shard.router.decide(fields, None, driver.wall_ms)
    driver.run(replace(submitted(fields, pool="aer"), decision=decision))
    driver.bank()
    assert driver.held(fields["job_id"]) == UNIT * units == UNIT * decision.price


def test_a_session_is_billed_with_the_job_that_opens_it_and_only_once():
    driver = priced(per_task=1.0, per_session=7.0)
    route = affine_route("ada", "u")
    for number in (1, 2):
        fields = request(number, payload_hash=payload(number), backend="aer", session_id="u")
        fields["job_id"] = f"{route:08x}{number:024x}"
        decision = driver.machine.shard.router.decide(fields, None, driver.wall_ms)
        driver.run(replace(submitted(fields, offset=number, pool="aer"), decision=decision))
        (sent,) = forwards(driver.bank())
        (told,) = emitted(driver.run(finished(sent)), "circuit_result")
        assert told["cost"] == (8.0 if number == 1 else 1.0)


def by_the_second(limit, bound):
    """A shard on whose pool ``aer`` an attempt takes 10 s at most; ada has so many backend seconds."""
    settings = with_money(1_000.0)
    settings.pools["aer"] = replace(settings.pools["aer"], attempt_seconds=10.0, price=PriceConfig())
    seconds = BudgetConfig(tenant="ada", resource="backend_seconds", limit=limit, block=0.0, bound=bound)
    made = Funded(replace(settings, budgets={"seconds": seconds}))
    made.free = FREE
    return made


def ran_for(driver, number, sent, seconds):
    told = item(job_id(number), 1) | {"backend_seconds": seconds}
    driver.run(reported("finished", sent.bundle_id, items=[told]))


def test_the_longest_that_an_attempt_may_take_is_set_aside_and_what_it_did_not_take_is_free_again():
    driver = by_the_second(25.0, "attempt")
    driver.run(job(1), job(2), job(3))
    told = driver.bank()
    assert [who for who, _, _ in refusals(told)] == [job_id(3)]
    first, _ = forwards(told)
    ran_for(driver, 1, first, 10.0)
    # Until then the last refusal is repeated.
    driver.pass_time(2)
    driver.run(job(4))
    (problem,) = [one for told in emitted(driver.bank(), "refusal") for one in told["problems"]]
    assert problem["actual"] == "10 s backend_seconds wanted"
    assert problem["limit"] == "25 s: 10 s spent, 15 s outstanding with the dispatchers"


def test_a_limit_that_no_attempt_is_within_says_what_could_be_lowered():
    driver = by_the_second(5.0, "attempt")
    driver.run(job(1))
    ((refused,),) = [one["problems"] for one in emitted(driver.bank(), "refusal")]
    assert refused["hint"].endswith('lower attempt_seconds of the pool, or bound = "measured"')


def test_by_what_is_measured_more_jobs_go_at_once_and_may_overdraw():
    driver = by_the_second(5.0, "measured")
    driver.run(job(1), job(2), job(3))
    told = driver.bank()
    assert not refusals(told)
    for number, sent in enumerate(forwards(told), 1):
        ran_for(driver, number, sent, 10.0)
    allowance = driver.machine.shard.funds.allowance
    assert sum(one.overdrawn for one in allowance._holdings.values()) > 0


def of_jobs(limit):
    """Ada has so many live jobs, and money enough."""
    settings = with_money(100.0)
    places = BudgetConfig(tenant="ada", resource="jobs", limit=limit, block=0.0)
    driver = Funded(replace(settings, budgets={**settings.budgets, "live": places}))
    driver.free = FREE
    return driver


def to_review(number):
    event = job(number)
    return replace(event, decision=Decision("r", "v", event.pool, action="review"))


@pytest.mark.parametrize("restarted", [False, True])
def test_a_job_that_waits_for_a_person_is_one_of_the_live_jobs_and_costs_nothing_yet(restarted):
    driver = of_jobs(2)
    driver.run(to_review(1), to_review(2), to_review(3))
    if restarted:
        driver.restart()
        driver.run()
    told = driver.bank()
    assert [number for number, _, _ in refusals(told)] == [job_id(3)]
    assert not forwards(told)
    assert [phase(driver, number) for number in (1, 2)] == [Phase.AWAITING_REVIEW] * 2
    assert driver.held(job_id(1)) == 0
    driver.run(commanded("approve", job_id(1)))
    driver.pass_time(1)
    (sent,) = forwards([*driver.bank(), *driver.run()])
    assert (sent.items[0].job_id, driver.held(job_id(1))) == (job_id(1), UNIT)
    assert phase(driver, 2) is Phase.AWAITING_REVIEW


def test_a_job_that_looks_for_an_earlier_answer_first_does_so_when_it_has_a_place():
    driver = of_jobs(1)
    event = job(1)
    cached = Decision("r", "v", event.pool, action="cache", step=Step.parse("cache:60"))
    driver.run(replace(event, decision=cached))
    assert [one.seconds for one in driver.bank() if isinstance(one, Recall)] == [60.0]
    assert phase(driver) is Phase.FALLING_BACK


def test_a_job_that_does_not_get_all_it_needs_lets_go_of_the_part_that_it_has_and_keeps_its_place():
    """Two that hold a part each and wait for the rest would wait for each other for ever."""
    settings = with_money(1.5)
    dear = replace(settings.pools["aer"], price=PriceConfig(per_task=1.0))
    dearer = replace(settings.pools["aer"], price=PriceConfig(per_task=2.0))
    places = BudgetConfig(tenant="ada", resource="jobs", limit=5, block=0.0)
    pools = {**settings.pools, "aer": dear, "dearer": replace(dearer, adapter="aer")}
    driver = Funded(replace(settings, pools=pools, budgets={**settings.budgets, "live": places}))
    driver.run(job(1))
    driver.bank()
    shard, live = driver.machine.shard, driver.machine.live[job_id(1)]
    allowance = shard.funds.allowance
    assert driver.held(job_id(1)) == UNIT
    live.pool = "dearer"
    assert shard.funds.reserve(live, driver.now) is not None
    driver.run()
    driver.bank()
    assert isinstance(shard.funds.reserve(live, driver.now), Refused)
    assert {purse.resource: units for purse, units in allowance.reserved(job_id(1)).items()} == {"jobs": 1}
