"""Budgets from the job's side: who falls under which, who waits, who is refused with which numbers and when to come again."""

import pytest
from treasury_kit import DAY_MS, START_MS, UNLIMITED, Refused, Reserved, Waits, World, budgets, claim, shots

from shotbus.broker.treasury.budgets import shown
from shotbus.broker.treasury.prices import Cost


def refused(world, shard, job, asked):
    """Reserve and let everyone answer; returns the refusal."""
    world.reserve(shard, job, asked)
    world.settle_down()
    return world.witness.refusals[job]


def test_without_a_budget_nothing_is_asked_or_written():
    world = World(budgets(b={"tenant": "ada", "resource": "shots", "limit": 1}))
    allowance = world.shards[0].machine
    assert allowance.reserve("job", claim(5, tenant="bob"), world.now) is UNLIMITED
    assert not allowance.limits("bob")
    assert (allowance.tick(world.now), allowance.touched(), allowance.wake_at(world.now)) == (
        ([], []),
        [],
        None,
    )


@pytest.mark.parametrize(
    ("selectors", "asked", "whose"),
    [
        ({"tenant": "ada"}, claim(), ("ada", "", "")),
        ({"tenant": "*"}, claim(tenant="bob"), ("bob", "", "")),
        ({"tenant": ""}, claim(tenant="bob"), ("", "", "")),
        ({"experiment": "*"}, claim(experiment="h2"), ("ada", "h2", "")),
        ({"experiment": "*"}, claim(), ("ada", "", "")),
        ({"tenant": "", "pool": "aer"}, claim(), ("", "", "aer")),
        ({"tenant": "*", "pool": "*"}, claim(), ("ada", "", "aer")),
        ({"pool": "qpu"}, claim(), None),
        ({"experiment": "h2"}, claim(), None),
        ({"tenant": "bob"}, claim(), None),
    ],
)
def test_a_job_takes_from_the_purse_that_the_selectors_say(selectors, asked, whose):
    limits = budgets(b={"resource": "shots", "limit": 9, **selectors})
    found = [purse[2:5] for _, purse, _ in limits.of(asked, START_MS)]
    assert found == ([] if whose is None else [whose])


def test_a_job_that_takes_nothing_of_a_resource_needs_no_unit_of_it():
    world = World(budgets(b={"resource": "money", "limit": 0.0}))
    assert world.reserve(0, "free", claim()._replace(cost=Cost(0, 5, 5))) is UNLIMITED


def test_a_job_waits_for_its_first_units_and_goes_with_the_answer():
    world = World(shots(10))
    assert isinstance(world.reserve(0, "a", claim(3)), Waits)
    world.settle_down(1)
    world.turn(0)
    assert list(world.witness.reserved) == ["a"]
    assert world.reserve(0, "a", claim(3)).parts == tuple(world.witness.reserved["a"].items())


def test_what_was_granted_in_advance_lets_the_next_job_go_at_once():
    world = World(shots(100, block=0.2))
    world.reserve(0, "a", claim(3))
    world.settle_down()
    assert isinstance(world.reserve(0, "b", claim(3)), Reserved)


def test_a_refusal_has_the_numbers_and_the_end_of_the_period():
    world = World(shots(10, period="day"))
    world.reserve(0, "a", claim(8))
    world.settle_down()
    world.end("a", Cost(shots=8))
    answer = refused(world, 1, "b", claim(5))
    (problem,) = answer.problems
    assert (problem.code, problem.path, problem.actual) == ("SB-1120", "$.budgets.b", "5 shots wanted")
    assert problem.limit == "10 a day: 8 spent, 0 outstanding with the dispatchers"
    assert answer.retry_after_ms == DAY_MS - START_MS % DAY_MS
    assert "T00:00:00Z" in problem.hint


def test_in_the_next_period_the_refused_job_goes():
    world = World(shots(10, period="day"))
    world.reserve(0, "a", claim(10))
    world.settle_down()
    world.end("a", Cost(shots=10))
    answer = refused(world, 0, "b", claim(1))
    world.pass_time(2.0, answer.retry_after_ms)
    world.reserve(0, "b again", claim(1))
    world.settle_down()
    assert "b again" in world.witness.reserved


