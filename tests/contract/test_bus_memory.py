"""What the memory bus alone must imitate: abrupt death, open transactions, and long pauses, without a process."""

import asyncio

import pytest
from bus_under_test import create, eventually, poll_until, read_all, to, values

from shotbus.broker.bus.base import BusError, CommitUnknownError
from shotbus.broker.bus.memory import MemoryBus, MemoryCluster


@pytest.fixture
async def buses():
    cluster = MemoryCluster()
    made = MemoryBus(cluster), MemoryBus(cluster)
    for bus in made:
        await bus.start()
    return made


async def kill_after(bus, turns, commit):
    """Kill ``bus`` when its commit has run for so many turns of the loop."""
    task = asyncio.create_task(commit)
    for _ in range(turns):
        await asyncio.sleep(0)
    bus.kill()
    await asyncio.wait([task])
    return task.exception()


@pytest.mark.parametrize("turns", range(5))
async def test_a_kill_in_a_transaction_leaves_all_or_nothing(buses, turns):
    victim, survivor = buses
    partitions = await create(survivor, "a", 3)
    writer = await victim.fence("s")
    error = await kill_after(victim, turns, writer.commit([to(partition, b"v") for partition in partitions]))
    await survivor.fence("s")
    assert len(await read_all(survivor, partitions)) == (3 if error is None else 0)
    assert error is None or isinstance(error, CommitUnknownError)


async def test_an_open_transaction_holds_readers_back_until_its_shard_is_fenced(buses):
    victim, survivor = buses
    (partition,) = await create(survivor, "a")
    writer = await victim.fence("s")
    assert await kill_after(victim, 2, writer.commit([to(partition, b"lost")] * 2)) is not None
    await survivor.publish([to(partition, b"behind")])
    reader = survivor.reader({partition: 0})
    assert await reader.poll(max_records=10, timeout=0.05) == []
    assert await survivor.ends([partition]) == {partition: 0}
    await survivor.fence("s")
    assert values(await poll_until(reader, 1)) == [b"behind"]


async def test_a_transaction_leaves_one_marker_in_each_partition(buses):
    bus, _ = buses
    partitions = await create(bus, "a", 2)
    writer = await bus.fence("s")
    await writer.commit([to(partitions[0], b"v"), to(partitions[0], b"v"), to(partitions[1], b"v")])
    assert await bus.ends(partitions) == {partitions[0]: 3, partitions[1]: 2}


async def test_a_killed_bus_refuses_and_its_partitions_move_at_once(buses):
    victim, survivor = buses
    await create(survivor, "shards", 4)
    heard = []

    async def note(partitions):
        heard.append(partitions)

    await victim.join("g", "shards", on_assigned=note, on_revoked=note)
    member = await survivor.join("g", "shards", on_assigned=note, on_revoked=note)
    await eventually(lambda: len(member.assigned) == 2)
    victim.kill()
    with pytest.raises(BusError):
        await victim.topics()
    await eventually(lambda: len(member.assigned) == 4)
    await survivor.close()


async def test_a_member_declared_dead_hears_of_its_loss_and_rejoins(buses):
    bus, other = buses
    await create(bus, "shards", 4)
    heard = []

    async def assigned(partitions):
        heard.append(("assigned", len(partitions)))

    async def revoked(partitions):
        heard.append(("revoked", len(partitions)))

    await bus.join("g", "shards", on_assigned=assigned, on_revoked=revoked)
    await eventually(lambda: heard == [("assigned", 4)])
    bus.expire()
    await eventually(lambda: heard == [("assigned", 4), ("revoked", 4), ("assigned", 4)])
    await bus.close()


async def test_stored_records_share_nothing_with_their_writer(buses):
    bus, _ = buses
    (partition,) = await create(bus, "a")
    value = bytearray(b"before")
    await bus.publish([to(partition, value)])
    value[:] = b"after!"
    assert values(await read_all(bus, [partition])) == [b"before"]
