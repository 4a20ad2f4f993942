"""A named member of a Kafka group: in the test's own process, or as ``python kafka_member.py ADDRESS PREFIX NAME``.

Its session lasts a minute: what comes back within seconds has not waited for it.
"""

import asyncio
import sys

from shotbus.broker.bus.base import TopicSpec
from shotbus.broker.bus.kafka import KafkaBus, KafkaSettings

SESSION_MS = 60_000
PARTITIONS = 4


class Member:
    """Joins, and remembers what it was told."""

    def __init__(self, address, prefix, name):
        self._bus = KafkaBus(KafkaSettings(bootstrap=address, session_timeout_ms=SESSION_MS, instance=name))
        self._prefix = prefix
        self.assigned, self.revoked, self.lost = [], [], []
        self.membership = None

    async def __aenter__(self):
        await self._bus.start()
        await self._bus.create_topics([TopicSpec(f"{self._prefix}shards", PARTITIONS)])
        self.membership = await self._bus.join(
            f"{self._prefix}g",
            f"{self._prefix}shards",
            on_assigned=self._assigned,
            on_revoked=self._revoked,
            on_lost=self.lost.append,
        )
        return self

    async def __aexit__(self, *_):
        await self._bus.close()

    @property
    def holds(self):
        return sorted(self.membership.assigned)

    async def _assigned(self, partitions):
        self.assigned.append(sorted(partitions))

    async def _revoked(self, partitions):
        self.revoked.append(sorted(partitions))


async def main(address, prefix, name):
    async with Member(address, prefix, name) as member:
        print(*member.holds, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
