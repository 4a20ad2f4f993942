"""The runner: makes any machine durable on any bus, one shard at a time. All I/O goes through the bus.

Rules (each closes a hole):

* everything a micro-batch decided is one transaction: outgoing records, ledger rows, input positions;
* positions live in the ledger; a shard is fenced, restored to the ledger's end, then sought;
* *time seen* advances by at most two tick periods a tick, and only after the shard has read its
  urgent inputs (rank 0 and 1) to the ends observed at that tick;
* a record whose handling raises is undone (the shard is restored) and dead-lettered; the rest goes on;
* a fenced or unknown commit drops the state: the ledger is the truth.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import structlog

from shotbus.broker.bus.base import (
    Bus,
    Outgoing,
    Reader,
    Record,
    RecordTooLargeError,
    ShardWriter,
    TopicPartition,
)
from shotbus.broker.bus.limits import OVERSIZE_BATCH
from shotbus.broker.clock import Clock
from shotbus.broker.deadletters import dead_letter
from shotbus.broker.ledger import LastRows, positions_row, replay_ledger
from shotbus.broker.machine import Edge, Now, SettlesInParts, TakesRows
from shotbus.schemas.errors import ShotbusError, fail

_log = structlog.get_logger()
URGENT_RANK = 1
# What is due was done in the step before. What remains is due by a clock that moves in ticks: to wait for no
# time at all would be to turn until it does.
_LEAST_WAIT = 0.001
# What a defect raises, ours or in a library below us. Any other error of the bus or of the system is not
# the record's fault and must not cost it.
_DEFECTS = (
    ShotbusError,
    RecordTooLargeError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """How a shard is run.

    ``tick`` seconds is the resolution of time seen; ``batch`` bounds a micro-batch; positions that
    moved without a decision are written after ``idle_positions`` seconds; trimming happens every
    ``trim_every`` seconds.
    """

    tick: float = 0.25
    batch: int = 1_000
    idle_positions: float = 5.0
    trim_every: float = 10.0


class PoisonError(Exception):
    """Handling one record raised; the shard must be restored and the record skipped."""

    def __init__(self, record: Record, message: str) -> None:
        """Remember the culprit and its traceback."""
        super().__init__(message)
        self.record = record
        self.message = message


def _no_probe(_: str) -> None:
    """Stand in for a fault run's probe."""