@pytest.mark.parametrize(
    ("table", "units", "code", "retry"),
    [
        ({"resource": "shots", "limit": 10, "period": "day"}, 11, "SB-1120", 0),
        ({"resource": "money", "limit": 0.00001}, 11, "SB-1121", 0),
        ({"resource": "money", "limit": 0.00001}, 2, "SB-1121", 30_000),
        ({"resource": "backend_seconds", "limit": 0.00001}, 2, "SB-1121", 30_000),
        ({"resource": "jobs", "limit": 1}, 2, "SB-1120", 5_000),
        ({"resource": "queued", "limit": 1}, 2, "SB-1120", 5_000),
    ],
)
def test_when_to_come_again_depends_on_what_is_short(table, units, code, retry):
    world = World(budgets(b=table))
    world.reserve(0, "held", claim(9))
    world.settle_down()
    answer = refused(world, 1, "b", claim(units))
    assert (answer.problems[0].code, answer.retry_after_ms) == (code, retry)


def test_spent_for_good_is_refused_for_good():
    world = World(shots(10))
    world.reserve(0, "a", claim(10))
    world.settle_down()
    world.end("a", Cost(shots=10))
    assert refused(world, 0, "b", claim(1)).retry_after_ms == 0


def test_every_budget_that_is_short_is_named_and_none_is_touched():
    tables = {"x": {"resource": "shots", "limit": 2}, "y": {"resource": "money", "limit": 0.000002}}
    world = World(budgets(**tables, z={"resource": "shots", "limit": 99}))
    answer = refused(world, 0, "a", claim(3))
    assert {problem.path for problem in answer.problems} <= {"$.budgets.x", "$.budgets.y"}
    assert all(not one.reserved for one in world.shards[0].machine._holdings.values())


def test_a_refusal_is_repeated_without_asking_for_a_second():
    world = World(shots(2))
    refused(world, 0, "a", claim(3))
    asked = sum(len(log) for log in world.logs["treasury"])
    assert isinstance(world.reserve(0, "b", claim(3)), Refused)
    world.settle_down()
    assert sum(len(log) for log in world.logs["treasury"]) == asked
    world.pass_time(1.5)
    assert isinstance(world.reserve(0, "c", claim(3)), Waits)


def test_a_smaller_job_is_not_refused_with_a_bigger_one():
    world = World(shots(2))
    refused(world, 0, "a", claim(3))
    world.reserve(0, "b", claim(2))
    world.settle_down()
    assert "b" in world.witness.reserved


def test_a_treasury_that_does_not_answer_refuses_nobody_for_good():
    world = World(shots(10))
    world.reserve(0, "a", claim(1))
    world.turn(0)
    world.pass_time(10.5)
    world.turn(0)
    answer = world.witness.refusals["a"]
    assert ([one.code for one in answer.problems], answer.retry_after_ms) == (["SB-1122"], 5_000)
    world.reserve(0, "b", claim(1))
    world.settle_down()
    assert "b" in world.witness.reserved


def test_a_budget_that_the_treasury_does_not_know_yet_is_said_to_be_unchecked():
    world = World(shots(10))
    for node in world.treasuries:
        node.make = lambda make=node.make: make().__class__(0, 2, budgets())
        node.machine = node.make()
    answer = refused(world, 0, "a", claim(1))
    assert (answer.problems[0].code, answer.problems[0].detail) == ("SB-1122", "unknown")


@pytest.mark.parametrize(
    ("resource", "units", "text"),
    [
        ("money", 1_500_000, "1.5"),
        ("money", -1, "-0.000001"),
        ("money", 20_000_000, "20"),
        ("backend_seconds", 250_000, "0.25 s"),
        ("shots", 1_024, "1024"),
    ],
)
def test_units_are_shown_as_people_read_them(resource, units, text):
    assert shown(resource, units) == text
