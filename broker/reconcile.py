"""The ledgers against the bus, as after an outage: positions, references, workers, outcomes. Reads the bus.

Most of what is found heals by itself as soon as the processes run; what does not is marked as severe.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from shotbus.broker.bus.base import Bus, OffsetGapError, TopicPartition
from shotbus.broker.bus.scan import any_between, scan
from shotbus.broker.clock import Clock, SystemClock
from shotbus.broker.dispatcher.rows import is_job, row_fields
from shotbus.broker.dispatcher.states import WITH_A_WORKER
from shotbus.broker.ledger import LastRows, replay_ledger
from shotbus.broker.pools import PoolsTail
from shotbus.broker.topics import Topics
from shotbus.schemas.codec import decode

#: A process that was silent for so long is gone.
SILENT_SECONDS = 15.0
_IN_FLIGHT = frozenset(phase.value for phase in WITH_A_WORKER)
_LEDGERS = {"dispatcher": "jobs", "reducer": "folds"}


class Remark(NamedTuple):
    """One thing that is not as it would be at rest. ``severe``: it does not heal by itself."""

    kind: str
    about: str
    seen: str
    severe: bool


@dataclass(slots=True)
class _Look:
    """What the remarks about rows rest on."""

    begins: Mapping[TopicPartition, int]
    workers: Collection[str]
    pools: Collection[str]
    reported: Mapping[str, int]
    remarks: list[Remark] = field(default_factory=list)

    def say(self, kind: str, about: str, seen: str, *, severe: bool = False) -> None:
        self.remarks.append(Remark(kind, about, seen, severe))


async def reconcile(
    bus: Bus, topics: Topics, pools: Collection[str], *, clock: Clock | None = None
) -> list[Remark]:
    """Return what the ledgers hold that the bus, or the processes that are alive, do not bear out.

    Args:
        bus: started.
        topics: names and partition count.
        pools: names of the configured pools.
        clock: None is this machine's.

    Raises:
        BusError: the bus is away.

    """
    workers = await _workers(bus, topics, clock or SystemClock())
    remarks: list[Remark] = []
    existing = await bus.topics()
    for role, ledger in _LEDGERS.items():
        if topics.name(ledger) not in existing:
            remarks.append(Remark("no-ledger", topics.name(ledger), "the topic does not exist", severe=False))
            continue
        for shard in range(topics.partitions):
            place = TopicPartition(topics.name(ledger), shard)
            names = [name for name in _inputs(role, topics) if name in existing]
            inputs = [TopicPartition(name, shard) for name in names]
            remarks += await _shard(bus, place, f"{role} {shard}", inputs, (workers, pools))
    return remarks


async def _workers(bus: Bus, topics: Topics, clock: Clock) -> set[str]:
    """Return the names of the workers that were heard of lately."""
    alive: dict[bytes, str] = {}

    def learn(key: bytes, status: Mapping[str, Any] | None, heard: float) -> None:
        alive.pop(key, None)
        if status and status["role"] == "worker" and clock.monotonic() - heard < SILENT_SECONDS:
            alive[key] = status["name"]

    if topics.name("pools") in await bus.topics():
        await PoolsTail(bus, topics, learn, clock).catch_up()
    return set(alive.values())


def _inputs(role: str, topics: Topics) -> list[str]:
    """Return what a shard reads even before it has written where it is."""
    if role == "reducer":
        return [topics.name("sweeps"), topics.name("results")]
    requests = [topics.requests(name) for name in topics.classes]
    return [topics.name("control"), topics.name("outcomes"), *requests]


async def _shard(
    bus: Bus,
    ledger: TopicPartition,
    name: str,
    inputs: Sequence[TopicPartition],
    known: tuple[Collection[str], Collection[str]],
) -> list[Remark]:
    workers, pools = known
    rows = LastRows()
    positions = await bus.begins(inputs)  # from there a shard begins that has never decided anything
    positions |= await replay_ledger(bus, ledger, rows.take)
    begins, ends = await bus.begins(positions), await bus.ends(positions)
    look = _Look(begins, workers, pools, await _reported(bus, positions))
    for place, position in positions.items():
        # Markers of commits at the end are nothing to read.
        waits = begins[place] <= position < ends[place]
        if not waits or await any_between(bus, place, position, ends[place]):
            _judge_position(look, name, place, position, ends[place])
    for row in rows.rows.values():
        if is_job(row):
            _judge_row(look, row_fields(row))
    return look.remarks


def _judge_position(look: _Look, shard: str, place: TopicPartition, position: int, end: int) -> None:
    about, begin = f"{place.topic}[{place.partition}]", look.begins[place]
    if position > end:
        seen = f"{shard} is at {position}, the end is {end}: the bus has lost records"
        look.say("position-beyond-the-end", about, seen, severe=True)
    elif position < begin:
        seen = f"{shard} is at {position}, what is kept begins at {begin}: records were deleted unread"
        look.say("position-before-the-begin", about, seen, severe=True)
    elif position < end:
        look.say(
            "position-behind", about, f"{shard} is at {position}, {end - position} offsets before the end"
        )


def _judge_row(look: _Look, row: Mapping[str, Any]) -> None:
    job, place = row["job_id"], TopicPartition(row["request_topic"], row["request_partition"])
    if row["request_offset"] < look.begins.get(place, 0):
        where = f"{place.topic}[{place.partition}]@{row['request_offset']}"
        look.say("request-gone", job, f"{where} was deleted, and the job still needs it", severe=True)
    if row["pool"] not in look.pools:
        look.say("pool-unknown", job, f"waits for {row['pool']}, which is not configured", severe=True)
    if row["state"] not in _IN_FLIGHT:
        return
    if reports := look.reported.get(row["bundle_id"], 0):
        look.say("outcome-not-consumed", job, f"{reports} reports about its bundle have not been read yet")
    elif row["worker"] not in look.workers:
        worker = row["worker"] or "a worker that never answered"
        look.say("worker-gone", job, f"{row['state']} with {worker}: it comes back when its lease lapses")


async def _reported(bus: Bus, positions: Mapping[TopicPartition, int]) -> Counter[str]:
    """Count the outcomes by bundle that lie behind a shard's position, unread."""
    found: Counter[str] = Counter()
    behind = {place: at for place, at in positions.items() if place.topic.endswith("outcomes")}
    try:
        async for batch in scan(bus, behind):
            for record in batch:
                name, fields = decode(record.value)
                if name == "outcome":
                    found[fields["bundle_id"]] += 1
    except OffsetGapError:
        return found  # told as a position before the begin
    return found
