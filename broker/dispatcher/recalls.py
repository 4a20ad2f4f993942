"""The recall desk: asked for an earlier result, answers with a record on the shard's outcomes. Does I/O.

An effect of the dispatcher, as the inspection desk is: asked after the commit, and its answer is a durable
record like any other. A store that is dead has nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import structlog

from shotbus.broker.bus.base import Bus, BusError, Outgoing
from shotbus.broker.store.base import Store, StoreError
from shotbus.broker.topics import Topics
from shotbus.schemas.codec import encode

_log = structlog.get_logger(__name__)
#: Header by which an answer on ``outcomes`` is told from a worker's outcome.
RECALLED_HEADERS = (("kind", b"recalled"),)
LOOKUP_SECONDS = 0.5
_RETRY_SECONDS = 0.5
#: Results are large: so many are held at a time.
_AT_ONCE = 16


class _Question(NamedTuple):
    job_id: str
    name: str
    shard: int


class RecallDesk:
    """Answers for jobs, one dispatcher process a desk.

    Args:
        bus: started bus.
        store: started store; may be dead.
        topics: names and partition count.

    """

    def __init__(self, *, bus: Bus, store: Store, topics: Topics) -> None:
        self._bus, self._store, self._topics = bus, store, topics
        # What waits here is a live job of one of the process's shards: there are never more than those.
        self._questions: dict[str, _Question] = {}
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Begin to answer."""
        self._task = asyncio.create_task(self._answer_for_ever())
        self._task.add_done_callback(self._report)

    async def stop(self) -> None:
        """Stop where it is; what was asked and is not answered is asked again by whoever restores it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def ask(self, job_id: str, name: str, shard: int) -> None:
        """Have what the store holds under ``name`` published on a shard's outcomes; returns at once."""
        self._questions[job_id] = _Question(job_id, name, shard)
        self._asked.set()

    def _report(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) and not self.failure.done():
            self.failure.set_exception(error)

    async def _answer_for_ever(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            while self._questions:
                batch = [self._questions.pop(job_id) for job_id in list(self._questions)[:_AT_ONCE]]
                found = await self._find([one.name for one in batch])
                await self._publish([self._letter(one, found[one.name]) for one in batch])

    async def _find(self, names: Sequence[str]) -> Mapping[str, bytes | None]:
        wanted = list(dict.fromkeys(names))
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                return dict(zip(wanted, await self._store.get_many(wanted), strict=True))
        except (StoreError, TimeoutError) as error:
            _log.warning("store is silent, nothing is recalled", error=str(error) or "too slow")
            return dict.fromkeys(wanted)

    def _letter(self, question: _Question, found: bytes | None) -> Outgoing:
        value = encode("recalled", {"job_id": question.job_id, "found": found or b""})
        key = question.job_id.encode()
        return Outgoing(self._topics.name("outcomes"), question.shard, key, value, RECALLED_HEADERS)

    async def _publish(self, letters: Sequence[Outgoing]) -> None:
        """Publish until it is durable; a repetition does no harm."""
        while True:
            try:
                await self._bus.publish(letters)
            except BusError as error:
                _log.warning("what was recalled cannot be published", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return
