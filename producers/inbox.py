"""The client's inbox: tails ``results`` and ``reductions`` and wakes whoever waits. Reads the bus.

Records are matched by key before anything is decoded. The tail begins at the ends known when the
client connected, so an answer to anything submitted later cannot be missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from shotbus.broker.bus.base import Bus, BusError, Record, TopicPartition
from shotbus.broker.topics import Topics
from shotbus.schemas.errors import ShotbusError

_log = structlog.get_logger()
Listener = Callable[[Record], None]
_RETRY_SECONDS = 0.2
# Few at a time: who is woken submits again, and the broker works on the first while the next are woken.
# With everything at once client and broker took turns, which cost a third of the rate.
_AT_ONCE = 32


class Inbox:
    """Delivers records to listeners by key.

    Args:
        bus: started bus.
        topics: names and partitions.

    """

    def __init__(self, bus: Bus, topics: Topics) -> None:
        self._bus = bus
        self._partitions = [
            TopicPartition(topics.name(name), number)
            for name in ("results", "reductions")
            for number in range(topics.partitions)
        ]
        self._listeners: dict[bytes, list[Listener]] = {}
        self._by_sweep: dict[bytes, Listener] = {}
        self._task: asyncio.Task[None] | None = None
        self._positions: dict[TopicPartition, int] = {}

    async def start(self) -> None:
        """Note the ends and begin to listen."""
        self._positions = await self._bus.ends(self._partitions)
        self._task = asyncio.create_task(self._run(), name="inbox")

    async def close(self) -> None:
        """Stop listening."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def listen(self, key: str, listener: Listener) -> None:
        """Call ``listener`` with every record of a key (job id on results, sweep id on reductions)."""
        self._listeners.setdefault(key.encode(), []).append(listener)

    def listen_sweep(self, sweep_id: str, listener: Listener) -> None:
        """Call ``listener`` with every result whose ``sweep-id`` header matches."""
        self._by_sweep[sweep_id.encode()] = listener

    def forget(self, key: str, listener: Listener) -> None:
        """Stop calling a listener."""
        raw = key.encode()
        left = [one for one in self._listeners.get(raw, ()) if one is not listener]
        if left:
            self._listeners[raw] = left
        else:
            self._listeners.pop(raw, None)

    def forget_sweep(self, sweep_id: str) -> None:
        """Stop calling a sweep's listener."""
        self._by_sweep.pop(sweep_id.encode(), None)

    async def _run(self) -> None:
        while True:
            reader = self._bus.reader(self._positions)
            try:
                while True:
                    for record in await reader.poll(max_records=_AT_ONCE, timeout=1.0):
                        self._try(record)
                        place = TopicPartition(record.topic, record.partition)
                        self._positions[place] = record.offset + 1
            except BusError as error:
                _log.warning("inbox: bus away", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
            finally:
                await reader.close()

    def _try(self, record: Record) -> None:
        """One record that is none of ours must not deafen everybody who waits."""
        try:
            self._deliver(record)
        except ShotbusError as error:
            _log.warning("inbox: unreadable record", topic=record.topic, error=str(error))

    def _deliver(self, record: Record) -> None:
        for listener in tuple(self._listeners.get(record.key or b"", ())):
            listener(record)
        if self._by_sweep:
            sweep = next((value for name, value in record.headers if name == "sweep-id"), b"")
            by_sweep = self._by_sweep.get(sweep)
            if by_sweep:
                by_sweep(record)
