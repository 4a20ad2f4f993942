"""The Treasury and several shards' allowances on logs in memory, each node with a ledger of its own, crashing at will.

``World`` keeps a witness: what jobs were told and what was spent, noted when a transaction commits. It takes nothing
from the code under test but those answers.
"""

from collections import defaultdict

from shotbus.broker.config import BudgetConfig
from shotbus.broker.machine import Now, Tick
from shotbus.broker.treasury.allowance import UNLIMITED, Allowance, Refused, Reserved, Waits
from shotbus.broker.treasury.budgets import Budgets, Claim
from shotbus.broker.treasury.machine import Asked, Treasury
from shotbus.broker.treasury.prices import Cost
from shotbus.schemas.codec import decode, encode

START_MS = 1_900_000_000_000
DAY_MS = 86_400_000


def budgets(**tables):
    """Budgets from keyword tables: ``budgets(b={"resource": "shots", "limit": 10})``."""
    return Budgets({name: BudgetConfig(**{"tenant": "ada", **table}) for name, table in tables.items()})


def shots(limit, **more):
    """A budget of ada's shots, without blocks in advance."""
    return budgets(b={"resource": "shots", "limit": limit, "block": 0.0, **more})


def claim(units=1, tenant="ada", experiment="", pool="aer"):
    """A job that takes as much of everything."""
    return Claim(tenant, experiment, pool, Cost(units, units, units))


class Node:
    """A machine with its ledger and its place in its input; ``staged`` is what the open transaction will do."""

    def __init__(self, make, inbox):
        self.make, self.inbox = make, inbox
        self.ledger, self.position, self.version = {}, 0, 0
        self.seen_by_checks = (-1, None)
        self.machine = make()

    def begin_again(self, now):
        self.machine = self.make()
        for key, row in self.ledger.items():
            self.machine.restore(key, row)
        self.machine.restored(now)
        self.machine.touched()

    def rows(self):
        return {key: self.machine.snapshot(key) for key in self.machine.touched()}

    def keep(self, rows):
        self.version += 1
        for key, row in rows.items():
            if row is None:
                self.ledger.pop(key, None)
            else:
                self.ledger[key] = row


class Witness:
    """What was said to jobs and what they cost, as far as it is durable."""

    def __init__(self):
        self.jobs = {}
        self.reserved = {}
        self.spent = defaultdict(int)
        self.overdrawn = defaultdict(int)
        self.refusals = {}

    def claimed(self):
        """Units by purse: reserved by live jobs or spent."""
        told = defaultdict(int, self.spent)
        for parts in self.reserved.values():
            for purse, units in parts.items():
                told[purse] += units
        return told


