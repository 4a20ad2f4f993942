"""What stands between the Treasury's machine and the bus: decodes, encodes, logs alarms. No other I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from shotbus.broker.bus.base import Outgoing, Record, TopicPartition
from shotbus.broker.machine import Emit, Input, Now, Tick
from shotbus.broker.topics import Topics
from shotbus.broker.treasury.budgets import Budgets, shown
from shotbus.broker.treasury.machine import Asked, Treasury
from shotbus.schemas.codec import decode, encode
from shotbus.schemas.errors import fail

_log = structlog.get_logger(__name__)
#: What the log says of the actions of audit entries.
_ALARMS = {"budget.threshold": "budget threshold passed", "budget.overdrawn": "budget overdrawn"}


class TreasuryEdge:
    """The edge of Treasury shard ``shard``; see :class:`shotbus.broker.machine.Edge`."""

    def __init__(self, topics: Topics, shard: int, budgets: Budgets) -> None:
        self._topics = topics
        self._input = TopicPartition(topics.name("treasury"), shard)
        self._ledger = TopicPartition(topics.name("treasury-ledger"), shard)
        self._machine = Treasury(shard, topics.partitions, budgets)

    @property
    def machine(self) -> Treasury:
        """The machine itself."""
        return self._machine

    @property
    def inputs(self) -> Sequence[Input]:
        """What the dispatcher's shards say."""
        return (Input(self._input, 0, trimmed=True),)

    @property
    def ledger(self) -> TopicPartition:
        """Where the rows are kept."""
        return self._ledger

    def decode(self, record: Record) -> Any:
        """Return the event. Raises ShotbusError for what cannot be one."""
        fields = decode(record.value, "treasury_command")[1]
        if not 0 <= fields["shard"] < self._topics.partitions:
            limit = f"0 to {self._topics.partitions - 1}"
            raise fail("SB-1108", "$.shard", limit=limit, actual=fields["shard"])
        return Asked(fields)

    async def attach(self, events: Sequence[Any]) -> Sequence[Any]:
        """Return the events as they are: nothing from outside is needed."""
        return events

    def must_catch_up(self, events: Sequence[Any]) -> bool:
        """Tell that there is nothing to read first."""
        del events
        return False

    def tick(self) -> Tick:
        """Close a micro-batch."""
        return Tick()

    async def materialise(self, commands: Sequence[Emit]) -> list[Outgoing]:
        """Encode grants and audit entries."""
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
        """Tell nobody: a shard that gets no answer asks again."""
        del record, now
        return []

    def low_waters(self) -> Mapping[TopicPartition, int]:
        """Return nothing: rows hold what they need and refer to no record."""
        return {}

    def committed(self, commands: Sequence[Any]) -> None:
        """Log what a person should look at, now that it is durable; the machine counts."""
        for command in commands:
            if isinstance(command, Emit) and command.topic == "audit":
                _warn(command.fields)

    async def close(self) -> None:
        """Nothing was opened."""


def _warn(entry: Mapping[str, Any]) -> None:
    sums = json.loads(entry["after"])
    limit, spent = (shown(sums["resource"], sums[name]) for name in ("limit", "spent"))
    _log.warning(
        _ALARMS[entry["action"]],
        budget=entry["target"],
        resource=sums["resource"],
        limit=limit,
        spent=spent,
        detail=entry["reason"],
    )
