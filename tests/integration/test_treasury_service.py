"""The Treasury as it runs: in its service on a bus, beside the dispatcher of ``shotbus up``, and read by ``shotbus budget``."""

import asyncio
import json
import re
import time

import pytest
from cli_kit import invoke, said, told
from embedded_kit import Broker, eventually, on_bus, records
from prometheus_client import generate_latest

from shotbus.broker.bus.base import Outgoing, TopicPartition
from shotbus.broker.bus.memory import MemoryBus, MemoryCluster
from shotbus.broker.config import BudgetConfig, Config
from shotbus.broker.machine import Now
from shotbus.broker.telemetry import Metrics
from shotbus.broker.topics import Topics
from shotbus.broker.treasury.allowance import Allowance
from shotbus.broker.treasury.balances import read_balances
from shotbus.broker.treasury.budgets import Budgets, Claim
from shotbus.broker.treasury.periods import period_of, stamp
from shotbus.broker.treasury.prices import Cost
from shotbus.broker.treasury.service import TreasuryService
from shotbus.schemas.codec import decode, encode

TABLES = {
    "money": {"tenant": "*", "resource": "money", "limit": 12.5, "period": "month", "alerts": [0.1, 0.9]},
    "places": {"tenant": "ada", "pool": "aer", "resource": "jobs", "limit": 3},
}
CONFIG = Config(budgets={name: BudgetConfig(**table) for name, table in TABLES.items()})
TOML = "".join(
    f"[budgets.{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
    for name, table in TABLES.items()
)


