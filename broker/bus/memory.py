"""The memory bus: for tests and the simulation, as awkward as Kafka where it matters. No I/O.

A :class:`MemoryCluster` is the broker; each :class:`MemoryBus` on it behaves as one process and can be killed
without warning. Everything runs in one event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

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
from shotbus.broker.bus.groups import Member
from shotbus.broker.bus.limits import check_partition, check_record, check_trim
from shotbus.broker.bus.memory_group import GroupState, MemoryGroup, positions_of
from shotbus.broker.bus.memory_log import Log, Stored, Transaction
from shotbus.broker.bus.memory_reader import MemoryReader
from shotbus.broker.bus.news import News


class MemoryCluster:
    """What several memory buses share. ``clock`` returns wall time in seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.news: News[TopicPartition | GroupState] = News()
        self.specs: dict[str, TopicSpec] = {}
        self.logs: dict[TopicPartition, Log] = {}
        self.groups: dict[tuple[str, str], GroupState] = {}
        self.positions: dict[tuple[str, TopicPartition], int] = {}
        self._epochs: dict[str, int] = {}
        self._transactions: dict[str, Transaction] = {}

    def create(self, spec: TopicSpec) -> None:
        """Create a topic unless it exists with as many partitions."""
        if spec.partitions < 1:
            raise BusError(f"topic {spec.name} needs at least one partition")
        known = self.specs.setdefault(spec.name, spec)
        if known.partitions != spec.partitions:
            raise BusError(
                f"topic {spec.name} exists with {known.partitions} partitions, not {spec.partitions}"
            )
        for partition in range(spec.partitions):
            self.logs.setdefault(TopicPartition(spec.name, partition), Log(spec))

    def check(self, records: Sequence[Outgoing]) -> None:
        """Raise what a bus must raise before it writes anything."""
        for record in records:
            spec = self.spec(record.topic)
            check_record(
                record,
                partitions=spec.partitions,
                max_record_bytes=spec.max_record_bytes,
                cleanup=spec.cleanup,
            )

    def spec(self, topic: str) -> TopicSpec:
        """Return a topic's declaration. Raises :class:`UnknownTopicError`."""
        try:
            return self.specs[topic]
        except KeyError:
            raise UnknownTopicError(f"there is no topic {topic}") from None

    def log(self, partition: TopicPartition) -> Log:
        """Return one log. Raises :class:`UnknownTopicError`."""
        check_partition(partition.topic, partition.partition, self.spec(partition.topic).partitions)
        return self.logs[partition]

    def append(self, records: Sequence[Outgoing], transaction: Transaction | None) -> list[int]:
        """Append checked records; without a transaction they are visible at once."""
        now_ms = int(self.clock() * 1_000)
        offsets: list[int] = []
        for record in records:
            name = TopicPartition(record.topic, record.partition)
            log = self.logs[name]
            offsets.append(log.append(_stored(record, now_ms), transaction))
            if transaction is None:
                log.expire(now_ms)
            else:
                transaction.touched[name] = log
        if transaction is None:
            self.news.tell({TopicPartition(record.topic, record.partition) for record in records})
        return offsets

    def fence(self, shard: str) -> int:
        """Raise the shard's epoch and abort what its last writer left open; returns the epoch."""
        self._epochs[shard] = self._epochs.get(shard, 0) + 1
        left_open = self._transactions.pop(shard, None)
        if left_open is not None:
            self._finish(left_open, commit=False)
        return self._epochs[shard]

    def begin(self, shard: str, epoch: int) -> Transaction:
        """Open a transaction. Raises :class:`FencedError`."""
        if self._epochs[shard] != epoch:
            raise FencedError(f"shard {shard} has been taken by another writer")
        self._transactions[shard] = Transaction(shard)
        return self._transactions[shard]

    def end(self, transaction: Transaction) -> None:
        """Commit a transaction. Raises :class:`FencedError` when a fence has aborted it."""
        if not transaction.open:
            raise FencedError(f"shard {transaction.shard} has been taken by another writer")
        del self._transactions[transaction.shard]
        self._finish(transaction, commit=True)

    def group(self, group: str, topic: str) -> GroupState:
        """Return the state of a group, made on first use."""
        partitions = self.spec(topic).partitions
        return self.groups.setdefault((group, topic), GroupState(partitions))

    def _finish(self, transaction: Transaction, *, commit: bool) -> None:
        transaction.open = False
        now_ms = int(self.clock() * 1_000)
        for log in transaction.touched.values():
            log.finish(transaction, commit=commit)
            log.expire(now_ms)
        self.news.tell(transaction.touched.keys())


