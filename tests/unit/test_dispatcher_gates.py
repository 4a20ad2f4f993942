"""What was said at the door holds on whatever way a job goes later: what it may cost, and a person's approval."""

from dataclasses import replace

import pytest
from asking_kit import changed, phase
from dispatcher_kit import (
    PARTITIONS,
    SHARD,
    Driver,
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

from shotbus.broker.config import BudgetConfig, PriceConfig
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Credit
from shotbus.broker.dispatcher.states import Phase
from shotbus.broker.policy.config import (
    AccessConfig,
    RoutingConfig,
    RuleConfig,
    Span,
    ThenConfig,
    WhenConfig,
    WhereConfig,
)

FREE = {pool: [Credit("w1", 0, 4)] for pool in ("aer", "noop", "qpu")}
ASKS = RuleConfig(name="a person's word", then=ThenConfig(pools=("qpu",), require=("approval",)))
#: Of one tenant only.
NAMED = replace(ASKS, when=WhenConfig(tenants=("ada",)))
PLAIN = RuleConfig(name="simulators", then=ThenConfig(pools=("aer",)))


WHY = "1: qpu asks for a person's approval"
NO_ROLE = "1: qpu asks for a role that its submitter has not"


def driver_of(*rules, budgets=False, simulator=True, **access):
    """A shard with hardware at 50 units a job, for which ``rules`` or the pool may demand something.

    ``budgets``: another tenant than ada has one of money. Without ``simulator`` aer is another device.
    """
    settings = config(bundle_jobs=1, max_attempts=1)
    if budgets:
        settings = replace(settings, budgets={"b": BudgetConfig(tenant="eve", resource="money", limit=1e6)})
    if not simulator:
        settings.pools["aer"] = replace(settings.pools["aer"], kind="hardware")
    qpu = replace(settings.pools["aer"], kind="hardware", price=PriceConfig(per_task=50.0))
    qpu = replace(qpu, access=AccessConfig(**access))
    pools, routing = {**settings.pools, "qpu": qpu}, RoutingConfig(rules=rules)
    made = Driver(lambda: Dispatcher(SHARD, PARTITIONS, replace(settings, pools=pools, routing=routing)))
    made.free = FREE
    return made


def job(driver, **changes):
    """A submission about which the shard's own policy has decided."""
    fields = request(1, payload_hash=payload(1), **changes)
    decision = driver.machine.shard.router.decide(fields, None, driver.wall_ms)
    return replace(submitted(fields, pool=decision.pool), decision=decision)


def moving(pool):
    event = commanded("reprioritise", job_id(1))
    event.control["arguments"] = {"pool": pool}
    return event


def results(commands):
    return [one["outcome"] for one in emitted(commands, "circuit_result")]


def pools(commands):
    return [one.pool for one in forwards(commands)]


@pytest.mark.parametrize(("most", "goes"), [(0.1, []), (50.0, ["qpu"]), (None, ["qpu"])])
def test_no_fallback_leads_to_a_pool_that_costs_more_than_was_asked(most, goes):
    driver = driver_of()
    (sent,) = forwards(driver.run(job(driver, backend="aer", fallback=["qpu"], max_cost=most)))
    driver.restart()
    driver.free = FREE
    commands = driver.run(finished(sent, "TRANSIENT"))
    assert pools(commands) == goes
    assert results(commands) == ([] if goes else ["dead_lettered"])


@pytest.mark.parametrize("restarted", [False, True])
def test_nobody_moves_a_job_to_a_pool_that_costs_more_than_was_asked(restarted):
    driver = driver_of()
    driver.free = {}
    driver.run(job(driver, max_cost=0.1))
    if restarted:
        driver.restart()
    assert changed(driver.run(moving("qpu"))) == (0, ["1: qpu costs 50, at most 0.1 asked"])
    assert changed(driver.run(moving("noop"))) == (1, [])


def test_no_fallback_of_its_own_leads_past_a_persons_approval():
    driver = driver_of(NAMED)
    (sent,) = forwards(driver.run(job(driver, backend="aer", fallback=["qpu"])))
    commands = driver.run(finished(sent, "TRANSIENT"))
    assert (pools(commands), results(commands)) == ([], ["dead_lettered"])


@pytest.mark.parametrize("restarted", [False, True])
def test_nobody_moves_a_job_past_a_persons_approval(restarted):
    driver = driver_of(PLAIN, ASKS)
    driver.free = {}
    driver.run(job(driver))
    if restarted:
        driver.restart()
    assert changed(driver.run(moving("qpu"))) == (0, [WHY])


def test_a_rule_about_other_tenants_bars_nobody():
    driver = driver_of(NAMED)
    driver.free = {}
    driver.run(job(driver, tenant="bob"))
    wish = moving("qpu")
    wish.control["tenant"] = "bob"
    assert changed(driver.run(wish)) == (1, [])


def test_a_rule_may_send_its_own_jobs_there_by_its_chain():
    chain = replace(PLAIN, then=ThenConfig(pools=("aer",), fallback=("qpu",)))
    driver = driver_of(chain, ASKS)
    (sent,) = forwards(driver.run(job(driver)))
    assert pools(driver.run(finished(sent, "TRANSIENT"))) == ["qpu"]


@pytest.mark.parametrize("word", ["approve", "reject"])
def test_a_persons_word_counts_on_whatever_way_the_job_goes(word):
    driver = driver_of(NAMED)
    (sent,) = forwards(driver.run(job(driver, backend="aer", fallback=["review", "qpu"])))
    driver.run(finished(sent, "TRANSIENT"))
    assert phase(driver) is Phase.AWAITING_REVIEW
    driver.restart()
    driver.free = FREE
    commands = driver.run(commanded(word, job_id(1)))
    if word == "reject":
        assert (pools(commands), results(commands)) == ([], ["failed"])
        return
    (again,) = forwards(commands)
    assert pools(driver.run(finished(again, "TRANSIENT"))) == ["qpu"]


def test_at_the_door_too_a_step_of_the_jobs_own_is_not_taken_without_approval():
    driver = driver_of(replace(PLAIN, where=WhereConfig(price=Span("9.."))), NAMED)
    fields = request(1, payload_hash=payload(1), fallback=["qpu", "noop"])
    decision = driver.machine.shard.router.decide(fields, None, driver.wall_ms)
    assert decision.pool == "noop"


def rule(name, *pools, require=(), fallback=(), **when):
    return RuleConfig(
        name=name, when=WhenConfig(**when), then=ThenConfig(pools=pools, require=require, fallback=fallback)
    )


#: What hardware demands of whoever names it; jobs that name none run on the simulator.
GREEN = rule("green first", "qpu", require=("green_run",))


@pytest.mark.parametrize("restarted", [False, True])
def test_whoever_is_moved_to_hardware_does_its_green_run_first(restarted):
    driver = driver_of(PLAIN, GREEN)
    driver.free = {}
    driver.run(job(driver, backend="noop"))
    assert changed(driver.run(moving("qpu"))) == (1, [])
    assert driver.machine.live[job_id(1)].pool == "aer"
    if restarted:
        driver.restart()
    driver.free = FREE
    (green,) = forwards(driver.run())
    assert green.pool == "aer"
    (real,) = forwards(driver.run(finished(green)))
    assert (real.pool, real.items[0].attempt) == ("qpu", 2)
    assert results(driver.run(finished(real))) == ["succeeded"]


@pytest.mark.parametrize("chain", ["of its own", "of its rule"])
def test_a_fallback_to_hardware_does_the_green_run_first_and_says_what_it_fell_back_from(chain):
    own = chain == "of its own"
    driver = driver_of(
        replace(PLAIN, then=ThenConfig(pools=("noop",), fallback=() if own else ("qpu",))), GREEN
    )
    (sent,) = forwards(driver.run(job(driver, **({"backend": "noop", "fallback": ["qpu"]} if own else {}))))
    assert sent.pool == "noop"
    commands = driver.run(finished(sent, "TRANSIENT"))
    (green,) = forwards(commands)
    assert green.pool == "aer"
    assert '"then":"qpu"' in last_detail(commands)
    driver.restart()
    driver.free = FREE
    (real,) = forwards(driver.run(finished(green)))
    (ended,) = emitted(driver.run(finished(real)), "circuit_result")
    assert (ended["outcome"], ended["fallback_from"]) == ("succeeded_by_fallback", "noop")


def last_detail(commands):
    details = [one["detail"] for batch in emitted(commands, "event_batch") for one in batch["events"]]
    return next(detail for detail in reversed(details) if detail)


def test_a_green_run_that_fails_leads_on_down_the_chain_and_is_done_once_only():
    driver = driver_of(PLAIN, GREEN)
    (sent,) = forwards(driver.run(job(driver, backend="noop", fallback=["qpu", "aer", "qpu"])))
    (green,) = forwards(driver.run(finished(sent, "TRANSIENT")))
    (plain,) = forwards(driver.run(finished(green, "TRANSIENT")))
    assert (green.pool, plain.pool) == ("aer", "aer")
    commands = driver.run(finished(plain, "TRANSIENT"))
    assert results(commands) == ["dead_lettered"]
    assert '"passed_over":{"qpu":"is for jobs that have passed their green run"}' in last_detail(commands)


def test_what_was_passed_once_is_not_asked_for_again():
    driver = driver_of(PLAIN, GREEN)
    driver.free = {}
    driver.run(job(driver, backend="qpu", fallback=["noop", "qpu"]))
    driver.free = FREE
    (green,) = forwards(driver.run())
    (real,) = forwards(driver.run(finished(green)))
    (other,) = forwards(driver.run(finished(real, "TRANSIENT")))
    (again,) = forwards(driver.run(finished(other, "TRANSIENT")))
    assert (green.pool, real.pool, other.pool, again.pool) == ("aer", "qpu", "noop", "qpu")


@pytest.mark.parametrize("budget", [False, True])
def test_a_budget_that_a_rule_demands_must_be_there_when_the_job_moves(budget):
    driver = driver_of(PLAIN, rule("paid", "qpu", require=("budget",)), budgets=budget)
    driver.free = {}
    driver.run(job(driver, tenant="eve", backend="noop"))
    wish = moving("qpu")
    wish.control["tenant"] = "eve"
    assert changed(driver.run(wish)) == (
        (1, []) if budget else (0, ["1: qpu asks for a budget of money, and there is none"])
    )


def test_a_demand_that_no_pool_can_meet_bars_the_way():
    driver = driver_of(PLAIN, GREEN, simulator=False)
    driver.free = {}
    driver.run(job(driver, backend="noop"))
    assert changed(driver.run(moving("qpu"))) == (0, ["1: qpu asks for a green_run that no pool can do"])


def test_what_its_own_rule_demands_holds_on_the_hardware_of_its_chain():
    own = rule("own", "aer", require=("green_run",), fallback=("qpu",))
    driver = driver_of(own)
    (sent,) = forwards(driver.run(job(driver)))
    (green,) = forwards(driver.run(finished(sent, "TRANSIENT")))
    assert (sent.pool, green.pool) == ("aer", "aer")
    assert pools(driver.run(finished(green))) == ["qpu"]


def test_at_the_door_too_a_step_of_the_chain_meets_what_its_pool_demands():
    driver = driver_of(
        replace(
            PLAIN, where=WhereConfig(price=Span("9..")), then=ThenConfig(pools=("aer",), fallback=("qpu",))
        ),
        GREEN,
    )
    fields = request(1, payload_hash=payload(1))
    decision = driver.machine.shard.router.decide(fields, None, driver.wall_ms)
    assert (decision.pool, decision.requires) == ("qpu", ("green_run",))


def test_no_rule_that_demands_anything_costs_a_job_nothing():
    driver = driver_of(PLAIN)
    driver.free = {}
    driver.run(job(driver))
    assert driver.machine.live[job_id(1)].extras is None


def test_what_waits_for_approval_goes_where_it_was_to_go():
    driver = driver_of(NAMED)
    driver.run(job(driver, backend="qpu"))
    assert phase(driver) is Phase.AWAITING_REVIEW
    assert pools(driver.run(commanded("approve", job_id(1)))) == ["qpu"]


def test_a_pool_may_ask_for_a_role():
    driver = driver_of(roles=("hardware:submit", "operator"))
    without, one = job(driver, backend="qpu"), job(driver, backend="qpu", roles=["operator"])
    assert [problem.code for problem in without.decision.problems] == ["SB-1110"]
    assert without.decision.problems[0].limit == "qpu: role hardware:submit or operator"
    assert one.decision.pool == "qpu"
    assert forwards(driver.run(one))[0].pool == "qpu"


@pytest.mark.parametrize(("roles", "moved"), [([], (0, [NO_ROLE])), (["operator"], (1, []))])
def test_a_role_is_asked_for_on_whatever_way_a_job_goes_later(roles, moved):
    driver = driver_of(roles=("operator",))
    driver.free = {}
    driver.run(job(driver, roles=roles))
    assert changed(driver.run(moving("qpu"))) == moved