class World:
    """Nodes and logs; ``shards`` dispatcher shards and as many of the Treasury."""

    def __init__(self, limits, shards=2, treasury=Treasury, allowance=Allowance):
        self.limits, self.count = limits, shards
        self.wall_ms, self.seen = START_MS, 0.0
        self.logs = {
            "treasury": [[] for _ in range(shards)],
            "grants": [[] for _ in range(shards)],
            "audit": [],
        }
        self.treasuries = [
            Node(lambda n=n: treasury(n, shards, limits), self.logs["treasury"][n]) for n in range(shards)
        ]
        self.shards = [
            Node(lambda n=n: allowance(n, shards, limits), self.logs["grants"][n]) for n in range(shards)
        ]
        self.witness = Witness()
        self.staged = [[] for _ in range(shards)]

    @property
    def now(self):
        return Now(self.wall_ms, self.seen)

    def pass_time(self, seconds, wall_ms=None):
        self.seen += seconds
        self.wall_ms += int(seconds * 1_000) if wall_ms is None else wall_ms

    # --- jobs, inside the open transaction of their shard ---

    def reserve(self, shard, job, asked):
        self.witness.jobs.setdefault(job, (shard, asked))
        answer = self.shards[shard].machine.reserve(job, asked, self.now)
        self._note(shard, job, answer)
        return answer

    def _note(self, shard, job, answer):
        if isinstance(answer, Reserved):
            self.staged[shard].append(("reserved", job, dict(answer.parts)))
        elif isinstance(answer, Refused):
            self.staged[shard].append(("refused", job, answer))

    def end(self, job, cost, how="settle"):
        """Settle or charge ``cost``, or release (no cost)."""
        shard, _ = self.witness.jobs[job]
        machine = self.shards[shard].machine
        held = dict(machine.reserved(job))
        if how == "release":
            machine.release(job)
            self.staged[shard].append(("ended", job, {}, {}, {}))
            return
        settled = machine.settle(job, cost) if how == "settle" else machine.charge(job, cost)
        spent = {
            purse: cost.shots for purse in held if purse.resource in ("shots", "money", "backend_seconds")
        }
        left = (
            {} if how == "settle" else {purse: max(0, n - spent.get(purse, 0)) for purse, n in held.items()}
        )
        self.staged[shard].append(("ended", job, spent, dict(settled.overdrawn), left))

    # --- transactions ---

    def turn(self, shard, records=100, commit=True):
        """Let a dispatcher shard read, tick and commit; or lose everything since its last commit."""
        node = self.shards[shard]
        taken = node.inbox[node.position : node.position + records]
        decided = []
        for value in taken:
            decided += node.machine.told(decode(value, "grant")[1], self.now)
        commands, late = node.machine.tick(self.now)
        for job, answer in [*decided, *late]:
            self._note(shard, job, answer)
        self.finish(node, len(taken), commands, commit, shard)

    def serve(self, number, records=100, commit=True):
        """Let a shard of the Treasury read, tick and commit; or crash."""
        node = self.treasuries[number]
        taken = node.inbox[node.position : node.position + records]
        commands = []
        for value in taken:
            commands += node.machine.handle(Asked(decode(value, "treasury_command")[1]), self.now)
        commands += node.machine.handle(Tick(), self.now)
        self.finish(node, len(taken), commands, commit)

    def finish(self, node, taken, commands, commit, shard=None):
        rows = node.rows()
        if not commit:
            self.crash(node, shard)
            return
        self.publish(commands)
        node.keep(rows)
        node.position += taken
        if shard is not None:
            self._durable(shard)

    def publish(self, commands):
        for command in commands:
            value = encode(command.schema, command.fields)
            log = self.logs[command.topic]
            (log if command.topic == "audit" else log[command.partition]).append(value)

    def crash(self, node, shard=None):
        node.begin_again(self.now)
        if shard is None:
            return
        self.staged[shard].clear()
        for job, (owner, asked) in list(self.witness.jobs.items()):
            if owner == shard and job not in self.witness.reserved and job not in self.witness.refusals:
                self.reserve(shard, job, asked)

    def _durable(self, shard):
        witness = self.witness
        for kind, job, *rest in self.staged[shard]:
            if kind == "reserved":
                witness.reserved[job] = rest[0]
            elif kind == "refused":
                witness.refusals[job] = rest[0]
            else:
                spent, overdrawn, left = rest
                for purse, units in spent.items():
                    witness.spent[purse] += units
                for purse, units in overdrawn.items():
                    witness.overdrawn[purse] += units
                witness.reserved[job] = left
                if not left:
                    del witness.reserved[job]
                    witness.refusals[job] = None
        self.staged[shard].clear()

    def settle_down(self, rounds=8):
        """Everyone reads and ticks until nothing is said any more."""
        for _ in range(rounds):
            for number in range(self.count):
                self.turn(number)
            for number in range(self.count):
                self.serve(number)

    # --- what must hold ---

    def check(self):
        claimed = self.witness.claimed()
        for purse, units in claimed.items():
            limit = self.limits.get(purse.budget).limit
            assert units <= limit + self.witness.overdrawn[purse], f"{purse}: {units} claimed of {limit}"
        for node in self.treasuries:
            for account in fresh(node, self.now)._accounts.values():
                gone = account.spent - account.overdrawn + account.held
                assert gone <= account.limit, f"{account.purse}: {gone} given of {account.limit}"
        for node in self.shards:
            for holding in fresh(node, self.now)._holdings.values():
                assert holding.free >= 0, holding

    def accounts(self):
        return {
            purse: account
            for node in self.treasuries
            for purse, account in fresh(node, self.now)._accounts.items()
        }

    def audit(self):
        return [decode(value, "audit_entry")[1] for value in self.logs["audit"]]


def fresh(node, now):
    """The machine as a successor would restore it."""
    if node.seen_by_checks[0] != node.version:
        copy = Node(node.make, node.inbox)
        copy.ledger = node.ledger
        copy.begin_again(now)
        node.seen_by_checks = (node.version, copy.machine)
    return node.seen_by_checks[1]


__all__ = [
    "DAY_MS",
    "START_MS",
    "UNLIMITED",
    "Refused",
    "Reserved",
    "Waits",
    "World",
    "budgets",
    "claim",
    "shots",
]
