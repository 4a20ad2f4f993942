"""Child processes of the conformance suite: ``python bus_child.py ROLE SPEC PREFIX``, spoken to by lines."""

import asyncio
import itertools
import os
import sys

from bus_under_test import opened, poll_until, to

from shotbus.broker.bus.base import TopicPartition


def say(*words):
    print(*words, flush=True)


async def write_transactions(bus, prefix):
    """Commit for ever: transaction n writes its number to three partitions of two topics."""
    partitions = [
        TopicPartition(f"{prefix}a", 0),
        TopicPartition(f"{prefix}a", 1),
        TopicPartition(f"{prefix}b", 0),
    ]
    writer = await bus.fence(f"{prefix}shard")
    for number in itertools.count():
        value = f"{os.getpid()}:{number}".encode()
        await writer.commit([to(partition, value) for partition in partitions for _ in range(3)])
        say(number)


async def publish_hundred(bus, prefix):
    """Publish 0 to 99, one call each."""
    for number in range(100):
        await bus.publish([to(TopicPartition(f"{prefix}a", 0), b"%d" % number)])
    say("published")


async def read_hundred(bus, prefix):
    """Print the first hundred values as they come."""
    reader = bus.reader({TopicPartition(f"{prefix}a", 0): 0})
    say("reading")
    say(*[record.value.decode() for record in await poll_until(reader, 100)])


async def hold_partitions(bus, prefix):
    """Be a member of the group until killed."""

    async def assigned(partitions):
        say("assigned", *sorted(partitions))

    async def revoked(partitions):
        say("revoked", *sorted(partitions))

    await bus.join(f"{prefix}g", f"{prefix}shards", on_assigned=assigned, on_revoked=revoked)
    await asyncio.Event().wait()


async def main(role, spec, prefix):
    async with opened(spec) as bus:
        await globals()[role](bus, prefix)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
