"""The projector: the only writer of read models, from the topics into the store. Does I/O.

A plain consumer, at least once: its bookmarks are committed after the store has taken the writes, and
writing a document twice changes nothing. While the store is dead it waits with the batch in its hands,
so nothing is passed over and nothing changes places.
"""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence

import structlog

from shotbus.broker.bus.base import Bus, BusError, Membership, OffsetGapError, Reader, Record, TopicPartition
from shotbus.broker.bus.scan import despite_deletions, scan
from shotbus.broker.store.base import Store, StoreError
from shotbus.broker.topics import CIRCUIT_SECONDS, Topics
from shotbus.reducers.lateness import compared, deviation_of
from shotbus.reducers.readmodels import PROJECTOR, SOURCES, ReadModels, Writes

INDEX_KEEP = 100_000
COMMIT_SECONDS = 0.5

# A write to the store costs a commit, so records are gathered for this long. It delays what people see.
_DRAIN_SECONDS = 5.0
_LINGER_SECONDS = 0.05
_HAND_OVER_SECONDS = 3.0
_POLL_RECORDS = 500
_BATCH_RECORDS = 4_000
_BATCH_BYTES = 16_777_216
_POLL_SECONDS = 0.25
_BACKOFF_SECONDS = (0.05, 2.0)

_log = structlog.get_logger(__name__)


