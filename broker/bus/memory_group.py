"""A consumer group in memory: the table behind memory buses' memberships. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from shotbus.broker.bus.base import TopicPartition
from shotbus.broker.bus.groups import GroupView
from shotbus.broker.bus.news import News


class GroupState:
    """Members and owners of one group; its identity is the key of news about it."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.members: dict[int, None] = {}
        self.owners: dict[int, int] = {}
        self.entered = 0

    def remove(self, member: int) -> None:
        """Remove a member and its ownerships."""
        self.members.pop(member, None)
        self.owners = {partition: owner for partition, owner in self.owners.items() if owner != member}


def positions_of(
    known: Mapping[tuple[str, TopicPartition], int], group: str, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, int]:
    """Return the positions of a group, of those partitions that have one."""
    return {name: known[group, name] for name in partitions if (group, name) in known}


class MemoryGroup:
    """A ``GroupTable`` for one membership."""

    def __init__(
        self,
        state: GroupState,
        news: News[Any],
        positions: MutableMapping[tuple[str, TopicPartition], int],
        name: str,
    ) -> None:
        self._state = state
        self._news = news
        self._positions = positions
        self._name = name
        self._own = 0
        self._listener = news.listen({state})

    async def enter(self) -> int:
        self._state.entered += 1
        self._own = self._state.entered
        self._state.members[self._own] = None
        self._tell()
        return self._own

    def view(self) -> GroupView:
        return GroupView(self._state.partitions, tuple(self._state.members), dict(self._state.owners))

    async def beat(self, member: int) -> None:
        """Nobody dies of silence here: the cluster is told who is dead."""

    async def take(self, member: int, partitions: Iterable[int]) -> frozenset[int]:
        if member not in self._state.members:
            return frozenset()
        got = [partition for partition in sorted(partitions) if partition not in self._state.owners]
        self._state.owners.update(dict.fromkeys(got, member))
        self._tell()
        return frozenset(got)

    async def release(self, member: int, partitions: Iterable[int]) -> None:
        for partition in sorted(partitions):
            if self._state.owners.get(partition) == member:
                del self._state.owners[partition]
        self._tell()

    async def remove(self, member: int) -> None:
        self._state.remove(member)
        self._tell()

    def bury_own(self) -> None:
        """Declare this membership dead, whether it is or not."""
        self._state.remove(self._own)
        self._tell()

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        self._positions.update({(self._name, name): position for name, position in positions.items()})

    async def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return positions_of(self._positions, self._name, partitions)

    def look(self) -> None:
        self._listener.clear()

    async def changed(self, timeout: float) -> None:
        await self._listener.wait(timeout)

    def wake(self) -> None:
        self._listener.wake()

    def close(self) -> None:
        self._listener.close()

    def _tell(self) -> None:
        self._news.tell({self._state})
