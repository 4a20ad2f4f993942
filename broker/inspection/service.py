"""The inspection desk: asked for circuits by id, answers with records on the shards' outcomes. Does I/O.

An effect of the dispatcher: asked after the commit, pure to repeat, and its answer is a durable record like
any other. A circuit is fetched and inspected once for all that ask meanwhile, and its facts go into the
store, where other dispatchers find them.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from shotbus.broker.bus.base import Bus, BusError, Outgoing
from shotbus.broker.children.process import ChildStartError
from shotbus.broker.circuits import CircuitSource
from shotbus.broker.inspection.facts import (
    FACTS_HEADERS,
    Inspected,
    encode_facts,
    facts_key,
    refused,
    usable_facts,
)
from shotbus.broker.inspection.inline import Inspecting
from shotbus.broker.store.base import Store, StoreError
from shotbus.broker.topics import CIRCUIT_SECONDS, Topics
from shotbus.schemas.codec import decode

_log = structlog.get_logger(__name__)
#: Circuits that may be asked for and not yet answered; whoever comes then asks again later.
QUEUE = 65_536
#: How long a circuit that nobody knows is waited for: a request may overtake its circuit.
PATIENCE_SECONDS = 4.0
#: How long the store keeps a refusal. It may be the host's fault, so it only holds off repetitions.
REFUSAL_SECONDS = 60.0
LOOKUP_SECONDS = 0.5
_RETRY_SECONDS = 0.5
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 1.0
_AT_ONCE = 64
_HELD_BYTES = 8 * 1_048_576


@dataclass(slots=True)
class DeskCounters:
    """What has happened since the start, the lookups of circuit texts included."""

    asked: int = 0
    turned_away: int = 0
    from_store: int = 0
    inspected: int = 0
    unknown: int = 0
    answered: int = 0
    host_failures: int = 0
    circuits_from_host: int = 0
    circuits_from_store: int = 0
    circuits_from_bus: int = 0
    circuits_missing: int = 0
    bus_errors: int = 0


@dataclass(slots=True)
class _Question:
    """Who asks for a circuit, since when it is looked for in vain, and how long to wait next."""

    shards: dict[int, None] = field(default_factory=dict)
    missing_since: float | None = None
    wait: float = _FIRST_WAIT


class InspectionDesk:
    """Answers for circuits, one dispatcher process a desk.

    Args:
        bus: started bus.
        store: started store; may be dead.
        topics: names and partition count.
        inspector: does the looking; closed by :meth:`stop`.
        patience: seconds until a circuit that nobody knows is answered with SB-1219.

    """

    def __init__(
        self,
        *,
        bus: Bus,
        store: Store,
        topics: Topics,
        inspector: Inspecting,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._bus, self._store, self._topics, self._inspector = bus, store, topics, inspector
        self._patience = patience
        self.counters = DeskCounters()
        self._source = CircuitSource(bus, store, topics, self.counters, held_bytes=_HELD_BYTES)
        self._questions: dict[str, _Question] = {}
        self._due: list[tuple[float, int, str]] = []
        self._number = 0
        self._asked, self._ready = asyncio.Event(), asyncio.Event()
        self._answers: list[Inspected] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Begin to answer."""
        self._tasks = [asyncio.create_task(self._look_for_ever()), asyncio.create_task(self._tell_for_ever())]
        for task in self._tasks:
            task.add_done_callback(self._report)

    async def stop(self) -> None:
        """Stop where it is; what was asked and is not answered is asked again by whoever restores it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._inspector.close()

    def ask(self, circuit_id: str, shard: int) -> bool:
        """Have the answer about a circuit published on a shard's outcomes; returns at once.

        Asking again before the answer changes nothing, after it repeats it. False when too many circuits
        are asked for: ask again later.
        """
        question = self._questions.get(circuit_id)
        if question is None:
            if len(self._questions) >= QUEUE:
                self.counters.turned_away += 1
                return False
            question = self._questions[circuit_id] = _Question()
            self.counters.asked += 1
            self._look_again(circuit_id, 0.0)
        question.shards[shard] = None
        return True

    def _report(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) and not self.failure.done():
            self.failure.set_exception(error)

    # Looking

    def _look_again(self, name: str, delay: float) -> None:
        self._number += 1
        heapq.heappush(self._due, (asyncio.get_running_loop().time() + delay, self._number, name))
        self._asked.set()

    async def _look_for_ever(self) -> None:
        while True:
            names = await self._next()
            known = await lookup(self._store, names)
            self.counters.from_store += len(known)
            for inspected in known.values():
                self._answer(inspected)
            await self._look([name for name in names if name not in known])

    async def _next(self) -> list[str]:
        """Wait until something is due; return the oldest of it."""
        loop = asyncio.get_running_loop()
        while not self._due or self._due[0][0] > loop.time():
            self._asked.clear()
            # Its end is what is waited for, as much as the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._due[0][0] if self._due else None):
                    await self._asked.wait()
        names: list[str] = []
        while self._due and self._due[0][0] <= loop.time() and len(names) < _AT_ONCE:
            names.append(heapq.heappop(self._due)[2])
        return names

    async def _look(self, names: Sequence[str]) -> None:
        if not names:
            return
        errors = self.counters.bus_errors
        records = await self._source.fetch(names)
        for name in names:
            record = records[name]
            if record is None:
                self._miss(name, away=self.counters.bus_errors > errors)
            else:
                await self._inspect(name, record)

    def _miss(self, name: str, *, away: bool) -> None:
        """Wait for a circuit, or give it up; a bus that is away says nothing about it."""
        question, now = self._questions[name], asyncio.get_running_loop().time()
        if away:
            question.missing_since = None
        elif question.missing_since is None:
            question.missing_since = now
        if question.missing_since is not None and now - question.missing_since >= self._patience:
            self.counters.unknown += 1
            self._answer(refused(name, "SB-1219"))
            return
        self._look_again(name, question.wait)
        question.wait = min(2 * question.wait, _LONGEST_WAIT)

    async def _inspect(self, name: str, record: bytes) -> None:
        text = decode(record, "circuit")[1]["text"].encode()
        try:
            inspected = await self._inspector.inspect(text)
        except ChildStartError as error:
            self.counters.host_failures += 1
            _log.warning("no inspection process can be started", error=str(error))
            self._look_again(name, _RETRY_SECONDS)
            return
        self.counters.inspected += 1
        self._answer(inspected)

    # Telling

    def _answer(self, inspected: Inspected) -> None:
        self._answers.append(inspected)
        self._ready.set()

    async def _tell_for_ever(self) -> None:
        while True:
            await self._ready.wait()
            self._ready.clear()
            answers, self._answers = self._answers, []
            records = {inspected.circuit_id: encode_facts(inspected) for inspected in answers}
            await self._publish(self._letters(records))
            await self._keep(answers, records)

    async def _keep(self, answers: Sequence[Inspected], records: Mapping[str, bytes]) -> None:
        facts = {facts_key(a.circuit_id): records[a.circuit_id] for a in answers if a.facts}
        refusals = {facts_key(a.circuit_id): records[a.circuit_id] for a in answers if _repeatable(a)}
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                if facts:
                    await self._store.put_many(facts, ttl=CIRCUIT_SECONDS)
                if refusals:
                    await self._store.put_many(refusals, ttl=REFUSAL_SECONDS)
        except (StoreError, TimeoutError) as error:
            _log.warning("facts cannot be put into the store", error=str(error) or "too slow")

    def _letters(self, records: Mapping[str, bytes]) -> list[Outgoing]:
        """Address the answers; from here on a question about the same circuit is a new one."""
        topic = self._topics.name("outcomes")
        return [
            Outgoing(topic, shard, name.encode(), record, FACTS_HEADERS)
            for name, record in records.items()
            for shard in self._questions.pop(name).shards
        ]

    async def _publish(self, letters: Sequence[Outgoing]) -> None:
        """Publish until it is durable; a repetition does no harm."""
        while True:
            try:
                await self._bus.publish(letters)
            except BusError as error:
                self.counters.bus_errors += 1
                _log.warning("facts cannot be published", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self.counters.answered += len(letters)
                return


async def lookup(store: Store, names: Iterable[str]) -> dict[str, Inspected]:
    """Return what the store knows of circuits, by id, in one call; nothing when it is dead or slow."""
    wanted = list(dict.fromkeys(names))
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            values = await store.get_many([facts_key(name) for name in wanted])
    except (StoreError, TimeoutError) as error:
        _log.warning("store is silent, circuits are inspected again", error=str(error) or "too slow")
        return {}
    pairs = zip(wanted, values, strict=True)
    found = ((name, usable_facts(raw, name)) for name, raw in pairs)
    return {name: inspected for name, inspected in found if inspected is not None}


def _repeatable(inspected: Inspected) -> bool:
    """Tell a refusal that holds for a while; that a circuit is unknown holds for no time at all."""
    return bool(inspected.problems) and inspected.problems[0].code != "SB-1219"
