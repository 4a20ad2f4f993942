"""Conformance: several processes on one log, some of them killed without warning at any moment."""

import asyncio
import contextlib
import itertools
import random
import signal
import sys
from pathlib import Path

import pytest
from bus_under_test import create, eventually, read_all, to, values

from shotbus.broker.bus.base import FencedError

CHILD = Path(__file__).with_name("bus_child.py")
KILLS = 12
pytestmark = pytest.mark.parametrize(
    "bus_kind", ["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)], indirect=True
)


def tell(process, number):
    """Send a signal; a child that has just ended by itself is not an error."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


@pytest.fixture
async def child(bus_spec, prefix):
    """Start a child in a role of ``bus_child``; whatever still runs at the end is killed."""
    started = []

    async def start(role):
        process = await asyncio.create_subprocess_exec(
            sys.executable, CHILD, role, bus_spec, prefix, stdout=asyncio.subprocess.PIPE
        )
        started.append(process)
        return process

    yield start
    for process in started:
        tell(process, signal.SIGCONT)
        tell(process, signal.SIGKILL)
        await process.communicate()


async def heard(process, word):
    """Read the child's lines until one begins with ``word``, and return it."""
    async with asyncio.timeout(60):
        while line := (await process.stdout.readline()).decode():
            if line.startswith(word):
                return line
    raise AssertionError(f"the child ended without saying {word!r}")


async def three_partitions(bus, prefix):
    return [*await create(bus, f"{prefix}a", 2), *await create(bus, f"{prefix}b")]


def transactions_of(records, partition):
    """Return the numbers of the transactions seen in a partition, each with its count of records."""
    mine = [record.value for record in records if (record.topic, record.partition) == partition]
    return [(value, len(list(run))) for value, run in itertools.groupby(mine)]


async def test_a_writer_and_a_reader_in_processes_of_their_own(bus, prefix, child):
    await create(bus, f"{prefix}a")
    reader = await child("read_hundred")
    await heard(reader, "reading")
    writer = await child("publish_hundred")
    await heard(writer, "published")
    assert (await heard(reader, "0")).split() == [str(number) for number in range(100)]


async def test_a_kill_at_any_moment_leaves_only_whole_transactions(bus, prefix, child):
    partitions = await three_partitions(bus, prefix)
    chance = random.Random(20260726)
    acknowledged = []
    for _ in range(KILLS):
        process = await child("write_transactions")
        await heard(process, "1")
        await asyncio.sleep(chance.uniform(0, 0.03))
        process.kill()
        said = (await process.stdout.read()).decode().split()
        acknowledged.append((process.pid, int(said[-1]) if said else 1))
    # The successor's fence ends whatever the last victim left open.
    await (await bus.fence(f"{prefix}shard")).close()
    records = await read_all(bus, partitions)
    seen = [transactions_of(records, partition) for partition in partitions]
    assert seen[0] == seen[1] == seen[2]
    assert {count for _, count in seen[0]} == {3}
    for pid, last in acknowledged:
        mine = [value for value, _ in seen[0] if value.startswith(b"%d:" % pid)]
        assert mine == [b"%d:%d" % (pid, number) for number in range(len(mine))]
        assert len(mine) > last, "an acknowledged transaction is missing"


async def test_a_paused_process_that_lost_its_shard_can_commit_nothing_more(bus, prefix, child):
    partitions = await three_partitions(bus, prefix)
    zombie = await child("write_transactions")
    await heard(zombie, "2")
    tell(zombie, signal.SIGSTOP)
    async with asyncio.timeout(60):
        writer = await fence_despite_a_pause(bus, prefix, zombie)
        await writer.commit([to(partitions[0], b"successor")])
        tell(zombie, signal.SIGCONT)
        assert await zombie.wait() != 0
    records = await read_all(bus, partitions)
    mine = [record.value for record in records if (record.topic, record.partition) == partitions[0]]
    assert mine[-1] == b"successor"


async def fence_despite_a_pause(bus, prefix, victim):
    """Take the shard; a victim that was paused while it held the log's lock has to run on for that."""
    taking = asyncio.ensure_future(bus.fence(f"{prefix}shard"))
    if not (await asyncio.wait([taking], timeout=5))[0]:
        tell(victim, signal.SIGCONT)
    return await taking


async def test_a_killed_member_is_replaced(bus, prefix, child):
    await create(bus, f"{prefix}shards", 4)
    holds = set()

    async def on_assigned(partitions):
        holds.update(partitions)

    async def on_revoked(partitions):
        holds.difference_update(partitions)

    victim = await child("hold_partitions")
    await heard(victim, "assigned 0 1 2 3")
    await bus.join(f"{prefix}g", f"{prefix}shards", on_assigned=on_assigned, on_revoked=on_revoked)
    await eventually(lambda: len(holds) == 2)
    victim.kill()
    await eventually(lambda: holds == {0, 1, 2, 3})
    # Whoever took its partitions had to know that it is gone.
    assert await bus.members(f"{prefix}g", f"{prefix}shards") == 1


async def test_everything_is_there_after_a_restart(bus, bus_factory, prefix):
    (partition,) = await create(bus, f"{prefix}a")
    writer = await bus.fence(f"{prefix}s")
    await writer.commit([to(partition, b"0"), to(partition, b"1")])
    await bus.close()
    again = await bus_factory()
    await again.publish([to(partition, b"2")])
    with pytest.raises(FencedError):
        await commit_with_the_old_epoch(again, writer, partition, prefix)
    assert values(await read_all(again, [partition])) == [b"0", b"1", b"2"]


async def commit_with_the_old_epoch(bus, writer, partition, prefix):
    """Fence once more, so that a stale writer is refused by number and not by its closed bus."""
    stale = await bus.fence(f"{prefix}s")
    await bus.fence(f"{prefix}s")
    await stale.commit([to(partition, b"stale")])