class MemoryBus:
    """A ``Bus`` on ``cluster`` (a new one by default); several on one cluster act as several processes."""

    def __init__(self, cluster: MemoryCluster | None = None) -> None:
        self.cluster = cluster if cluster is not None else MemoryCluster()
        self._alive = False
        self._readers: dict[MemoryReader, None] = {}
        self._members: list[tuple[Member, MemoryGroup]] = []

    @property
    def capabilities(self) -> Capabilities:
        """What this bus is good for."""
        return Capabilities(
            name="memory", durable_on_ack=False, multi_process=False, multi_host=False, offset_gaps=True
        )

    async def start(self) -> None:
        """Begin; nothing to connect to."""
        self._alive = True

    async def close(self) -> None:
        """Leave all groups and close all readers."""
        for member, _ in self._members:
            await member.leave()
        self._stop()

    def kill(self) -> None:
        """Stop as a SIGKILL would: no callback, an open transaction stays open until its shard is fenced.

        The cluster declares its group members dead at once.
        """
        for member, table in self._members:
            member.abandon()
            table.bury_own()
        self._stop()

    def expire(self) -> None:
        """Declare this instance's group members dead although it lives, as after a long pause."""
        for _, table in self._members:
            table.bury_own()

    async def create_topics(self, specs: Iterable[TopicSpec]) -> None:
        """Create what is missing; another partition count is a :class:`BusError`."""
        cluster = self._open()
        for spec in specs:
            cluster.create(spec)

    async def topics(self) -> dict[str, int]:
        """Return every topic's partition count."""
        return {name: spec.partitions for name, spec in self._open().specs.items()}

    async def publish(self, records: Sequence[Outgoing]) -> list[int]:
        """Append ``records``; returns their offsets."""
        self._open().check(records)
        await asyncio.sleep(0)
        return self._open().append(records, None)

    def reader(self, positions: Mapping[TopicPartition, int]) -> Reader:
        """Open a reader on the given partitions."""
        cluster = self._open()
        logs = {partition: cluster.log(partition) for partition in positions}
        listener = cluster.news.listen(frozenset(logs))
        reader = MemoryReader(logs, positions, listener)
        self._readers[reader] = None
        return reader

    async def begins(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the first offsets still kept."""
        cluster = self._open()
        return {partition: cluster.log(partition).begin for partition in partitions}

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the offsets up to which everything is committed, markers included."""
        cluster = self._open()
        return {partition: cluster.log(partition).stable for partition in partitions}

    async def offset_at(self, partition: TopicPartition, timestamp_ms: int) -> int:
        """Return the first offset not older than ``timestamp_ms``, else the end."""
        return self._open().log(partition).offset_at(timestamp_ms)

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
        del on_lost  # the dead are buried at once: nobody needs a name to be back soon
        table = self.table(group, topic)
        member = Member(table, on_assigned=on_assigned, on_revoked=on_revoked)
        self._members.append((member, table))
        await member.enter()
        return member

    async def committed(self, group: str, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return what a group has recorded."""
        return positions_of(self._open().positions, group, partitions)

    async def members(self, group: str, topic: str) -> int:
        """Return how many members a group has."""
        return len(self._open().group(group, topic).members)

    def table(self, group: str, topic: str) -> MemoryGroup:
        """Return a new place in a group's table; :meth:`join` follows it."""
        cluster = self._open()
        return MemoryGroup(cluster.group(group, topic), cluster.news, cluster.positions, group)

    async def fence(self, shard: str) -> ShardWriter:
        """Take ``shard``: earlier writers of it can commit nothing from now on."""
        epoch = self._open().fence(shard)
        return MemoryShardWriter(self, shard, epoch)

    async def trim(self, before: Mapping[TopicPartition, int]) -> None:
        """Delete the records below the given offsets (below the end at most)."""
        cluster = self._open()
        logs = {partition: cluster.log(partition) for partition in before}
        for partition, log in logs.items():
            check_trim(partition.topic, log.spec.cleanup)
        for partition, offset in before.items():
            logs[partition].trim(offset)

    def living_cluster(self) -> MemoryCluster:
        """Return the cluster. Raises :class:`BusError` when this instance is closed or was killed."""
        return self._open()

    def _open(self) -> MemoryCluster:
        if not self._alive:
            raise BusError("the bus is not started, or closed")
        return self.cluster

    def _stop(self) -> None:
        self._alive = False
        for reader in self._readers:
            reader.stop()
        self._readers.clear()


class MemoryShardWriter:
    """A ``ShardWriter``: a transaction is open for two turns of the loop, in which anything may happen."""

    def __init__(self, bus: MemoryBus, shard: str, epoch: int) -> None:
        self._bus = bus
        self._shard = shard
        self._epoch = epoch
        self._lost: BusError | None = None

    async def commit(self, records: Sequence[Outgoing]) -> None:
        """Write all records atomically; see the seam for the errors."""
        if self._lost is not None:
            raise type(self._lost)(*self._lost.args)
        self._cluster().check(records)
        try:
            await self._transact(records)
        except BusError as error:
            self._lost = error
            raise
        except asyncio.CancelledError:
            self._lost = CommitUnknownError(f"a commit of shard {self._shard} was cancelled")
            raise

    async def close(self) -> None:
        """Give up writing; the shard stays with its last fence."""
        self._lost = FencedError(f"the writer of shard {self._shard} is closed")

    async def _transact(self, records: Sequence[Outgoing]) -> None:
        transaction = self._cluster().begin(self._shard, self._epoch)
        half = len(records) // 2
        self._cluster().append(records[:half], transaction)
        await asyncio.sleep(0)
        self._cluster().append(records[half:], self._still(transaction))
        await asyncio.sleep(0)
        self._cluster().end(transaction)

    def _still(self, transaction: Transaction) -> Transaction:
        if not transaction.open:
            raise FencedError(f"shard {self._shard} has been taken by another writer")
        return transaction

    def _cluster(self) -> MemoryCluster:
        try:
            return self._bus.living_cluster()
        except BusError as error:
            raise CommitUnknownError(f"the commit of shard {self._shard} was cut off: {error}") from error


def _stored(record: Outgoing, now_ms: int) -> Stored:
    """Copy a record: what is stored shares nothing mutable with the caller."""
    headers = tuple((str(name), bytes(value)) for name, value in record.headers)
    key = None if record.key is None else bytes(record.key)
    value = None if record.value is None else bytes(record.value)
    return Stored(now_ms, key, value, headers)