class ShardRunner:
    """Runs one shard: take it, then micro-batch after micro-batch until stopped or fenced.

    Args:
        bus: started bus.
        build: makes a fresh edge and machine; called at every taking.
        shard: name to fence, stable over processes (``group + shard number``).
        dead_letters: partition that receives what cannot be handled.
        clock: wall and monotonic time.
        settings: sizes and periods.
        probe: called with the name of each step; a fault run raises or kills in it.

    """

    def __init__(
        self,
        bus: Bus,
        build: Callable[[], Edge],
        *,
        shard: str,
        dead_letters: TopicPartition,
        clock: Clock,
        settings: RunnerSettings | None = None,
        probe: Callable[[str], None] = _no_probe,
    ) -> None:
        self._bus, self._build, self._shard = bus, build, shard
        self._dead_letters, self._clock, self._probe = dead_letters, clock, probe
        self._settings = settings or RunnerSettings()
        self._poison: dict[tuple[str, int, int], str] = {}
        self._one_by_one = 0
        self._held: _Held | None = None
        self._woken = False
        self._waiting: asyncio.Timeout | None = None
        self.last_progress = clock.monotonic()

    @property
    def edge(self) -> Edge | None:
        """The edge of the life that runs now."""
        return self._held.edge if self._held else None

    async def take(self) -> None:
        """Fence, restore to the ledger's end, seek. Raises BusError when the bus is away."""
        await self.release()
        async with AsyncExitStack() as unfinished:
            writer = await self._bus.fence(self._shard)
            unfinished.push_async_callback(writer.close)
            self._probe("fenced")
            edge = self._build()
            unfinished.push_async_callback(edge.close)
            positions = await self._restore(edge)
            reader = self._bus.reader(positions)
            self._held = _Held(edge, writer, reader, positions, self._clock.monotonic())
            unfinished.pop_all()
        edge.machine.restored(self.now())
        edge.machine.touched()
        self._probe("taken")

    async def _restore(self, edge: Edge) -> dict[TopicPartition, int]:
        """Give the machine its rows back; returns where its inputs are to be read from."""
        machine = edge.machine
        if isinstance(machine, TakesRows):
            positions = await replay_ledger(self._bus, edge.ledger, machine.restore_row)
        else:
            rows = LastRows()
            positions = await replay_ledger(self._bus, edge.ledger, rows.take)
            rows.give(machine.restore)
        if isinstance(machine, SettlesInParts):
            for _ in machine.settling():
                # The membership's heartbeats and the other shards have their turn.
                await asyncio.sleep(0)
        partitions = [one.partition for one in edge.inputs]
        begins = await self._bus.begins([p for p in partitions if p not in positions])
        return {p: positions.get(p, begins.get(p, 0)) for p in partitions}

    async def release(self) -> None:
        """Let go of reader and writer; the state is dropped."""
        held, self._held = self._held, None
        if held:
            async with AsyncExitStack() as closing:
                closing.push_async_callback(held.writer.close)
                closing.push_async_callback(held.reader.close)
                closing.push_async_callback(held.edge.close)

    async def step(self, *, wait: float | None = None) -> int:
        """Run one micro-batch, waiting at most ``wait`` (default: until the next timer) for records.

        Returns the number of records read. Raises FencedError and CommitUnknownError (drop the shard),
        BusError (bus away). A poison record is dealt with inside.
        """
        try:
            return await self._step(self._patience() if wait is None else wait)
        except PoisonError as error:
            record = error.record
            _log.error("poison record", topic=record.topic, offset=record.offset, error=error.message[-400:])
            self._poison[record.topic, record.partition, record.offset] = error.message
            await self.take()
            return 0

    def wake(self) -> None:
        """Have the shard run a micro-batch now, though nothing has come; while it runs one, then another."""
        self._woken = True
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.reschedule(asyncio.get_running_loop().time())

    def _patience(self) -> float:
        wake = self._life.edge.machine.wake_at(self.now())
        tick = self._settings.tick
        return tick if wake is None else max(_LEAST_WAIT, min(wake, tick))

    @property
    def _life(self) -> _Held:
        if self._held is None:
            raise RuntimeError("the shard is not held: call take() first")
        return self._held

    def now(self) -> Now:
        """Return the machine's time."""
        return Now(self._clock.wall_ms(), self._held.seen if self._held else 0.0)

    async def _step(self, wait: float) -> int:
        held = self._life
        limit = 1 if self._one_by_one else self._settings.batch
        records = await self._poll(held, limit, wait)
        self._probe("polled")
        await self._advance_time(held)
        try:
            await self._decide_and_commit(held, records)
        except _DEFECTS as error:
            # Not attributable to one record: undo everything and go one by one until past them.
            if len(records) <= 1:
                raise PoisonError(*_blame(records, error)) from error
            self._one_by_one = len(records)
            await self.take()
            return 0
        self._one_by_one = max(0, self._one_by_one - len(records))
        if records:
            self.last_progress = self._clock.monotonic()
        await self._trim(held)
        return len(records)

    async def _poll(self, held: _Held, limit: int, wait: float) -> list[Record]:
        if self._one_by_one and held.first:
            # What must be judged first comes alone too, else the wrong one of two would be blamed.
            records = await held.reader.poll(max_records=limit, timeout=0, only=held.first)
            if records:
                return records
        records = await self._wait(held.reader, limit, wait)
        records.sort(key=lambda record: held.rank[record.topic, record.partition])
        return records

    async def _wait(self, reader: Reader, limit: int, wait: float) -> list[Record]:
        """Wait for records until :meth:`wake` is called, then take those that are there."""
        if wait > 0 and not self._woken:
            try:
                # A poll takes records only in the moment in which it returns: cancelled, it has lost none.
                async with asyncio.timeout(None) as self._waiting:
                    return await reader.poll(max_records=limit, timeout=wait)
            except TimeoutError:
                if not self._woken:
                    raise
            finally:
                self._waiting = None
        self._woken = False
        return await reader.poll(max_records=limit, timeout=0)

    async def _advance_time(self, held: _Held) -> None:
        now = self._clock.monotonic()
        if held.awaited is None and now - held.ticked >= self._settings.tick:
            held.awaited = await self._bus.ends(held.urgent)
        if held.awaited is not None and held.has_read(held.awaited):
            held.seen += min(now - held.ticked, 2 * self._settings.tick)
            held.ticked, held.awaited = now, None

    async def _decide_and_commit(self, held: _Held, records: list[Record]) -> None:
        """Handle ``records``, to which :meth:`_catch_up` may add, and make what they decide durable."""
        edge = held.edge
        events, sources, letters = self._decode(edge, records)
        if edge.must_catch_up(events):
            events, sources, letters = await self._catch_up(held, records)
        events = list(await edge.attach(events))
        commands = self._handle(edge, events, sources)
        self._probe("decided")
        outgoing = await edge.materialise(commands)
        outgoing += letters
        outgoing += self._rows(held)
        held.advance(records)
        if not outgoing and not self._positions_are_due(held):
            return
        outgoing.append(positions_row(edge.ledger, held.positions))
        self._probe("committing")
        await held.writer.commit(outgoing)
        self._probe("committed")
        held.moved, held.written = False, self._clock.monotonic()
        self._forget_poison(held)
        edge.committed([*commands, *letters])

    async def _catch_up(
        self, held: _Held, records: list[Record]
    ) -> tuple[list[Any], list[Record], list[Outgoing]]:
        """Read rank 0 to its end and put it first, behind what of it is there already."""
        ends = await self._bus.ends(held.first)
        late: list[Record] = []
        while not held.has_read(ends):
            late += await held.reader.poll(max_records=self._settings.batch, timeout=0.1, only=held.first)
        own = sum(held.rank[record.topic, record.partition] == 0 for record in records)
        records[own:own] = late
        return self._decode(held.edge, records)

    def _decode(
        self, edge: Edge, records: Sequence[Record]
    ) -> tuple[list[Any], list[Record], list[Outgoing]]:
        events: list[Any] = []
        sources: list[Record] = []
        letters: list[Outgoing] = []
        for record in records:
            poison = self._poison.get((record.topic, record.partition, record.offset))
            if poison is not None:
                letters.append(self._letter(record, "POISON", "SB-9001", poison))
                letters += _excuses(edge, record, self.now())
                continue
            try:
                _check_unpacked(record)
                event = edge.decode(record)
            except ShotbusError as error:
                letters.append(self._letter(record, "INVALID", error.problems[0].code, str(error)))
                continue
            if event is not None:
                events.append(event)
                sources.append(record)
        return events, sources, letters

    def _forget_poison(self, held: _Held) -> None:
        if self._poison:
            behind = held.positions
            self._poison = {
                place: message
                for place, message in self._poison.items()
                if place[2] >= behind.get(TopicPartition(*place[:2]), 0)
            }

    def _handle(self, edge: Edge, events: Sequence[Any], sources: Sequence[Record]) -> list[Any]:
        commands: list[Any] = []
        handle, now = edge.machine.handle, self.now()
        for event, source in zip(events, sources, strict=True):
            try:
                commands += handle(event, now)
            except Exception as error:
                # Whatever a defect raises must not stop the shard: the record is set aside, visibly.
                raise PoisonError(source, traceback.format_exc()) from error
        commands += handle(edge.tick(), now)
        return commands

    def _rows(self, held: _Held) -> list[Outgoing]:
        machine, ledger = held.edge.machine, held.edge.ledger
        return [
            Outgoing(ledger.topic, ledger.partition, key, machine.snapshot(key)) for key in machine.touched()
        ]

    def _positions_are_due(self, held: _Held) -> bool:
        return held.moved and self._clock.monotonic() - held.written >= self._settings.idle_positions

    async def _trim(self, held: _Held) -> None:
        now = self._clock.monotonic()
        if held.moved or now - held.trimmed < self._settings.trim_every:
            return
        held.trimmed = now
        needed = held.edge.low_waters()
        kept = {one.partition: one.keep_ms for one in held.edge.inputs if one.trimmed}
        lows = {p: min(held.positions[p], needed.get(p, held.positions[p])) for p in kept}
        for place, keep_ms in kept.items():
            if keep_ms and lows[place] > held.low.get(place, 0):
                young = await self._bus.offset_at(place, self._clock.wall_ms() - keep_ms)
                lows[place] = min(lows[place], young)
        moved = {p: low for p, low in lows.items() if low > held.low.get(p, 0)}
        if moved:
            await self._bus.trim(moved)
            held.low.update(moved)

    def _letter(self, record: Record, error_class: str, code: str, message: str) -> Outgoing:
        return dead_letter(
            record,
            topic=self._dead_letters.topic,
            partition=self._dead_letters.partition,
            group=self._shard,
            error_class=error_class,
            code=code,
            message=message,
        )


