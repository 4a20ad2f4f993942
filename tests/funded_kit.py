"""A dispatcher's shard with budgets and the Treasury that grants them, for tests that read like a story."""

from dataclasses import replace

from dispatcher_kit import PARTITIONS, SHARD, Driver, config, emitted
from treasury_kit import Node

from shotbus.broker.config import BudgetConfig, PriceConfig
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.dispatcher.messages import Told
from shotbus.broker.machine import Tick
from shotbus.broker.treasury.budgets import Budgets
from shotbus.broker.treasury.machine import Asked, Treasury
from shotbus.schemas.codec import decode, encode


def with_money(limit, **changes):
    """Two pools, ``noop`` free of charge and ``aer`` at one unit a job; ada has so many units a day."""
    settings = config(bundle_jobs=1, max_attempts=1)
    dear = replace(settings.pools["aer"], price=PriceConfig(per_task=1.0))
    money = BudgetConfig(tenant="ada", resource="money", limit=limit, period="day", block=0.0)
    return replace(settings, pools={**settings.pools, "aer": dear}, budgets={"money": money}, **changes)


class Funded(Driver):
    """Runs the shard; :meth:`bank` has the Treasury answer what it was asked."""

    def __init__(self, settings):
        super().__init__(lambda: Dispatcher(SHARD, PARTITIONS, settings))
        budgets = Budgets(settings.budgets)
        self.nodes = [Node(lambda n=n: Treasury(n, PARTITIONS, budgets), []) for n in range(PARTITIONS)]

    def run(self, *events):
        commands = super().run(*events)
        for one in commands:
            if getattr(one, "schema", "") == "treasury_command":
                self.nodes[one.partition].inbox.append(encode(one.schema, one.fields))
        return commands

    def bank(self):
        """Let the Treasury answer and the shard hear it; returns the shard's commands."""
        told = []
        for node in self.nodes:
            commands = []
            for value in node.inbox[node.position :]:
                commands += node.machine.handle(Asked(decode(value, "treasury_command")[1]), self.now)
            node.position = len(node.inbox)
            told += emitted([*commands, *node.machine.handle(Tick(), self.now)], "grant")
        return self.run(*(Told(decode(encode("grant", fields), "grant")[1]) for fields in told))

    def held(self, job_id):
        """The micro-units of money that a job has set aside."""
        parts = self.machine.shard.funds.allowance.reserved(job_id)
        return sum(units for purse, units in parts.items() if purse.resource == "money")

    def spent(self):
        """The micro-units of money that the Treasury knows to be spent."""
        return sum(node.machine.spent(self.wall_ms).get("money", 0) for node in self.nodes)
