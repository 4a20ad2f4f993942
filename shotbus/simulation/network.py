"""What lies between a simulated process and the bus: slow, cut one way or both, frozen, flapping. Pure.

A cut way *there* means that nothing happened, a cut way *back* that it did: the caller cannot tell them
apart, both end as an error after a while. What a frozen process asked for waits until it thaws.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from shotbus.broker.bus.base import (
    BusError,
    CommitUnknownError,
    Outgoing,
    Reader,
    Record,
    ShardWriter,
    TopicPartition,
)
from shotbus.broker.bus.groups import GroupView
from shotbus.broker.bus.memory import MemoryBus, MemoryCluster
from shotbus.broker.bus.memory_group import MemoryGroup

#: After this long without an answer a client gives up.
REQUEST_SECONDS = 3.0
#: A group declares a member dead that was silent for so long.
SESSION_SECONDS = 6.0


@dataclass(eq=False, slots=True)
class Impairment:
    """Something that is wrong with a link; ``kind`` is the fault whose bite it is."""

    kind: str
    there: bool = True
    back: bool = True
    delay: float = 0.0
    frozen: bool = False
    healed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def silent(self) -> bool:
        """Whether the bus hears nothing of the process."""
        return self.frozen or not self.there


class Link:
    """One process's connection; ``bites`` counts the calls that each kind of fault has touched."""

    def __init__(self, random: Random, bites: Counter[str]) -> None:
        self._random, self._bites = random, bites
        self._active: dict[Impairment, None] = {}

    @property
    def silent(self) -> bool:
        """Whether the bus hears nothing of the process now."""
        return any(one.silent for one in self._active)

    def impair(self, one: Impairment) -> None:
        """Let something be wrong from now on."""
        one.healed.clear()
        self._active[one] = None

    def heal(self, one: Impairment) -> None:
        """End it."""
        self._active.pop(one, None)
        one.healed.set()

    def check(self) -> None:
        """Raise BusError when an answer could not come at once."""
        for one in self._active:
            if one.frozen or not (one.there and one.back):
                self._bites[one.kind] += 1
                raise BusError("the group cannot be reached")

    async def request(self) -> None:
        """Be on the way there. Raises BusError when nothing arrives."""
        if self._active:
            await self._travel(there=True)

    async def answer(self) -> None:
        """Be on the way back. Raises BusError when the answer is lost."""
        if self._active:
            await self._travel(there=False)

    async def _travel(self, *, there: bool) -> None:
        for one in list(self._active):
            blocked = not (one.there if there else one.back)
            if one.frozen or one.delay or blocked:
                self._bites[one.kind] += 1
            if one.frozen:
                await one.healed.wait()
            if one.delay:
                await asyncio.sleep(self._random.uniform(0, one.delay))
            if blocked:
                await asyncio.sleep(REQUEST_SECONDS)
                raise BusError(f"no answer within {REQUEST_SECONDS:g} s")


class LinkedBus(MemoryBus):
    """A memory bus at the end of a link."""

    def __init__(self, cluster: MemoryCluster, link: Link) -> None:
        super().__init__(cluster)
        self._link = link

    async def publish(self, records: Sequence[Outgoing]) -> list[int]:
        """Publish over the link."""
        await self._link.request()
        offsets = await super().publish(records)
        await self._link.answer()
        return offsets

    def reader(self, positions: Mapping[TopicPartition, int]) -> Reader:
        """Open a reader over the link."""
        return LinkedReader(super().reader(positions), self._link)

    async def begins(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Ask over the link."""
        await self._link.request()
        found = await super().begins(partitions)
        await self._link.answer()
        return found

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Ask over the link."""
        await self._link.request()
        found = await super().ends(partitions)
        await self._link.answer()
        return found

    async def fence(self, shard: str) -> ShardWriter:
        """Fence over the link."""
        await self._link.request()
        writer = await super().fence(shard)
        await self._link.answer()
        return LinkedWriter(writer, self._link)

    async def trim(self, before: Mapping[TopicPartition, int]) -> None:
        """Trim over the link."""
        await self._link.request()
        await super().trim(before)
        await self._link.answer()

    def table(self, group: str, topic: str) -> MemoryGroup:
        """Return a group's table as this process reaches it."""
        cluster = self.living_cluster()
        return LinkedGroup(
            cluster.group(group, topic), cluster.news, cluster.positions, group, link=self._link
        )


class LinkedReader:
    """A reader whose answers may be lost: what was lost is read again."""

    def __init__(self, inner: Reader, link: Link) -> None:
        self._inner, self._link = inner, link

    async def poll(
        self, *, max_records: int, timeout: float, only: Sequence[TopicPartition] | None = None
    ) -> list[Record]:
        """Poll over the link."""
        await self._link.request()
        records = await self._inner.poll(max_records=max_records, timeout=timeout, only=only)
        try:
            await self._link.answer()
        except BaseException:
            for record in reversed(records):
                self._inner.seek(TopicPartition(record.topic, record.partition), record.offset)
            raise
        return records

    def position(self, partition: TopicPartition) -> int:
        """Return the offset from which the next poll reads."""
        return self._inner.position(partition)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read a partition from an offset on."""
        self._inner.seek(partition, offset)

    async def close(self) -> None:
        """Close; needs no link."""
        await self._inner.close()


class LinkedWriter:
    """A shard's writer over the link: no answer to a commit is a commit with unknown result."""

    def __init__(self, inner: ShardWriter, link: Link) -> None:
        self._inner, self._link = inner, link
        self._lost = False

    async def commit(self, records: Sequence[Outgoing]) -> None:
        """Commit over the link."""
        if self._lost:
            raise CommitUnknownError("this writer has lost a commit")
        self._lost = True
        try:
            await self._link.request()
        except BusError as error:
            raise CommitUnknownError(str(error)) from error
        await self._inner.commit(records)
        try:
            await self._link.answer()
        except BusError as error:
            raise CommitUnknownError(str(error)) from error
        self._lost = False

    async def close(self) -> None:
        """Close; needs no link."""
        await self._inner.close()


class LinkedGroup(MemoryGroup):
    """A membership over the link: what cannot be asked is not known."""

    def __init__(self, *place: object, link: Link) -> None:
        super().__init__(*place)  # type: ignore[arg-type]  # the same arguments, one level up
        self._link = link

    async def enter(self) -> int:
        await self._link.request()
        number = await super().enter()
        await self._link.answer()
        return number

    async def beat(self, member: int) -> None:
        await self._link.request()
        await super().beat(member)

    def view(self) -> GroupView:
        self._link.check()
        return super().view()

    async def take(self, member: int, partitions: Iterable[int]) -> frozenset[int]:
        await self._link.request()
        got = await super().take(member, partitions)
        await self._link.answer()
        return got

    async def release(self, member: int, partitions: Iterable[int]) -> None:
        await self._link.request()
        await super().release(member, partitions)

    async def remove(self, member: int) -> None:
        await self._link.request()
        await super().remove(member)

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        await self._link.request()
        await super().commit(positions)
        await self._link.answer()

    async def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        await self._link.request()
        found = await super().committed(partitions)
        await self._link.answer()
        return found
