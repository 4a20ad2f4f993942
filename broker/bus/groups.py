"""Consumer groups: who should hold which partition, and how a member gets there. No I/O of its own.

Cooperative and sticky: every member computes the same balanced target from the same table, gives up what is
no longer its own (after its callback has returned), and takes only what has no owner. So a partition never
has two owners, and one that stays with its member is never interrupted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from shotbus.broker.bus.base import BusError, ShardCallback, TopicPartition

HEARTBEAT_S = 0.5
_logger = logging.getLogger(__name__)


class GroupView(NamedTuple):
    """A group as its table shows it: members by age, and the owner of each owned partition."""

    partitions: int
    members: tuple[int, ...]
    owners: Mapping[int, int]


class GroupTable(Protocol):
    """One group's shared state as one instance sees and changes it; each change is atomic."""

    async def enter(self) -> int:
        """Add a member and return its number; numbers rise and are never used again."""
        ...

    def view(self) -> GroupView: ...

    async def beat(self, member: int) -> None:
        """Prolong the member's life (nothing happens when it was declared dead), and bury dead peers."""
        ...

    async def take(self, member: int, partitions: Iterable[int]) -> frozenset[int]:
        """Make a living member the owner of those that have none; returns them."""
        ...

    async def release(self, member: int, partitions: Iterable[int]) -> None: ...

    async def remove(self, member: int) -> None:
        """Remove the member and everything it owns."""
        ...

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None: ...

    async def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]: ...

    def look(self) -> None:
        """Forget past changes: what happens from now on ends the next :meth:`changed`."""
        ...

    async def changed(self, timeout: float) -> None:
        """Wait for a change of the group since :meth:`look`, at most ``timeout`` seconds."""
        ...

    def wake(self) -> None: ...

    def close(self) -> None: ...


def balance(view: GroupView) -> dict[int, frozenset[int]]:
    """Return the partitions each member should hold: sizes differ by one at most, few moves.

    The same table gives the same answer everywhere. Members keep their lowest partitions; the larger shares
    go to those who hold most already.
    """
    if not view.members:
        return {}
    kept = _held(view)
    quota = _quotas(view, kept)
    kept = {member: kept[member][: quota[member]] for member in view.members}
    taken = {partition for partitions in kept.values() for partition in partitions}
    free = [partition for partition in range(view.partitions) if partition not in taken]
    for member in view.members:
        missing = quota[member] - len(kept[member])
        kept[member] += free[:missing]
        del free[:missing]
    return {member: frozenset(partitions) for member, partitions in kept.items()}


def _held(view: GroupView) -> dict[int, list[int]]:
    held: dict[int, list[int]] = {member: [] for member in view.members}
    for partition, owner in sorted(view.owners.items()):
        if owner in held and partition < view.partitions:
            held[owner].append(partition)
    return held


def _quotas(view: GroupView, held: Mapping[int, Sequence[int]]) -> dict[int, int]:
    share, larger = divmod(view.partitions, len(view.members))
    ranked = sorted(view.members, key=lambda member: (-len(held[member]), member))
    return {member: share + (rank < larger) for rank, member in enumerate(ranked)}


class Member:
    """A place in a group: one task that keeps it alive and follows the balance. A ``Membership``."""

    def __init__(self, table: GroupTable, *, on_assigned: ShardCallback, on_revoked: ShardCallback) -> None:
        self._table = table
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._held: frozenset[int] = frozenset()
        self._id = 0
        self._leaving = False
        self._task: asyncio.Task[None] | None = None

    @property
    def assigned(self) -> frozenset[int]:
        """The partitions held now."""
        return self._held

    async def enter(self) -> None:
        """Enter the group and start following it."""
        self._id = await self._table.enter()
        self._task = asyncio.create_task(self._follow(), name=f"group-member-{self._id}")

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Record the group's positions."""
        await self._table.commit(positions)

    async def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the recorded positions of those partitions that have one."""
        return await self._table.committed(partitions)

    async def leave(self) -> None:
        """Revoke everything held, then leave. Not to be called from a callback."""
        if self._leaving or self._task is None:
            return
        self._leaving = True
        self._table.wake()
        # The task is asked, not cancelled: a callback that has begun is never cut off.
        await self._task
        await self._revoke(self._held)
        await self._table.remove(self._id)
        self._table.close()

    def abandon(self) -> None:
        """Stop as a killed process would: no callback, no farewell."""
        self._leaving = True
        if self._task is not None:
            self._task.cancel()
        self._table.close()

    async def _follow(self) -> None:
        while not self._leaving:
            self._table.look()
            try:
                await self._step()
            except BusError as error:
                _logger.warning("group member %d cannot reach the group, trying again: %s", self._id, error)
            if not self._leaving:
                await self._table.changed(HEARTBEAT_S)

    async def _step(self) -> None:
        await self._table.beat(self._id)
        view = self._table.view()
        if self._id not in view.members:
            await self._start_over()
            return
        owned = frozenset(partition for partition, owner in view.owners.items() if owner == self._id)
        target = balance(view)[self._id]
        await self._revoke(self._held - (owned & target))
        if owned - target:
            await self._table.release(self._id, owned - target)
        free = target - view.owners.keys()
        got = await self._table.take(self._id, free) if free else frozenset()
        await self._assign(((owned & target) | got) - self._held)

    async def _start_over(self) -> None:
        """Rejoin after having been declared dead: whatever was held may have a new owner already."""
        await self._revoke(self._held)
        self._id = await self._table.enter()
        self._table.wake()

    async def _revoke(self, partitions: frozenset[int]) -> None:
        if partitions:
            await _call(self._on_revoked, partitions)
            self._held -= partitions

    async def _assign(self, partitions: frozenset[int]) -> None:
        if partitions:
            self._held |= partitions
            await _call(self._on_assigned, partitions)


async def _call(callback: ShardCallback, partitions: frozenset[int]) -> None:
    try:
        await callback(partitions)
    except Exception as error:  # noqa: BLE001 -- a faulty callback must not end the membership; it is reported
        context = {"message": "a group callback failed", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)