class Projector:
    """Projects the partitions its group membership gives it, or all of them with :meth:`rebuild`.

    ``observe`` is told how far each late result is from the answer that was given.
    """

    def __init__(
        self, bus: Bus, store: Store, topics: Topics, observe: Callable[[float], None] | None = None
    ) -> None:
        self._bus = bus
        self._store = store
        self._topics = topics
        self._models, self._observe = ReadModels(topics), observe
        self._keep_seconds = topics.retention_ms / 1000
        self._ranks: dict[str, dict[str, float]] = {}
        self._held: frozenset[int] = frozenset()
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()
        self._stop = asyncio.Event()
        self._lost: Exception | None = None

    @property
    def stats(self) -> Counter[str]:
        """Records by fate: ``read``, ``unreadable``."""
        return self._models.stats

    def stop(self) -> None:
        """Make :meth:`run` return after what it is writing."""
        self._stop.set()

    async def run(self) -> None:
        """Project until :meth:`stop`.

        Raises BusError when the group cannot be joined, ShotbusError (SB-2006) when another process has
        joined it under this one's instance name.
        """
        membership = await self._bus.join(
            self._topics.name(PROJECTOR),
            self._topics.name("shards"),
            on_assigned=self._assigned,
            on_revoked=self._revoked,
            on_lost=self._give_way,
        )
        try:
            while not self._stop.is_set():
                self._changed.clear()
                if self._held:
                    await self._retrying(lambda: self._session(membership), BusError)
                else:
                    await self._pause(None)
        finally:
            await membership.leave()
        if self._lost is not None:
            raise self._lost

    def _give_way(self, lost: Exception) -> None:
        self._lost = lost
        self.stop()

    async def rebuild(self) -> int:
        """Clear the store and write everything anew that the topics hold now.

        Needs no membership. Running projectors may go on: what they write meanwhile is newer and stays.
        Returns the number of records read. Raises StoreError, BusError.
        """
        await self._store.clear()
        return await despite_deletions(self._write_all)

    async def _write_all(self) -> int:
        partitions = self._sources(range(self._topics.partitions))
        count = 0
        async for records in scan(self._bus, await self._bus.begins(partitions), batch=_POLL_RECORDS):
            count += len(records)
            await self._put(self._models.project(records))
        await self._put_ranks()
        return count

    # -- one assignment ---------------------------------------------------------------------------

    async def _session(self, membership: Membership) -> None:
        """Project the partitions held now, until that changes."""
        partitions = self._sources(sorted(self._held))
        begins = await self._bus.begins(partitions)
        committed = await membership.committed(partitions)
        starts = {part: max(begins[part], committed.get(part, 0)) for part in partitions}
        reader = self._bus.reader(starts)
        loop = asyncio.get_running_loop()
        commit_at = loop.time() + COMMIT_SECONDS
        going = True
        try:
            while going and not self._stop.is_set() and not self._changed.is_set():
                going = await self._step(reader, partitions)
                if going and loop.time() >= commit_at:
                    going = await self._commit(membership, reader, partitions)
                    commit_at = loop.time() + COMMIT_SECONDS
            if going and not self._changed.is_set() and await self._drain(reader, partitions):
                await self._commit(membership, reader, partitions)
        finally:
            await reader.close()

    async def _step(self, reader: Reader, partitions: Sequence[TopicPartition]) -> bool:
        """Project one batch. Returns False when it was given up before the store took it."""
        try:
            records = await self._gather(reader)
        except OffsetGapError:
            await self._pass_gap(reader, partitions)
            return True
        if not records:
            return True
        writes = self._models.project(records)
        return await self._retrying(lambda: self._put(writes), StoreError)

    async def _drain(self, reader: Reader, partitions: Sequence[TopicPartition]) -> bool:
        """Project what was there when the stop came: the next start should find caches complete.

        Returns False when it was given up: the bookmarks must stay.
        """
        ends = await self._bus.ends(partitions)
        until = asyncio.get_running_loop().time() + _DRAIN_SECONDS
        while any(reader.position(partition) < end for partition, end in ends.items()):
            writes = self._models.project(await reader.poll(max_records=_POLL_RECORDS, timeout=_POLL_SECONDS))
            taken = await self._retrying(functools.partial(self._put, writes), StoreError)
            if not taken or asyncio.get_running_loop().time() > until:
                return False
        return True

    async def _gather(self, reader: Reader) -> list[Record]:
        """Return what comes within the linger time after the first record, up to a batch's size."""
        records = await reader.poll(max_records=_POLL_RECORDS, timeout=_POLL_SECONDS)
        if not records:
            return records
        await self._pause(_LINGER_SECONDS)
        more, size = records, _size(records)
        while more and len(records) < _BATCH_RECORDS and size < _BATCH_BYTES:
            try:
                more = await reader.poll(max_records=_POLL_RECORDS, timeout=0)
            except OffsetGapError:
                break  # what was read must not be lost; the next poll will say it again
            size += _size(more)
            records = [*records, *more]
        return records

    async def _pass_gap(self, reader: Reader, partitions: Sequence[TopicPartition]) -> None:
        """Go on at the oldest record kept: results that retention has deleted need no read model."""
        begins = await self._bus.begins(partitions)
        for partition in partitions:
            if reader.position(partition) < begins[partition]:
                _log.warning("records-deleted-before-projection", partition=partition, to=begins[partition])
                reader.seek(partition, begins[partition])

    async def _commit(
        self, membership: Membership, reader: Reader, partitions: Sequence[TopicPartition]
    ) -> bool:
        """Set the bookmarks behind what the store has taken. Returns False when it has not."""
        if not await self._retrying(self._put_ranks, StoreError):
            return False
        await membership.commit({partition: reader.position(partition) for partition in partitions})
        return True

    # -- the store --------------------------------------------------------------------------------

    async def _put(self, writes: Writes) -> None:
        async with self._writing:
            await self._write(writes)

    async def _write(self, writes: Writes) -> None:
        if writes.late:
            await self._compare(writes)
        if writes.documents:
            await self._store.put_many(writes.documents, ttl=self._keep_seconds)
        if writes.outdated:
            await self._store.delete_many(list(writes.outdated))
        if writes.circuits:
            await self._store.put_many(writes.circuits, ttl=CIRCUIT_SECONDS)
        for index, members in writes.indexes.items():
            self._ranks.setdefault(index, {}).update(members)

    async def _compare(self, writes: Writes) -> None:
        """Keep what came late beside the answer that it is compared with, never instead of it."""
        answers = {job_id: f"result:{job_id}" for job_id in writes.late}
        away = [name for name in answers.values() if name not in writes.documents]
        stored = dict(zip(away, await self._store.get_many(away), strict=True)) if away else {}
        for job_id, name in answers.items():
            answer = writes.documents.get(name) or stored.get(name)
            told = writes.documents[f"late:{job_id}"] = compared(writes.late[job_id], answer)
            if self._observe is not None and (apart := deviation_of(told)) >= 0:
                self._observe(apart)

    async def _put_ranks(self) -> None:
        """Write the indexes; trimming them costs too much to do it with every batch."""
        for index, members in self._ranks.items():
            await self._store.index_add(index, members, keep=INDEX_KEEP)
        self._ranks.clear()

    # -- waiting ----------------------------------------------------------------------------------

    async def _assigned(self, shards: frozenset[int]) -> None:
        self._held |= shards
        self._changed.set()

    async def _revoked(self, shards: frozenset[int]) -> None:
        """Let go; a write on its way is waited for, or it would land on top of a successor's newer one."""
        self._held -= shards
        self._changed.set()
        try:
            async with asyncio.timeout(_HAND_OVER_SECONDS), self._writing:
                pass
        except TimeoutError:
            _log.warning("handed-over-while-writing", shards=sorted(shards))

    async def _retrying(self, call: Callable[[], Awaitable[None]], dead: type[BusError | StoreError]) -> bool:
        """Call until it succeeds (True), or until stopped or reassigned (False, bookmarks must stay)."""
        delay, longest = _BACKOFF_SECONDS
        while True:
            try:
                await call()
            except dead as error:
                _log.warning("projection-waits", error=str(error), retry_seconds=delay)
            else:
                return True
            if self._stop.is_set() or self._changed.is_set():
                return False
            await self._pause(delay)
            delay = min(2 * delay, longest)

    async def _pause(self, seconds: float | None) -> None:
        """Wait for a stop, a reassignment, or at most ``seconds``."""
        waits = [asyncio.create_task(event.wait()) for event in (self._stop, self._changed)]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _sources(self, shards: Iterable[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topics.name(name), shard) for shard in shards for name in SOURCES]


def _size(records: Sequence[Record]) -> int:
    return sum(len(record.value or b"") for record in records)