class Shard:
    """What a dispatcher's shard says and hears, published by hand."""

    def __init__(self, bus, topics):
        self.bus, self.topics = bus, topics
        self.allowance = Allowance(0, topics.partitions, Budgets(CONFIG.budgets))
        self.place = TopicPartition(topics.name("grants"), 0)

    @property
    def now(self):
        return Now(time.time_ns() // 1_000_000, time.monotonic())

    async def say(self):
        commands, _ = self.allowance.tick(self.now)
        await self.bus.publish(
            [
                Outgoing(self.topics.name(one.topic), one.partition, one.key, encode(one.schema, one.fields))
                for one in commands
            ]
        )

    async def spend(self, jobs):
        """Reserve for jobs, hear the answers, settle the first of them."""
        for name in jobs:
            self.allowance.reserve(name, Claim("ada", "", "aer", Cost(money=2_000_000)), self.now)
        await self.say()
        reader = self.bus.reader(await self.bus.begins([self.place]))
        async with asyncio.timeout(30):
            while not all(self.allowance.reserved(name) for name in jobs):
                for record in await reader.poll(max_records=10, timeout=1.0):
                    self.allowance.told(decode(record.value, "grant")[1], self.now)
        self.allowance.settle(jobs[0], Cost(money=1_500_000))
        await asyncio.sleep(1.1)
        await self.say()
        await reader.close()


def by_budget(found):
    return {one["budget"]: one for one in found}


async def test_the_service_answers_shows_balances_and_counts():
    topics, metrics = Topics(partitions=2), Metrics(role="test", version="0")
    bus = MemoryBus(MemoryCluster())
    await bus.start()
    await bus.create_topics(topics.specs(["aer"]))
    service = TreasuryService(bus=bus, topics=topics, config=CONFIG, metrics=metrics)
    await service.start()
    await Shard(bus, topics).spend(["a", "b"])
    async with asyncio.timeout(20):
        while True:
            now_ms = time.time_ns() // 1_000_000
            found = await read_balances(bus, topics, CONFIG, now_ms=now_ms)
            balances = by_budget(one.as_json() for one in found)
            if balances["money"]["spent"] == "1.5" and balances["places"]["reserved"] == "1":
                break
            await asyncio.sleep(0.05)
    text = generate_latest(metrics.registry).decode()
    assert 'shotbus_budget_spent_units{resource="money"} 1.5' in text
    assert "shotbus_treasury_granted_total 2.0" in text
    # Only what is configured has a label; what is counted at a time has no thresholds.
    assert set(re.findall(r"(?m)^shotbus_treasury_alert_total.*$", text)) == {
        'shotbus_treasury_alert_total{budget="money",threshold="0.1"} 1.0',
        'shotbus_treasury_alert_total{budget="money",threshold="0.9"} 0.0',
    }
    await service.stop()
    await bus.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A broker with budgets, of which shard 0 has spent something."""
    folder = tmp_path_factory.mktemp("budgets")
    (folder / "data").mkdir()
    (folder / "data" / "shotbus.toml").write_text(TOML)
    with Broker(folder / "data", "noop") as broker:
        (folder / "shotbus.toml").write_text(f'[broker]\nurl = "{broker.url}"\n{TOML}')
        yield folder, broker


@pytest.fixture(scope="module")
def folder(served):
    return served[0]


@pytest.fixture(scope="module")
def broker(served):
    return served[1]


def test_a_broker_with_budgets_keeps_them_and_the_command_shows_them(folder):
    before = by_budget(told(folder, "budget")["budgets"])
    assert (before["money"]["tenant"], before["money"]["limit"], before["money"]["spent"]) == (
        "*",
        "12.5",
        "0",
    )
    on_bus(f"sqlite:///{folder}/data", lambda bus, topics: Shard(bus, topics).spend(["a", "b"]))
    for _ in range(100):
        after = by_budget(told(folder, "budget", "--tenant", "ada")["budgets"])
        if after["money"]["spent"] == "1.5":
            break
        time.sleep(0.05)
    month = period_of("month", time.time_ns() // 1_000_000)
    sums = {name: after["money"][name] for name in ("tenant", "spent", "reserved", "since", "until")}
    assert sums == {
        "tenant": "ada",
        "spent": "1.5",
        "reserved": "2",
        "since": stamp(month.since),
        "until": stamp(month.until),
    }
    assert after["money"]["units"]["spent"] == 1_500_000
    assert after["places"]["reserved"] == "1"
    assert max(map(len, said(folder, "budget").splitlines())) <= 120


def test_a_passed_threshold_is_seen_in_the_log_the_metrics_the_list_and_the_audit(folder, broker):
    (alarm,) = eventually(lambda: [one for one in broker.lines() if "threshold" in one["event"]])
    assert (alarm["level"], alarm["budget"], alarm["spent"]) == ("warning", "money tenant=ada", "1.5")
    assert 'shotbus_treasury_alert_total{budget="money",threshold="0.1"} 1.0' in broker.metrics()[0]
    money = by_budget(told(folder, "budget", "--tenant", "ada")["budgets"])["money"]
    assert money["alerted"] == 0.1
    assert f"10% {money['alerted_at'][:16]}Z" in said(folder, "budget")
    found = told(folder, "audit", "--target", "money", "--action", "budget")
    (entry,) = found["entries"]
    assert (entry["target"], entry["reason"]) == ("money tenant=ada", "10% of the limit is spent")
    assert stamp(entry["at_us"] // 1_000) == money["alerted_at"]
    assert (found["checked"], found["broken"]) == (1, [])


def test_an_entry_put_into_the_audit_log_by_hand_is_exit_code_1_whatever_is_listed(folder, broker):
    (kept,) = [decode(one.value)[1] for one in records(broker.url, "audit")]
    forged = encode("audit_entry", kept | {"principal": "eve"})
    on_bus(broker.url, lambda bus, topics: bus.publish([Outgoing(topics.name("audit"), 0, b"", forged)]))
    for words in ([], ["--principal", "nobody"]):
        changed, order = told(folder, "audit", *words, code=1)["broken"]
        assert changed.endswith("entry 1: was changed")
        assert order.endswith("entry 1: does not follow entry 1")
    assert "2 links are broken" in invoke(folder, "audit", "--since", "1h")[1]


def test_another_tenants_balances_are_left_out_on_request(folder):
    names = {one["tenant"] for one in told(folder, "budget", "--tenant", "bob")["budgets"]}
    assert names <= {"", "*"}


def test_without_budgets_the_command_says_so(folder):
    (folder / "none.toml").write_text(f'[broker]\nurl = "sqlite:///{folder}/data"\n')
    assert "outstanding" in said(folder, "budget")
    # The ledger has those of others still.
    of_nobody = said(folder, "budget", "--config", "none.toml", "--tenant", "nobody")
    assert of_nobody == "no budget concerns nobody\n"
    empty = folder / "empty" / "bus"
    empty.mkdir(parents=True, exist_ok=True)
    assert (
        said(folder, "budget", "--config", "none.toml", "--data", empty.parent) == "no budget is configured\n"
    )
