"""Child processes of the embedded bus's tests: ``python sqlite_bus_child.py ROLE DIRECTORY SESSION``, which speak in lines."""

import asyncio
import os
import resource
import sys
from pathlib import Path

from shotbus.broker.bus import sqlite_reader
from shotbus.broker.bus.base import BusError, CommitUnknownError, Outgoing, TopicPartition, TopicSpec
from shotbus.broker.bus.sqlite import SqliteBus

PARTITION = TopicPartition("a", 0)


def say(*words):
    print(*words, flush=True)


async def echo(bus):
    """Answer each record of ``a`` with the same on ``b``; without a bell it would answer never."""
    sqlite_reader.FALLBACK_S = 3_600
    reader = bus.reader({PARTITION: 0})
    say("ready")
    while True:
        for record in await reader.poll(max_records=10, timeout=3_600):
            await bus.publish([Outgoing("b", 0, record.key, record.value)])


async def write_fifty(bus):
    for number in range(50):
        await bus.publish([Outgoing("a", 0, b"%d" % os.getpid(), b"%d" % number)])
    say("done")


async def hold(bus):
    async def assigned(partitions):
        say("assigned", *sorted(partitions))

    async def revoked(partitions):
        say("revoked", *sorted(partitions))

    await bus.join("g", "a", on_assigned=assigned, on_revoked=revoked)
    await asyncio.Event().wait()


async def fill_the_disk(bus):
    """Write until no file may grow further; then be given room again, and go on."""
    writer = await bus.fence("s")
    limit_files(2 * 1024 * 1024)
    acknowledged = await publish_until_refused(bus)
    say("refused", acknowledged)
    try:
        await writer.commit([Outgoing("b", 0, None, bytes(100_000))] * 5)
    except CommitUnknownError:
        say("unknown")
    limit_files(resource.RLIM_INFINITY)
    successor = await bus.fence("s")
    await successor.commit([Outgoing("b", 0, None, b"after")])
    await bus.publish([Outgoing("a", 0, None, b"after")])
    say("recovered")


def limit_files(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


async def publish_until_refused(bus):
    for number in range(1_000):
        try:
            await bus.publish([Outgoing("a", 0, b"%d" % number, bytes(50_000))])
        except BusError:
            return number
    raise AssertionError("the limit never bit")


async def main(role, directory, session_timeout):
    bus = SqliteBus(Path(directory), session_timeout=float(session_timeout))
    await bus.start()
    await bus.create_topics([TopicSpec("a", 2), TopicSpec("b", 1)])
    await globals()[role](bus)
    await bus.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
