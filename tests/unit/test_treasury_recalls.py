"""Units between shards: called back before anyone is refused, given back when idle, spent once, overdrawn visibly."""

import io
import struct
from collections import Counter

import fastavro
import pytest
from treasury_kit import DAY_MS, START_MS, Reserved, Waits, World, budgets, claim, shots

from shotbus.broker.audit import verify
from shotbus.broker.treasury.budgets import Budgets, Purse, percent
from shotbus.broker.treasury.machine import Passed
from shotbus.broker.treasury.prices import Cost
from shotbus.broker.treasury.rows import read_row, row
from shotbus.schemas.codec import decode
from shotbus.schemas.registry import SchemaKey, parsed_schema, schema_id


def said(world, topic):
    """Words that were published on a topic, in order."""
    word = "command" if topic == "treasury" else "kind"
    return [decode(value)[1][word] for log in world.logs[topic] for value in log]


def only(world):
    """The only account of a world."""
    (account,) = world.accounts().values()
    return account


def test_idle_units_are_called_back_before_anyone_is_refused():
    world = World(shots(10), shards=3)
    world.reserve(0, "a", claim(10))
    world.settle_down()
    world.end("a", Cost(), "release")
    world.reserve(1, "b", claim(8))
    world.settle_down()
    assert world.witness.refusals == {"a": None}
    assert list(world.witness.reserved) == ["b"]
    assert said(world, "grants").count("recall") == 1


def test_units_are_gathered_from_several_shards():
    world = World(shots(9), shards=3)
    for shard in (0, 1):
        world.reserve(shard, f"a{shard}", claim(4))
    world.settle_down()
    for shard in (0, 1):
        world.end(f"a{shard}", Cost(), "release")
    world.reserve(2, "b", claim(9))
    world.settle_down()
    assert list(world.witness.reserved) == ["b"]


def test_two_shards_that_both_lack_units_do_not_wait_for_each_other():
    world = World(shots(10))
    for shard in (0, 1):
        world.reserve(shard, f"a{shard}", claim(6))
    world.settle_down()
    assert len(world.witness.reserved) == len(world.witness.refusals) == 1


def test_a_shard_that_is_gone_delays_a_refusal_by_two_seconds_and_its_units_stay_counted():
    world = World(shots(10))
    world.reserve(0, "a", claim(10))
    world.settle_down()
    world.end("a", Cost(), "release")
    world.crash(world.shards[0], 0)
    world.reserve(1, "b", claim(8))
    world.turn(1)
    for passed in (0.0, 1.9, 0.2):
        assert "b" not in world.witness.refusals
        world.pass_time(passed)
        for number in (0, 1):
            world.serve(number)
        world.turn(1)
    assert world.witness.refusals["b"].problems[0].limit == "10: 0 spent, 10 outstanding with the dispatchers"
    world.pass_time(2.0)
    world.reserve(1, "c", claim(8))
    world.turn(1)
    for number in (0, 1):
        world.serve(number)
    world.turn(1)
    assert "c" in world.witness.refusals, "a silent shard was waited for twice"


def test_shards_are_served_in_the_order_in_which_they_asked():
    world = World(shots(10), shards=3)
    world.reserve(0, "first", claim(10))
    world.settle_down()
    for shard, job in ((2, "second"), (1, "third")):
        world.pass_time(0.01)
        world.reserve(shard, job, claim(6))
        world.turn(shard)
    world.end("first", Cost(), "release")
    world.settle_down()
    assert list(world.witness.reserved) == ["second"]


def test_who_comes_later_takes_nothing_from_those_who_wait():
    world = World(shots(10))
    world.reserve(0, "a", claim(4))
    world.settle_down()
    world.end("a", Cost(), "release")
    assert isinstance(world.reserve(0, "big", claim(8)), Waits)
    assert isinstance(world.reserve(0, "small", claim(4)), Waits)
    world.settle_down()
    assert list(world.witness.reserved) == ["big"]


def test_units_that_nobody_takes_go_back_after_half_a_minute():
    world = World(shots(100, block=0.5))
    world.reserve(0, "a", claim(1))
    world.settle_down()
    world.end("a", Cost(shots=1))
    world.pass_time(31.0)
    world.settle_down()
    assert (only(world).held, only(world).spent) == (0, 1)
    assert said(world, "treasury")[-1] == "return"


def test_spending_is_told_at_most_once_a_second():
    world = World(shots(100, block=0.5))
    world.reserve(0, "a", claim(1))
    world.settle_down()
    for number in range(20):
        world.reserve(0, f"j{number}", claim(1))
        world.end(f"j{number}", Cost(shots=1))
        world.turn(0)
    before = said(world, "treasury").count("settle")
    world.pass_time(1.1)
    world.turn(0)
    assert said(world, "treasury").count("settle") - before == 1


