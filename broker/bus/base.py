"""The bus seam: the one contract through which records travel. Types only, no I/O.

Every implementation passes ``tests/contract/test_bus.py``. The guarantees stated here are what the
rest of the code may rely on, and nothing more:

* a partition is a totally ordered log; offsets rise but may have gaps (Kafka's commit markers);
* a record is visible to readers only when it is durable and its transaction has committed;
* a shard's transaction is all or nothing under SIGKILL at any point, and after :meth:`Bus.fence`
  succeeded for a shard no older writer of that shard can commit anything;
* a reader that is asked for an offset that no longer exists fails (:class:`OffsetGapError`): a gap
  is an error, never a skip.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

Headers = tuple[tuple[str, bytes], ...]
Cleanup = Literal["delete", "compact", "compact,delete", "trim"]
ShardCallback = Callable[[frozenset[int]], Awaitable[None]]
LostCallback = Callable[[Exception], None]

DEFAULT_MAX_RECORD_BYTES = 1_048_576


class TopicPartition(NamedTuple):
    """One log."""

    topic: str
    partition: int


class Record(NamedTuple):
    """A record as read: ``timestamp_ms`` is the wall time at which the producer wrote it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int


class Outgoing(NamedTuple):
    """A record to be written. The partition is always explicit, never chosen by a client library."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as declared.

    ``trim`` means no retention by time or size: the owning shard deletes below its low water with
    :meth:`Bus.trim`. ``retention_ms`` bounds ``delete`` topics; None keeps records for ever.
    """

    name: str
    partitions: int
    cleanup: Cleanup = "delete"
    retention_ms: int | None = None
    max_record_bytes: int = DEFAULT_MAX_RECORD_BYTES


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an implementation declares about itself; the README's table and the suite read it.

    ``durable_on_ack``: survives power loss, not only SIGKILL. ``multi_process``: several processes on
    one host. ``multi_host``: several hosts. ``offset_gaps``: offsets are not dense.
    """

    name: str
    durable_on_ack: bool
    multi_process: bool
    multi_host: bool
    offset_gaps: bool
    tls: bool = False
    sasl: tuple[str, ...] = field(default=())


class BusError(Exception):
    """The bus could not do what was asked; the caller may try again."""


class FencedError(BusError):
    """Another writer has taken this shard: drop its state at once, write nothing more for it."""


class CommitUnknownError(BusError):
    """The transaction may or may not have committed: drop the shard and take it again."""


class OffsetGapError(BusError):
    """The requested offset has been deleted: records between would have been skipped."""


class RecordTooLargeError(BusError):
    """The record exceeds its topic's ``max_record_bytes``; nothing of the call was written."""


class UnknownTopicError(BusError):
    """The topic or the partition does not exist."""


class Reader(Protocol):
    """Polls explicit partitions, outside any group, committed records only."""

    async def poll(
        self, *, max_records: int, timeout: float, only: Sequence[TopicPartition] | None = None
    ) -> list[Record]:
        """Return up to ``max_records`` records, waiting at most ``timeout`` seconds for the first.

        Records of one partition come in offset order. ``only`` restricts this call to some of the
        reader's partitions and loses nothing of the others. ``timeout`` 0 returns what is there. An
        empty list may come early when only markers were passed. Raises :class:`OffsetGapError` for a
        position outside what is kept, :class:`BusError` on a closed reader or when the bus is away.
        """
        ...

    def position(self, partition: TopicPartition) -> int:
        """Return the offset from which the next poll reads; it passes commit markers and gaps."""
        ...

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read ``partition`` from ``offset`` on."""
        ...

    async def close(self) -> None: ...


class Membership(Protocol):
    """One process's place in a group; partitions of the group's topic are dealt out among members."""

    @property
    def assigned(self) -> frozenset[int]:
        """The partitions this member holds now."""
        ...

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Record the group's positions (next offset to read) of any topics.

        At-least-once bookmarks: workers resume from them, displays compute lag from them. Shards keep
        their true positions in their ledger.
        """
        ...

    async def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the recorded positions; partitions without one are absent."""
        ...

    async def leave(self) -> None:
        """Leave at once, after ``on_revoked`` was called with everything still held."""
        ...


class ShardWriter(Protocol):
    """The only writer of one shard, until fenced. Never shared between tasks."""

    async def commit(self, records: Sequence[Outgoing]) -> None:
        """Write all records atomically and durably.

        Raises :class:`FencedError` (nothing written, shard lost), :class:`RecordTooLargeError` and
        :class:`UnknownTopicError` (nothing written, writer still usable), :class:`BusError` for a record
        without key on a compacted topic (the same), :class:`CommitUnknownError` (take the shard again).
        """
        ...

    async def close(self) -> None: ...


class Bus(Protocol):
    """Verbs of the bus. Instances belong to one event loop."""

    @property
    def capabilities(self) -> Capabilities: ...

    async def start(self) -> None:
        """Connect. Raises :class:`BusError` with a message that says what to check."""
        ...

    async def close(self) -> None:
        """Close everything this instance opened; readers, writers and memberships included."""
        ...

    async def create_topics(self, specs: Iterable[TopicSpec]) -> None:
        """Create what is missing. A topic that exists with another partition count is a BusError."""
        ...

    async def topics(self) -> dict[str, int]:
        """Return every existing topic's partition count."""
        ...

    async def publish(self, records: Sequence[Outgoing]) -> list[int]:
        """Write records outside any shard, durable on return; returns their offsets.

        Concurrent calls are batched together. Order per partition within a call is kept, and between
        calls of which the second began after the first returned.
        """
        ...

    def reader(self, positions: Mapping[TopicPartition, int]) -> Reader:
        """Open a reader on explicit partitions from explicit offsets (replay and tail alike)."""
        ...

    async def begins(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the first offset still kept of each partition."""
        ...

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the offset behind the last committed record of each partition.

        A reader has seen everything that was committed before this call when its
        ``position(p) >= ends[p]`` for every p.
        """
        ...

    async def offset_at(self, partition: TopicPartition, timestamp_ms: int) -> int:
        """Return the first offset whose record is not older than ``timestamp_ms``, else the end."""
        ...

    async def join(
        self,
        group: str,
        topic: str,
        *,
        on_assigned: ShardCallback,
        on_revoked: ShardCallback,
        on_lost: LostCallback | None = None,
    ) -> Membership:
        """Join ``group``, whose members deal out the partitions of ``topic`` among themselves.

        ``on_revoked`` is awaited before another member is given the partitions (except when this
        process was declared dead, or lost its name: then only fencing protects the shard). Callbacks must
        be quick: they signal tasks, they do no work. ``on_lost`` is called, after everything was revoked,
        when another process has joined under this one's instance name: this member stays out, and the
        argument says so (ShotbusError SB-2006). A bus that knows no such names never calls it.
        """
        ...

    async def committed(self, group: str, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return what ``group`` has recorded, as its members see it; of a group that never was: nothing."""
        ...

    async def members(self, group: str, topic: str) -> int:
        """Return how many members share ``topic`` in ``group`` now.

        One that was killed counts until its death is noticed, which may take its session's time-out.
        """
        ...

    async def fence(self, shard: str) -> ShardWriter:
        """Take a shard: after this returns, older writers of ``shard`` can commit nothing."""
        ...

    async def trim(self, before: Mapping[TopicPartition, int]) -> None:
        """Delete the records below the given offsets. Reading them afterwards is an OffsetGapError."""
        ...
