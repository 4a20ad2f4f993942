"""After a restore jobs get their places part by part, so that a process with many keeps its heartbeats."""

import asyncio

from dispatcher_kit import Driver, config, payload, request, restore, submitted
from shard_kit import Plant

from shotbus.broker.bus.base import Outgoing, TopicPartition
from shotbus.broker.dispatcher import restoring
from shotbus.broker.dispatcher.machine import Dispatcher
from shotbus.broker.ledger import replay_ledger
from shotbus.broker.machine import SettlesInParts

LEDGER = TopicPartition("out", 0)


def build():
    return Dispatcher(0, 1, config())


def driver_with(jobs):
    driver = Driver(build)
    driver.run(
        *(submitted(request(one, payload_hash=payload(one)), offset=one) for one in range(1, jobs + 1))
    )
    return driver


def test_settling_in_parts_ends_where_settling_at_once_does(monkeypatch):
    monkeypatch.setattr(restoring, "SETTLED_AT_ONCE", 100)
    driver = driver_with(250)
    parted = build()
    for key, row in driver.ledger.items():
        parted.restore_row(key, row)
    assert isinstance(parted, SettlesInParts)
    steps = sum(1 for _ in parted.settling())
    parted.restored(driver.now)
    whole = restore(build, driver.ledger, driver.now)
    assert steps == -(-len(whole.live) // 100) > 1
    assert parted.waiting() == whole.waiting() == driver.machine.waiting()
    assert parted.live.keys() == whole.live.keys()


async def test_others_have_their_turn_while_a_long_ledger_is_read():
    bus, turns = await Plant().bus(), []
    for start in range(0, 5_000, 1_000):
        await bus.publish([Outgoing(*LEDGER, b"%d" % one, b"row") for one in range(start, start + 1_000)])

    async def others():
        while True:
            turns.append(len(rows))
            await asyncio.sleep(0)

    rows = []
    task = asyncio.create_task(others())
    await replay_ledger(bus, LEDGER, lambda key, row: rows.append((key, row)))
    task.cancel()
    assert len(rows) == 5_000
    assert max(later - earlier for earlier, later in zip(turns, turns[1:], strict=False)) <= 1_000