def test_a_job_that_comes_and_goes_within_a_micro_batch_has_no_row():
    world = World(shots(100, block=0.5))
    world.reserve(0, "a", claim(1))
    world.settle_down()
    world.reserve(0, "b", claim(1))
    world.end("b", Cost(shots=1))
    assert b"allowance/job/b" not in world.shards[0].machine.touched()


def test_what_was_reserved_in_a_period_is_spent_in_it():
    world = World(shots(10, period="day"))
    world.reserve(0, "a", claim(10))
    world.settle_down()
    world.pass_time(2.0, DAY_MS)
    world.end("a", Cost(shots=4))
    world.reserve(0, "b", claim(10))
    world.settle_down()
    assert [one.spent for one in world.accounts().values()] == [4, 0]
    assert "b" in world.witness.reserved


def test_a_place_is_free_again_when_its_job_ends_whatever_it_cost():
    world = World(budgets(b={"resource": "jobs", "limit": 1}))
    for number in range(3):
        world.reserve(number % 2, f"j{number}", claim(7))
        world.settle_down()
        assert list(world.witness.reserved) == [f"j{number}"]
        world.end(f"j{number}", Cost(7, 7, 7))
    assert only(world).spent == 0


def test_a_place_in_the_queue_is_free_when_its_job_is_forwarded_and_the_rest_stays():
    tables = {"q": {"resource": "queued", "limit": 1}, "j": {"resource": "jobs", "limit": 2}}
    world = World(budgets(**tables))
    world.reserve(0, "a", claim())
    world.settle_down()
    world.shards[0].machine.left_queue("a")
    world.reserve(0, "b", claim())
    world.settle_down()
    world.crash(world.shards[0], 0)
    machine = world.shards[0].machine
    held = {job: sorted(purse.budget for purse in machine.reserved(job)) for job in "ab"}
    assert held == {"a": ["j"], "b": ["j", "q"]}


def test_a_job_that_moves_to_another_pool_exchanges_its_units_or_keeps_them():
    world = World(
        budgets(
            aer={"pool": "aer", "resource": "shots", "limit": 5},
            qpu={"pool": "qpu", "resource": "shots", "limit": 5},
        )
    )
    world.reserve(0, "a", claim(3))
    world.settle_down()
    machine = world.shards[0].machine
    world.reserve(0, "a", claim(3, pool="qpu"))
    assert [purse.pool for purse in machine.reserved("a")] == ["aer"], "until the answer it keeps what it has"
    world.settle_down()
    assert [purse.pool for purse in machine.reserved("a")] == ["qpu"]
    world.pass_time(2.0)
    machine.reserve("a", claim(9, pool="aer"), world.now)
    world.settle_down()
    assert [purse.pool for purse in machine.reserved("a")] == ["qpu"]


def test_attempts_are_charged_out_of_one_reservation():
    world = World(shots(10))
    world.reserve(0, "a", claim(9))
    world.settle_down()
    for _ in range(2):
        assert world.shards[0].machine.charge("a", Cost(shots=3)).overdrawn == ()
    assert list(world.shards[0].machine.reserved("a").values()) == [3]
    assert world.shards[0].machine.settle("a", Cost(shots=1)).overdrawn == ()
    world.pass_time(31.0)
    world.settle_down()
    assert (only(world).spent, only(world).held) == (7, 0)


def test_more_than_reserved_is_charged_reported_and_stops_admission():
    world = World(shots(10))
    world.reserve(0, "a", claim(5))
    world.reserve(1, "b", claim(5))
    world.settle_down()
    world.end("a", Cost(shots=8))
    world.pass_time(1.5)
    world.settle_down()
    account = only(world)
    assert (account.spent, account.overdrawn, account.available) == (8, 3, -3)
    world.end("b", Cost(shots=1))
    world.pass_time(1.5)
    world.settle_down()
    world.reserve(1, "c", claim(2))
    world.settle_down()
    assert "c" in world.witness.refusals
    assert (only(world).spent, only(world).available) == (9, 0)
    actions = [entry["action"] for entry in world.audit()]
    assert "budget.overdrawn" in actions
    assert verify(world.audit()) == []


def test_more_than_reserved_is_taken_from_free_units_first():
    world = World(shots(10))
    for job in ("a", "b"):
        world.reserve(0, job, claim(5))
    world.settle_down()
    world.end("b", Cost(), "release")
    world.end("a", Cost(shots=8))
    world.settle_down()
    world.pass_time(1.5)
    world.settle_down()
    assert (only(world).spent, only(world).overdrawn) == (8, 0)


