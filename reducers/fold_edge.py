"""What stands between the fold and the bus: decodes inputs, encodes commands. Reads a clock to measure."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shotbus.broker.bus.base import Headers, Outgoing, Record, TopicPartition
from shotbus.broker.machine import Emit, Input, Now, Tick
from shotbus.broker.topics import Topics
from shotbus.reducers.fold import (
    Fold,
    ShardRefused,
    ShardResult,
    SweepCancelled,
    SweepDeclared,
    SweepSealed,
    check_sweep_id,
)
from shotbus.schemas.codec import decode, decode_untrusted, encode, identify

SWEEP_ID_HEADER = "sweep-id"


class FoldEdge:
    """The edge of fold shard ``shard``; see :class:`shotbus.broker.machine.Edge`.

    Partition ``shard`` of ``sweeps`` and of ``results`` belong together, since both are partitioned by
    sweep id. ``results`` has readers of its own and is not trimmed here.
    """

    def __init__(self, topics: Topics, shard: int, observe: Callable[[float], None] | None = None) -> None:
        """``observe`` is told, for each durable shard result, the seconds since it was published."""
        self._topics = topics
        self._observe = observe
        self._undelivered: list[int] = []
        self._sweeps = TopicPartition(topics.name("sweeps"), shard)
        self._results = TopicPartition(topics.name("results"), shard)
        self._ledger = TopicPartition(topics.name("folds"), shard)
        self._machine = Fold(topics.partitions, topics.retention_ms)

    @property
    def machine(self) -> Fold:
        """The machine itself."""
        return self._machine

    @property
    def inputs(self) -> Sequence[Input]:
        """Declarations before results: a result of an unknown sweep would be ignored for good."""
        return (Input(self._sweeps, 0, trimmed=True), Input(self._results, 1))

    @property
    def ledger(self) -> TopicPartition:
        """Where the rows are kept."""
        return self._ledger

    def decode(self, record: Record) -> Any:
        """Return the event, None for jobs outside sweeps. Raises ShotbusError for what cannot be one."""
        if record.topic == self._sweeps.topic:
            return _command(decode_untrusted(record.value, "sweep_command"))
        if not _header(record.headers, SWEEP_ID_HEADER):
            return None
        name = identify(record.value).name
        if name == "located":
            return None
        _, fields = decode(record.value, "circuit_result", "refusal")
        if fields.get("late"):
            return None  # its shard was answered before
        # The machine would refuse it too, but only a refusal here spares the shard a restore.
        self._machine.check_shard(fields["sweep_id"], fields["shard_index"])
        if name == "refusal":
            return ShardRefused(fields)
        self._undelivered.append(fields["finished_us"])
        return ShardResult(fields)

    async def attach(self, events: Sequence[Any]) -> Sequence[Any]:
        """Return the events as they are: the fold needs nothing from outside."""
        return events

    def must_catch_up(self, events: Sequence[Any]) -> bool:
        """Tell whether a result's sweep is unknown: its declaration is older, but may be unread."""
        declared = {event.fields["sweep_id"] for event in events if isinstance(event, SweepDeclared)}
        return any(
            isinstance(event, ShardResult | ShardRefused)
            and event.fields["sweep_id"] not in declared
            and not self._machine.knows(event.fields["sweep_id"])
            for event in events
        )

    def tick(self) -> Tick:
        """Close a micro-batch."""
        return Tick()

    async def materialise(self, commands: Sequence[Emit]) -> list[Outgoing]:
        """Encode reductions."""
        return [
            Outgoing(
                self._topics.name(command.topic),
                command.partition,
                command.key,
                encode(command.schema, command.fields),
                command.headers,
            )
            for command in commands
        ]

    def excuse(self, record: Record, now: Now) -> list[Outgoing]:
        """Tell nobody: who waits for a sweep sees that a shard is missing."""
        del record, now
        return []

    def low_waters(self) -> Mapping[TopicPartition, int]:
        """Return nothing: rows hold what they need and refer to no record."""
        return {}

    def committed(self, commands: Sequence[Emit]) -> None:
        """Tell how long after their publication the shards of this micro-batch became durable."""
        del commands
        finished, self._undelivered = self._undelivered, []
        if self._observe:
            now_us = time.time_ns() // 1000
            for at_us in finished:
                self._observe(max(0.0, (now_us - at_us) / 1e6))

    async def close(self) -> None:
        """Nothing was opened."""


def _header(headers: Headers, name: str) -> bytes:
    return next((value for key, value in headers if key == name), b"")


def _command(fields: Mapping[str, Any]) -> SweepDeclared | SweepSealed | SweepCancelled:
    sweep_id, tenant, at_us = fields["sweep_id"], fields["tenant"], fields["at_us"]
    check_sweep_id(sweep_id)
    if fields["command"] == "declare":
        return SweepDeclared(fields)
    if fields["command"] == "seal":
        return SweepSealed(sweep_id, tenant, fields["shards"], at_us)
    return SweepCancelled(sweep_id, tenant, at_us)
