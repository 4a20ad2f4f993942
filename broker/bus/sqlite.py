"""The embedded bus: a durable log in one SQLite file, for any number of processes of one host. Does I/O.

How it works: ``sqlite_writer`` (group commit), ``sqlite_reader`` (range scans), ``doorbell`` (wake-ups
between processes), ``sqlite_group`` (membership), ``sqlite_tidy`` (compaction and retention).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from shotbus.broker.bus.base import (
    BusError,
    Capabilities,
    CommitUnknownError,
    FencedError,
    LostCallback,
    Membership,
    Outgoing,
    Reader,
    ShardCallback,
    ShardWriter,
    TopicPartition,
    TopicSpec,
    UnknownTopicError,
)
from shotbus.broker.bus.doorbell import Doorbell
from shotbus.broker.bus.groups import Member
from shotbus.broker.bus.limits import check_partition, check_record, check_trim
from shotbus.broker.bus.news import News
from shotbus.broker.bus.sqlite_files import prepare_directory
from shotbus.broker.bus.sqlite_group import Access, SqliteGroup, living, positions_of
from shotbus.broker.bus.sqlite_reader import SqliteReader
from shotbus.broker.bus.sqlite_schema import (
    Bounds,
    Synchronous,
    Topic,
    bounds_of,
    bus_errors,
    create_topic,
    offset_at,
    open_reader,
    pack_headers,
)
from shotbus.broker.bus.sqlite_tail import Row
from shotbus.broker.bus.sqlite_tidy import move_begin
from shotbus.broker.bus.sqlite_writer import Writer


class SqliteBus:
    """A ``Bus`` on the data directory ``directory``, which is created if needed.

    ``synchronous`` "FULL" makes an acknowledged record survive power loss; "NORMAL" only the death of
    processes, and is faster on slow disks. ``session_timeout`` is the time in seconds after which a silent
    group member is declared dead (a killed one is noticed within half a second).
    """

    def __init__(
        self, directory: Path, *, synchronous: Synchronous = "FULL", session_timeout: float = 6.0
    ) -> None:
        self._directory = directory
        self._synchronous = synchronous
        self._session_timeout = session_timeout
        self._news: News[int] = News()
        self._topics: dict[str, Topic] = {}
        self._readers: dict[SqliteReader, None] = {}
        self._members: list[Member] = []
        self._access: Access | None = None
        self._opened = AsyncExitStack()

    @property
    def capabilities(self) -> Capabilities:
        """What this bus is good for."""
        return Capabilities(
            name="sqlite",
            durable_on_ack=self._synchronous == "FULL",
            multi_process=True,
            multi_host=False,
            offset_gaps=False,
        )

    async def start(self) -> None:
        """Open the log. Raises :class:`BusError` when the directory cannot be used."""
        with bus_errors("cannot open the log"):
            directory = prepare_directory(self._directory)
            async with AsyncExitStack() as opened:
                doorbell = Doorbell(directory / "bells")
                opened.callback(doorbell.close)
                writer = Writer(directory, self._synchronous, doorbell, self._news.tell)
                await writer.start()
                opened.push_async_callback(writer.close)
                # Closed before the writer: the last connection to close checkpoints, and must be able to.
                connection = open_reader(directory)
                opened.callback(connection.close)
                self._opened = opened.pop_all()
        self._access = Access(
            connection, writer, doorbell, self._news, self._ensure_bell, self._session_timeout
        )
        asyncio.get_running_loop().add_reader(doorbell.bell, self._hear)

    async def close(self) -> None:
        """Leave all groups, close all readers, write what is queued and close the log."""
        if self._access is None:
            return
        for member in self._members:
            await member.leave()
        for reader in list(self._readers):
            await reader.close()
        asyncio.get_running_loop().remove_reader(self._access.doorbell.bell)
        self._access = None
        await self._opened.aclose()

    async def create_topics(self, specs: Iterable[TopicSpec]) -> None:
        """Create what is missing; another partition count is a :class:`BusError`."""
        wanted = list(specs)

        def create(connection: sqlite3.Connection) -> None:
            for spec in wanted:
                create_topic(connection, spec)

        await self._open().writer.call(create)

    async def topics(self) -> dict[str, int]:
        """Return every topic's partition count."""
        return dict(self._open().read("SELECT name, partitions FROM topics ORDER BY name"))

    async def publish(self, records: Sequence[Outgoing]) -> list[int]:
        """Append ``records`` atomically; returns their offsets once they are durable."""
        return await self._append(records, None)

    def reader(self, positions: Mapping[TopicPartition, int]) -> Reader:
        """Open a reader on the given partitions."""
        access = self._open()
        logs = {partition: self._log(partition) for partition in positions}
        reader = SqliteReader(
            access.connection,
            self._news,
            logs=logs,
            positions=positions,
            on_close=lambda closed: self._readers.pop(closed, None),
        )
        self._readers[reader] = None
        return reader

    async def begins(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the first offsets still kept."""
        return {partition: bounds.begin for partition, bounds in self._bounds(partitions).items()}

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the offsets behind the last records."""
        return {partition: bounds.end for partition, bounds in self._bounds(partitions).items()}

    async def offset_at(self, partition: TopicPartition, timestamp_ms: int) -> int:
        """Return the first offset not older than ``timestamp_ms``, else the end."""
        with bus_errors("the log could not be read"):
            return offset_at(self._open().connection, self._log(partition), timestamp_ms)

    async def join(
        self,
        group: str,
        topic: str,
        *,
        on_assigned: ShardCallback,
        on_revoked: ShardCallback,
        on_lost: LostCallback | None = None,
    ) -> Membership:
        """Join ``group`` on ``topic``."""
        del on_lost  # a killed member is noticed within half a second: nobody needs a name to be back soon
        table = SqliteGroup(self._open(), group, topic, self._topic(topic).partitions)
        member = Member(table, on_assigned=on_assigned, on_revoked=on_revoked)
        self._members.append(member)
        await member.enter()
        return member

    async def committed(self, group: str, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return what a group has recorded."""
        return positions_of(self._open(), group, partitions)

    async def members(self, group: str, topic: str) -> int:
        """Return how many living members a group has."""
        return living(self._open(), group, self._topic(topic).name)

    async def fence(self, shard: str) -> ShardWriter:
        """Take ``shard``: earlier writers of it can commit nothing from now on."""
        sql = """INSERT INTO fences VALUES (?, 1)
                 ON CONFLICT (shard) DO UPDATE SET epoch = epoch + 1 RETURNING epoch"""

        def raise_epoch(connection: sqlite3.Connection) -> int:
            (epoch,) = connection.execute(sql, (shard,)).fetchone()
            return int(epoch)

        return SqliteShardWriter(self, shard, await self._open().writer.call(raise_epoch))

    async def trim(self, before: Mapping[TopicPartition, int]) -> None:
        """Delete the records below the given offsets (below the end at most)."""
        writer = self._open().writer
        logs = {self._log(partition): offset for partition, offset in before.items()}
        for partition in before:
            check_trim(partition.topic, self._topic(partition.topic).cleanup)

        def move_begins(connection: sqlite3.Connection) -> None:
            for tp, offset in logs.items():
                move_begin(connection, tp, offset)
            writer.trimmed(logs)

        await writer.call(move_begins, list(logs))

    async def _append(self, records: Sequence[Outgoing], fence: tuple[str, int] | None) -> list[int]:
        writer = self._open().writer
        rows: list[Row] = []
        compacted: list[int] = []
        size = 0
        for record in records:
            topic = self._topic(record.topic)
            size += check_record(
                record,
                partitions=topic.partitions,
                max_record_bytes=topic.max_record_bytes,
                cleanup=topic.cleanup,
            )
            tp = topic.first_tp + record.partition
            rows.append(Row(tp, record.key, record.value, pack_headers(record.headers)))
            if topic.compacted:
                compacted.append(tp)
        if not rows and fence is None:
            return []
        return await writer.append(rows, size=size, compacted=compacted, fence=fence)

    def _open(self) -> Access:
        if self._access is None:
            raise BusError("the bus is not started, or closed")
        return self._access

    def _topic(self, name: str) -> Topic:
        """Return a topic's row; topics never change, so each is read once."""
        topic = self._topics.get(name)
        if topic is None:
            rows = self._open().read("SELECT * FROM topics WHERE name = ?", (name,))
            if not rows:
                raise UnknownTopicError(f"there is no topic {name}")
            topic = self._topics[name] = Topic(*rows[0])
        return topic

    def _log(self, partition: TopicPartition) -> int:
        topic = self._topic(partition.topic)
        check_partition(topic.name, partition.partition, topic.partitions)
        return topic.first_tp + partition.partition

    def _bounds(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Bounds]:
        logs = {partition: self._log(partition) for partition in partitions}
        with bus_errors("the log could not be read"):
            found = bounds_of(self._open().connection, list(logs.values()))
        return {partition: found[tp] for partition, tp in logs.items()}

    def _hear(self) -> None:
        self._news.tell(self._open().doorbell.drain())

    def _ensure_bell(self) -> None:
        """Put the bell back if someone cleared the directory: without it peers take this process for dead."""
        doorbell = self._open().doorbell
        if doorbell.missing():
            loop = asyncio.get_running_loop()
            loop.remove_reader(doorbell.bell)
            doorbell.rebind()
            loop.add_reader(doorbell.bell, self._hear)


class SqliteShardWriter:
    """A ``ShardWriter``: the only writer of its shard until another one fences it."""

    def __init__(self, bus: SqliteBus, shard: str, epoch: int) -> None:
        self._bus = bus
        self._fence = (shard, epoch)
        self._lost: BusError | None = None

    async def commit(self, records: Sequence[Outgoing]) -> None:
        """Write all records atomically and durably; see the seam for the errors."""
        if self._lost is not None:
            raise type(self._lost)(*self._lost.args)
        try:
            await self._bus._append(records, self._fence)  # noqa: SLF001 -- the other half of this module
        except (FencedError, CommitUnknownError) as error:
            self._lost = error
            raise

    async def close(self) -> None:
        """Give up writing; the shard stays with its last fence."""
        self._lost = FencedError(f"the writer of shard {self._fence[0]} is closed")
