"""Advertisements are dated so that history is old and news is fresh, whatever the clocks of other hosts say."""

import asyncio

from shotbus.broker.bus.base import Outgoing, TopicPartition
from shotbus.broker.bus.memory import MemoryBus, MemoryCluster
from shotbus.broker.pools import PoolsTail
from shotbus.broker.topics import Topics
from shotbus.schemas.codec import encode

STATUS = dict.fromkeys(("name", "pool", "kind", "version"), "x") | {
    "role": "worker",
    "state": "ready",
    "partitions": [],
    "slots": 1,
    "prefetch": 0,
    "grants": {},
    "backlog": {},
    "done": 0,
    "failed": 0,
    "service_seconds": 0.0,
    "at_ms": 0,
}


class HandClock:
    """The reader's clocks; the bus stamps records with ``stamp`` seconds."""

    seconds = 1_000.0
    stamp = 1_000.0

    def wall_ms(self):
        return int(self.seconds * 1_000)

    def monotonic(self):
        return self.seconds


class Heard:
    """Collects advertisements, and waits for a number of them."""

    def __init__(self):
        self.found, self.news = [], asyncio.Event()

    def __call__(self, key, fields, heard):
        self.found.append((key, fields is not None, heard))
        self.news.set()

    async def number(self, count):
        async with asyncio.timeout(5):
            while len(self.found) < count:
                self.news.clear()
                await self.news.wait()
        return self.found


async def place():
    clock, topics = HandClock(), Topics("", partitions=1)
    bus = MemoryBus(MemoryCluster(clock=lambda: clock.stamp))
    await bus.start()
    await bus.create_topics(topics.specs({}))

    async def say(key, value):
        await bus.publish([Outgoing(topics.name("pools"), 0, key, value)])

    return clock, bus, topics, say


async def test_history_is_as_old_as_it_is_and_news_is_fresh_although_the_writers_clock_is_a_minute_slow():
    clock, bus, topics, say = await place()
    heard = Heard()
    await say(b"old", encode("pool_status", STATUS))
    clock.seconds += 30.0
    tail = asyncio.create_task(PoolsTail(bus, topics, heard, clock).run())
    await heard.number(1)
    clock.stamp = clock.seconds - 60.0
    await say(b"new", encode("pool_status", STATUS))
    await say(b"new", None)
    assert await heard.number(3) == [
        (b"old", True, 1_000.0),
        (b"new", True, 1_030.0),
        (b"new", False, 1_030.0),
    ]
    tail.cancel()


async def test_noise_is_passed_over_and_the_future_is_not_later_than_now():
    clock, bus, topics, say = await place()
    heard = Heard()
    clock.stamp += 500.0
    await say(b"noise", b"noise")
    await say(b"ahead", encode("pool_status", STATUS))
    await PoolsTail(bus, topics, heard, clock).catch_up()
    assert heard.found == [(b"ahead", True, 1_000.0)]
    assert await bus.ends([TopicPartition(topics.name("pools"), 0)])
