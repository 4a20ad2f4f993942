"""What a machine is: the pure half of everything that decides. Types only.

A machine is synchronous, does no I/O and reads no clock. It is fed events and answers with commands;
the runner turns a micro-batch of commands, the touched ledger rows and the input positions into one
transaction. State is keyed: each key has a snapshot, which is its row in the ledger.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from shotbus.broker.bus.base import Headers, Outgoing, Record, TopicPartition


class Now(NamedTuple):
    """The two clocks of a machine.

    ``wall_ms``: wall time, for deadlines and not-before. ``seen``: seconds of *time seen* since the
    shard was taken; it only advances while the shard keeps up with its inputs, so leases and time-outs
    measured in it never fire because this process was asleep or behind.
    """

    wall_ms: int
    seen: float


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; fed at the end of every micro-batch and when a timer is due."""


class Emit(NamedTuple):
    """Command: publish a record of schema ``schema`` on a logical topic, in this transaction."""

    topic: str
    partition: int
    key: bytes | None
    schema: str
    fields: Mapping[str, Any]
    headers: Headers = ()


class Machine(Protocol):
    """A pure decider with keyed, restorable state."""

    def handle(self, event: Any, now: Now) -> Sequence[Any]:
        """Take one event and return commands. An exception undoes the event and dead-letters its record."""
        ...

    def touched(self) -> list[bytes]:
        """Return, in a deterministic order, the keys whose rows changed since the last call."""
        ...

    def snapshot(self, key: bytes) -> bytes | None:
        """Return the ledger row of a key, or None when the key is gone (written as a tombstone)."""
        ...

    def restore(self, key: bytes, snapshot: bytes) -> None:
        """Take a row back; called once a key, before any event. See :class:`TakesRows` for large state."""
        ...

    def restored(self, now: Now) -> None:
        """All rows are back: leases start a full period from ``now.seen``."""
        ...

    def wake_at(self, now: Now) -> float | None:
        """Return the seconds from now until the next timer, None without one."""
        ...


@runtime_checkable
class TakesRows(Protocol):
    """A machine that takes its ledger as it is read, because there is no room for it twice.

    Where a machine has this method the runner calls it instead of :meth:`Machine.restore`, for every record
    of the ledger in the order of writing. Compaction may have run or not: a key may come any number of times.
    """

    def restore_row(self, key: bytes, row: bytes | None) -> None:
        """Let ``row`` replace whatever was taken for ``key``; None: the key is gone, if it was ever there.

        Called before any event and before :meth:`Machine.restored`, which is the time for whatever needs
        all rows (queues, timers, leases).
        """
        ...


@runtime_checkable
class SettlesInParts(Protocol):
    """A machine that has so much state that it gives it its place part by part after a restore.

    Without pauses the process would miss its heartbeats, and with them its place in the group.
    """

    def settling(self) -> Iterator[None]:
        """Do some milliseconds of work at each step.

        Called once, to its end, between the last row and :meth:`Machine.restored`, which does all of it where
        this was not called.
        """
        ...


class Input(NamedTuple):
    """One input partition of a shard; lower ranks are read first, rank 0 to its end before any other.

    Of a ``trimmed`` one the shard deletes what nobody needs, but nothing younger than ``keep_ms``.
    """

    partition: TopicPartition
    rank: int
    trimmed: bool = False
    keep_ms: int = 0


class Edge(Protocol):
    """The I/O half that stands beside a machine: decodes its inputs and encodes its commands."""

    @property
    def machine(self) -> Machine: ...

    @property
    def inputs(self) -> Sequence[Input]: ...

    @property
    def ledger(self) -> TopicPartition: ...

    def decode(self, record: Record) -> Any:
        """Return the event, or None for a record that is none of the machine's business.

        Raises ShotbusError for a record that cannot be one: it is dead-lettered.
        """
        ...

    async def attach(self, events: Sequence[Any]) -> Sequence[Any]:
        """Attach what decisions need from outside, once a micro-batch; a dead store is an empty one."""
        ...

    def must_catch_up(self, events: Sequence[Any]) -> bool:
        """Tell whether an event can only be judged after rank 0 has been read to its end."""
        ...

    def tick(self) -> Tick:
        """Return the event that closes a micro-batch, with what only this moment knows (free credits)."""
        ...

    async def materialise(self, commands: Sequence[Any]) -> list[Outgoing]:
        """Encode commands as records; may read the bus (bodies by reference), never writes."""
        ...

    def excuse(self, record: Record, now: Now) -> list[Outgoing]:
        """Return what tells the sender of a record that could not be handled; goes with its dead letter."""
        ...

    def low_waters(self) -> Mapping[TopicPartition, int]:
        """Return, for inputs whose records live state still references, the oldest offset needed."""
        ...

    def committed(self, commands: Sequence[Any]) -> None:
        """Learn that commands and the batch's dead letters (Outgoing) are durable: count, wake neighbours.

        Must not raise.
        """
        ...

    async def close(self) -> None:
        """Close what the edge opened."""
        ...