class _Held:
    """One life of a shard: everything that is dropped together."""

    def __init__(
        self,
        edge: Edge,
        writer: ShardWriter,
        reader: Reader,
        positions: dict[TopicPartition, int],
        now: float,
    ) -> None:
        self.edge, self.writer, self.reader, self.positions = edge, writer, reader, positions
        self.rank = {(one.partition.topic, one.partition.partition): one.rank for one in edge.inputs}
        self.first = [one.partition for one in edge.inputs if one.rank == 0]
        self.urgent = [one.partition for one in edge.inputs if one.rank <= URGENT_RANK]
        self.seen, self.ticked = 0.0, now
        self.awaited: dict[TopicPartition, int] | None = None
        self.moved, self.written, self.trimmed = False, now, now
        self.low: dict[TopicPartition, int] = {}

    def advance(self, records: Sequence[Record]) -> None:
        """Note that ``records`` are behind us; rank 0 may have been read further already."""
        for topic, partition, offset, *_ in records:
            place = TopicPartition(topic, partition)
            self.positions[place] = max(self.positions[place], offset + 1)
            self.moved = True

    def has_read(self, ends: dict[TopicPartition, int]) -> bool:
        """Tell whether every position has reached the given ends."""
        return all(self.reader.position(partition) >= end for partition, end in ends.items())


def _check_unpacked(record: Record) -> None:
    """Refuse what stands for a batch that nobody unpacks. Raises ShotbusError (SB-1003)."""
    if record.headers and record.headers[0][0] == OVERSIZE_BATCH:
        detail = "a compressed batch that unpacks to too much, or not at all"
        raise fail("SB-1003", "$", actual=f"{len(record.value or b'')} bytes", detail=detail)


def _excuses(edge: Edge, record: Record, now: Now) -> list[Outgoing]:
    try:
        return edge.excuse(record, now)
    except Exception:  # noqa: BLE001 (what broke the handling may break this too; the record must stay aside)
        _log.exception("sender of poison not told", topic=record.topic, offset=record.offset)
        return []


def _blame(records: Sequence[Record], error: Exception) -> tuple[Record, str]:
    if not records:
        raise error
    return records[0], "".join(traceback.format_exception(error))
