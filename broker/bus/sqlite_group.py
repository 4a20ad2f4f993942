"""A consumer group in the tables of the embedded log. Reads in the event loop, writes through the writer.

Deadlines are on the monotonic clock, which all processes of a host share: it goes on while a process is
paused (so that its peers notice) and stands still while the whole host sleeps (so that nobody is declared
dead by a closed lid). A killed process is noticed sooner, by its bell.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from shotbus.broker.bus.base import TopicPartition
from shotbus.broker.bus.doorbell import Doorbell
from shotbus.broker.bus.groups import GroupView
from shotbus.broker.bus.news import News
from shotbus.broker.bus.sqlite_schema import bus_errors
from shotbus.broker.bus.sqlite_writer import Writer

T = TypeVar("T")

GROUP_NEWS = 0  # no log has this number
_EXISTS = "EXISTS (SELECT 1 FROM members WHERE id = ?)"


@dataclass(frozen=True)
class Access:
    """What a group needs of its bus instance."""

    connection: sqlite3.Connection
    writer: Writer
    doorbell: Doorbell
    news: News[int]
    ensure_bell: Callable[[], None]
    session_timeout: float

    def read(self, sql: str, values: Sequence[object] = ()) -> list[Any]:
        """Return the rows of a query on the reading connection. Raises :class:`BusError`."""
        with bus_errors("the log could not be read"):
            return self.connection.execute(sql, values).fetchall()


class SqliteGroup:
    """A ``GroupTable`` for one membership; ``partitions`` is the topic's partition count."""

    def __init__(self, access: Access, group: str, topic: str, partitions: int) -> None:
        self._access = access
        self._group = (group, topic)
        self._partitions = partitions
        self._listener = access.news.listen({GROUP_NEWS})

    async def enter(self) -> int:
        row = (*self._group, self._access.doorbell.name, self._deadline())

        def insert(connection: sqlite3.Connection) -> int:
            sql = "INSERT INTO members (grp, topic, bell, deadline) VALUES (?, ?, ?, ?) RETURNING id"
            (member,) = connection.execute(sql, row).fetchone()
            return int(member)

        return await self._change(insert)

    def view(self) -> GroupView:
        read = self._access.read
        members = read("SELECT id FROM members WHERE grp = ? AND topic = ? ORDER BY id", self._group)
        owners = read("SELECT partition, member FROM owners WHERE grp = ? AND topic = ?", self._group)
        return GroupView(self._partitions, tuple(member for (member,) in members), dict(owners))

    async def beat(self, member: int) -> None:
        self._access.ensure_bell()
        rows = self._access.read("SELECT deadline FROM members WHERE id = ?", (member,))
        # Each beat is a durable commit: one in a third of the session is enough, a look is free.
        if rows and rows[0][0] - time.monotonic() < self._access.session_timeout * 2 / 3:
            sql = "UPDATE members SET deadline = ? WHERE id = ?"
            await self._access.writer.call(_many(sql, [(self._deadline(), member)]))
        await self._bury()

    async def take(self, member: int, partitions: Iterable[int]) -> frozenset[int]:
        wanted = sorted(partitions)

        def insert(connection: sqlite3.Connection) -> frozenset[int]:
            sql = f"INSERT OR IGNORE INTO owners SELECT ?, ?, ?, ? WHERE {_EXISTS} RETURNING partition"
            rows = [(*self._group, partition, member, member) for partition in wanted]
            return frozenset(row[0] for values in rows for row in connection.execute(sql, values).fetchall())

        return await self._change(insert)

    async def release(self, member: int, partitions: Iterable[int]) -> None:
        rows = [(*self._group, partition, member) for partition in sorted(partitions)]
        sql = "DELETE FROM owners WHERE grp = ? AND topic = ? AND partition = ? AND member = ?"
        await self._change(_many(sql, rows))

    async def remove(self, member: int) -> None:
        await self._change(lambda connection: _delete(connection, member))

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        rows = [(self._group[0], *partition, position) for partition, position in positions.items()]
        sql = """INSERT INTO positions VALUES (?, ?, ?, ?)
                 ON CONFLICT (grp, topic, partition) DO UPDATE SET position = excluded.position"""
        await self._access.writer.call(_many(sql, rows))

    async def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return positions_of(self._access, self._group[0], partitions)

    def look(self) -> None:
        self._listener.clear()

    async def changed(self, timeout: float) -> None:
        await self._listener.wait(timeout)

    def wake(self) -> None:
        self._listener.wake()

    def close(self) -> None:
        self._listener.close()

    async def _change(self, run: Callable[[sqlite3.Connection], T]) -> T:
        return await self._access.writer.call(run, (GROUP_NEWS,))

    def _deadline(self) -> float:
        return time.monotonic() + self._access.session_timeout

    async def _bury(self) -> None:
        """Remove peers that are dead, unless they have shown life since this look at them."""
        peers = _rows(self._access, self._group)
        dead = [
            (member, deadline)
            for member, bell, deadline in peers
            if bell != self._access.doorbell.name and _is_dead(self._access, bell, deadline)
        ]
        if dead:
            await self._change(lambda connection: _bury(connection, dead))


def positions_of(
    access: Access, group: str, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, int]:
    """Return the positions of a group, of those partitions that have one. Raises :class:`BusError`."""
    rows = access.read("SELECT topic, partition, position FROM positions WHERE grp = ?", (group,))
    known = {TopicPartition(topic, partition): position for topic, partition, position in rows}
    return {partition: known[partition] for partition in partitions if partition in known}


def living(access: Access, group: str, topic: str) -> int:
    """Return how many members of a group live. Raises :class:`BusError`."""
    rows = _rows(access, (group, topic))
    return sum(not _is_dead(access, bell, deadline) for _, bell, deadline in rows)


def _rows(access: Access, group: tuple[str, str]) -> list[tuple[int, str, float]]:
    return access.read("SELECT id, bell, deadline FROM members WHERE grp = ? AND topic = ?", group)


def _is_dead(access: Access, bell: str, deadline: float) -> bool:
    left = deadline - time.monotonic()
    # A deadline far ahead was written before the host was last started.
    return left < 0 or left > 2 * access.session_timeout or access.doorbell.is_dead(bell)


def _many(sql: str, rows: Sequence[tuple[object, ...]]) -> Callable[[sqlite3.Connection], None]:
    def run(connection: sqlite3.Connection) -> None:
        connection.executemany(sql, rows)

    return run


def _delete(connection: sqlite3.Connection, member: int) -> None:
    connection.execute("DELETE FROM members WHERE id = ?", (member,))
    connection.execute("DELETE FROM owners WHERE member = ?", (member,))


def _bury(connection: sqlite3.Connection, dead: Iterable[tuple[int, float]]) -> None:
    for member, deadline in dead:
        sql = "SELECT 1 FROM members WHERE id = ? AND deadline = ?"
        if connection.execute(sql, (member, deadline)).fetchone():
            _delete(connection, member)
