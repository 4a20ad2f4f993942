"""Treasury and allowances under anything that may happen: limits hold at every step, and nothing is lost."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from treasury_kit import DAY_MS, World, budgets, claim

from shotbus.broker.audit import verify
from shotbus.broker.treasury.allowance import Allowance
from shotbus.broker.treasury.machine import Treasury
from shotbus.broker.treasury.prices import Cost

SHARDS = 3
NODE = st.integers(0, SHARDS - 1)
INDEX = st.integers(0, 1_000)
COMMIT = st.sampled_from([True, True, True, False])
LIMITS = {
    "shots": {"tenant": "*", "resource": "shots", "limit": 20, "period": "day", "block": 0.1},
    "money": {"tenant": "ada", "pool": "qpu", "resource": "money", "limit": 0.00003, "block": 0.2},
    "places": {"tenant": "*", "resource": "jobs", "limit": 4},
    "pool": {"tenant": "", "pool": "qpu", "resource": "backend_seconds", "limit": 0.00005, "period": "month"},
}


class TreasuryRules(RuleBasedStateMachine):
    """Jobs come and end on three shards; any node may lose its transaction, restart, or read records again."""

    treasury, allowance, world_class = Treasury, Allowance, World

    def __init__(self):
        super().__init__()
        self.world = self.world_class(budgets(**LIMITS), SHARDS, self.treasury, self.allowance)
        self.number = 0

    @rule(
        shard=NODE,
        units=st.sampled_from([1, 1, 3, 8, 25]),
        tenant=st.sampled_from(["ada", "bob"]),
        pool=st.sampled_from(["aer", "qpu"]),
        count=st.integers(1, 4),
    )
    def submit(self, shard, units, tenant, pool, count):
        for _ in range(count):
            self.number += 1
            self.world.reserve(shard, f"job{self.number}", claim(units, tenant, pool=pool))

    def live(self, index):
        jobs = [job for job in self.world.witness.reserved if self.holds(job)]
        return jobs[index % len(jobs)] if jobs else None

    def holds(self, job):
        shard, _ = self.world.witness.jobs[job]
        return self.world.shards[shard].machine.reserved(job)

    @precondition(lambda self: self.world.witness.reserved)
    @rule(
        index=INDEX,
        part=st.sampled_from([0.0, 0.5, 1.0, 1.0]),
        how=st.sampled_from(["settle", "release", "charge"]),
    )
    def end(self, index, part, how):
        job = self.live(index)
        if job:
            units = self.world.witness.jobs[job][1].cost.shots
            self.world.end(job, Cost(*[int(units * part)] * 3), how)

    @precondition(lambda self: self.world.witness.reserved)
    @rule(index=INDEX)
    def cost_more_than_reserved(self, index):
        job = self.live(index)
        if job:
            units = self.world.witness.jobs[job][1].cost.shots
            self.world.end(job, Cost(*[units + 3] * 3))

    @precondition(lambda self: self.world.witness.reserved)
    @rule(index=INDEX)
    def end_again(self, index):
        job = self.live(index)
        if job:
            self.world.end(job, Cost(), "release")
            shard, _ = self.world.witness.jobs[job]
            machine = self.world.shards[shard].machine
            assert machine.settle(job, Cost(9, 9, 9)).overdrawn == ()
            assert not machine.release(job)

    @rule(shard=NODE, records=st.integers(0, 4), commit=COMMIT)
    def turn(self, shard, records, commit):
        self.world.turn(shard, records, commit)

    @rule(number=NODE, records=st.integers(0, 4), commit=COMMIT)
    def serve(self, number, records, commit):
        self.world.serve(number, records, commit)

    @rule()
    def everyone(self):
        self.world.settle_down(2)

    @rule(number=NODE, records=st.integers(1, 5), treasury=st.booleans())
    def read_again(self, number, records, treasury):
        node = (self.world.treasuries if treasury else self.world.shards)[number]
        node.position = max(0, node.position - records)

    @rule(
        seconds=st.sampled_from([0.25, 1.0, 3.0, 11.0, 31.0]),
        wall=st.sampled_from([None, DAY_MS, -3_600_000]),
    )
    def time_passes(self, seconds, wall):
        self.world.pass_time(seconds, wall)

    @invariant()
    def limits_hold(self):
        self.world.check()

    def teardown(self):
        """Every job ends, every unit comes home, and the books agree with the witness."""
        world = self.world
        for _ in range(6):
            for number in range(SHARDS):
                world.turn(number)
            for job in list(world.witness.reserved):
                if self.holds(job):
                    world.end(job, world.witness.jobs[job][1].cost)
            world.pass_time(12.0)
            world.settle_down(4)
        assert set(world.witness.jobs) == set(world.witness.refusals), "a job was never told"
        world.pass_time(40.0, 40 * DAY_MS)
        world.settle_down(4)
        for purse, account in world.accounts().items():
            assert account.held == 0, f"{purse}: {account.held} lost"
            assert account.spent == world.witness.spent[purse], purse
            assert account.overdrawn == world.witness.overdrawn[purse], purse
        assert verify(world.audit()) == []
        self.idle_units_go_where_they_are_wanted()

    def idle_units_go_where_they_are_wanted(self):
        """With everyone alive an answer takes no time, and a recall comes before a refusal."""
        for shard, job in enumerate(("one", "two")):
            self.world.reserve(shard, job, claim(19, tenant="cyd"))
            self.world.settle_down(4)
            assert job in self.world.witness.reserved
            self.world.end(job, Cost(), "release")


RULES = settings(max_examples=120, stateful_step_count=40, report_multiple_bugs=False)


def test_limits_hold_and_nothing_is_lost_whatever_happens():
    run_state_machine_as_test(TreasuryRules, settings=RULES)