def test_a_limit_that_is_lowered_calls_units_back_until_it_holds():
    world = World(shots(100, block=0.5))
    world.reserve(0, "a", claim(10))
    world.settle_down()
    lower = shots(12, block=0.5)
    for node in world.treasuries:
        node.make = lambda make=node.make: type(make())(0, 2, lower)
        world.crash(node)
    world.pass_time(1.5)
    world.settle_down()
    assert (only(world).limit, only(world).held) == (12, 12)


def test_thresholds_are_told_once_a_period_the_highest_that_was_passed():
    world = World(shots(100, period="day", block=0.5))
    for number, units in enumerate((40, 15, 30, 15)):
        world.reserve(0, f"j{number}", claim(units))
        world.settle_down()
        world.end(f"j{number}", Cost(shots=units))
        world.pass_time(1.5, 0)
        world.settle_down()
        world.crash(world.treasuries[0])
        world.crash(world.treasuries[1])
    told = [(entry["action"], entry["target"], entry["reason"]) for entry in world.audit()]
    assert told == [
        ("budget.threshold", "b tenant=ada", f"{part}% of the limit is spent") for part in (50, 80, 100)
    ]


def test_thresholds_passed_at_once_are_one_entry_each_counted_and_outlive_a_restart_with_their_time():
    world = World(shots(100, block=0.5))
    world.reserve(0, "a", claim(85))
    world.settle_down()
    world.end("a", Cost(shots=85))
    world.pass_time(1.5)
    world.settle_down()
    assert [entry["reason"] for entry in world.audit()] == ["80% of the limit is spent"]
    counted = sum((node.machine.stats for node in world.treasuries), Counter())
    assert {what: count for what, count in counted.items() if isinstance(what, Passed)} == {
        Passed("b", 0.5): 1,
        Passed("b", 0.8): 1,
    }
    for node in world.treasuries:
        world.crash(node)
    assert only(world).alerted == 0.8
    assert START_MS <= only(world).alerted_ms <= world.wall_ms


def test_a_row_from_before_thresholds_had_a_time_is_read():
    fields = read_row(row(Purse("b", "shots/total", "ada", "", "", 0), limit=9, alerted=(0.5, 7)))
    older = SchemaKey("treasury_row", 2)
    stream = io.BytesIO()
    stream.write(struct.pack(">bI", 0, schema_id(older)))
    fastavro.schemaless_writer(stream, parsed_schema(older), fields)
    found = read_row(stream.getvalue())
    assert (found["alerted"], found["alerted_ms"]) == (0.5, 0)


@pytest.mark.parametrize(
    ("part", "words"), [(0.5, "50%"), (1.0, "100%"), (0.995, "99.5%"), (0.001, "0.1%"), (0.55, "55%")]
)
def test_a_threshold_is_never_shown_as_another(part, words):
    assert percent(part) == words


def test_accounts_are_dropped_two_days_after_their_period():
    world = World(shots(10, period="day"))
    world.reserve(0, "a", claim(3))
    world.settle_down()
    world.end("a", Cost(shots=3))
    for _ in range(3):
        world.pass_time(61.0, 2 * DAY_MS)
        world.settle_down()
    assert [dict(node.ledger) for node in world.treasuries] == [{}, {}] or world.accounts() == {}
    assert not any(b"purse/" in key for key in world.shards[0].ledger)


@pytest.mark.parametrize("name", ["", "x" * 256, "a/b\n\0|", "🔮", "*"])
def test_names_of_any_kind_have_bounded_keys_of_their_own(name):
    world = World(budgets(b={"tenant": "*", "resource": "shots", "limit": 2}))
    world.reserve(0, "a", claim(1, tenant=name))
    world.settle_down()
    assert isinstance(world.reserve(0, "a", claim(1, tenant=name)), Reserved)
    assert max(len(key) for node in (*world.shards, *world.treasuries) for key in node.ledger) < 60


def test_rows_may_come_again_and_go_while_a_ledger_is_read():
    world = World(shots(10))
    for job in ("a", "b"):
        world.reserve(0, job, claim(2))
    world.settle_down()
    ledger = dict(world.shards[0].ledger)
    machine = world.shards[0].make()
    for key in (*ledger, *ledger):
        machine.restore(key, ledger[key])
    machine.restore(b"allowance/job/b", None)
    machine.restore(b"allowance/job/never", None)
    machine.restored(world.now)
    (holding,) = machine._holdings.values()
    assert (holding.reserved, holding.free, machine.reserved("b")) == (2, 2, {})


def test_no_budget_has_no_length():
    assert not Budgets({})
