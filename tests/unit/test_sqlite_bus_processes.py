"""The embedded bus among real processes: bells, the write lock, a full disk, a paused member."""

import asyncio
import contextlib
import fcntl
import signal
import sys
import time
from pathlib import Path

import pytest

from shotbus.broker.bus import sqlite_writer
from shotbus.broker.bus.base import Outgoing, TopicPartition, TopicSpec
from shotbus.broker.bus.sqlite import SqliteBus

CHILD = Path(__file__).with_name("sqlite_bus_child.py")
A, B = TopicPartition("a", 0), TopicPartition("b", 0)


@pytest.fixture
async def bus(tmp_path):
    bus = SqliteBus(tmp_path, session_timeout=1.0)
    await bus.start()
    await bus.create_topics([TopicSpec("a", 2), TopicSpec("b", 1)])
    yield bus
    await bus.close()


def tell(process, number):
    """Send a signal; a child that has just ended by itself is not an error."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


@pytest.fixture
async def child(tmp_path):
    started = []

    async def start(role, session_timeout=1.0):
        process = await asyncio.create_subprocess_exec(
            sys.executable, CHILD, role, tmp_path, str(session_timeout), stdout=asyncio.subprocess.PIPE
        )
        started.append(process)
        return process

    yield start
    for process in started:
        tell(process, signal.SIGCONT)
        tell(process, signal.SIGKILL)
        await process.communicate()


async def line(process):
    return (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()


async def read_all(bus, partition):
    reader, end, records = bus.reader({partition: 0}), (await bus.ends([partition]))[partition], []
    while reader.position(partition) < end:
        records += await reader.poll(max_records=1_000, timeout=1)
    await reader.close()
    return records


async def eventually(condition):
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def test_bells_alone_wake_readers_in_other_processes_both_ways(bus, child, monkeypatch):
    monkeypatch.setattr("shotbus.broker.bus.sqlite_reader.FALLBACK_S", 3_600)
    assert await line(await child("echo")) == "ready"
    reader = bus.reader({B: 0})
    for number in range(20):
        await bus.publish([Outgoing("a", 0, None, b"%d" % number)])
        (answer,) = await reader.poll(max_records=1, timeout=60)
        assert answer.value == b"%d" % number


async def test_processes_that_fight_for_the_lock_all_get_through(bus, child):
    writers = [await child("write_fifty") for _ in range(4)]
    for writer in writers:
        assert await line(writer) == "done"
    records = await read_all(bus, A)
    assert [record.offset for record in records] == list(range(200))
    for key in {record.key for record in records}:
        assert [r.value for r in records if r.key == key] == [b"%d" % number for number in range(50)]


async def test_a_full_disk_refuses_loses_nothing_and_is_overcome(bus, child):
    process = await child("fill_the_disk")
    acknowledged = int((await line(process)).removeprefix("refused "))
    assert await line(process) == "unknown"
    assert await line(process) == "recovered"
    assert await process.wait() == 0
    records = await read_all(bus, A)
    assert [r.key for r in records[:acknowledged]] == [b"%d" % number for number in range(acknowledged)]
    assert acknowledged > 5
    assert {len(r.value) for r in records[acknowledged:-1]} <= {50_000}, "what was refused is whole or absent"
    assert records[-1].value == b"after"
    sizes = [len(record.value) for record in await read_all(bus, B)]
    assert sizes in ([5], [100_000] * 5 + [5])


async def test_a_paused_member_is_replaced_and_hears_of_it_when_it_goes_on(bus, child):
    sleeper = await child("hold")
    assert await line(sleeper) == "assigned 0 1"
    tell(sleeper, signal.SIGSTOP)
    held = set()

    async def assigned(partitions):
        held.update(partitions)

    async def revoked(partitions):
        held.difference_update(partitions)

    await bus.join("g", "a", on_assigned=assigned, on_revoked=revoked)
    await eventually(lambda: held == {0, 1})
    tell(sleeper, signal.SIGCONT)
    assert await line(sleeper) == "revoked 0 1"
    assert (await line(sleeper)).split()[0] == "assigned"
    await eventually(lambda: len(held) == 1)


async def test_a_killed_member_is_missed_at_once_by_its_bell(tmp_path, child):
    bus = SqliteBus(tmp_path, session_timeout=3_600)
    await bus.start()
    await bus.create_topics([TopicSpec("a", 2), TopicSpec("b", 1)])
    held = set()

    async def assigned(partitions):
        held.update(partitions)

    victim = await child("hold", session_timeout=3_600)
    assert await line(victim) == "assigned 0 1"
    victim.kill()
    await victim.wait()
    await bus.join("g", "a", on_assigned=assigned, on_revoked=assigned)
    await eventually(lambda: held == {0, 1})
    await bus.close()


async def test_an_idle_bus_burns_next_to_nothing(bus):
    async def nothing(partitions):
        pass

    await bus.join("g", "a", on_assigned=nothing, on_revoked=nothing)
    waiting = asyncio.create_task(bus.reader({A: 0}).poll(max_records=1, timeout=60))
    await asyncio.sleep(0.3)
    before = time.process_time()
    await asyncio.sleep(1.5)
    assert time.process_time() - before < 0.15
    waiting.cancel()


async def test_a_start_that_waits_for_a_paused_process_says_for_whom(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(sqlite_writer, "_LOCK_WARNING_S", 0.05)
    first = SqliteBus(tmp_path)
    await first.start()
    await first.close()
    with (tmp_path / "lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        bus = SqliteBus(tmp_path)
        starting = asyncio.create_task(bus.start())
        async with asyncio.timeout(30):
            while "is it paused?" not in caplog.text:  # noqa: ASYNC110 -- a log line has no event
                await asyncio.sleep(0.01)
        assert not starting.done()
    await starting
    await bus.close()
