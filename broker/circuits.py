"""Where a process finds circuit texts: its own memory, the store, the bus. Reads store and bus.

The store may be empty or dead; the topic ``circuits`` is the truth. What had to be read from the bus is
put back into the store. A text is used only if its hash is its id.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import structlog

from shotbus.broker.bus.base import Bus, BusError, Record, TopicPartition
from shotbus.broker.bus.scan import scan
from shotbus.broker.lru import Lru
from shotbus.broker.store.base import Store, StoreError
from shotbus.broker.topics import CIRCUIT_SECONDS, Topics
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import ShotbusError
from shotbus.schemas.ids import circuit_id, keyed_partition

_log = structlog.get_logger(__name__)
_HELD = 1024
_HELD_BYTES = 128 * 1_048_576
_SCAN_RECORDS = 500
# Of so many circuits that were not found it is known up to where they were looked for.
_SOUGHT = 4_096


class CircuitCounters(Protocol):
    """What a source counts, on an object of its owner's."""

    circuits_from_host: int
    circuits_from_store: int
    circuits_from_bus: int
    circuits_missing: int
    bus_errors: int


class CircuitSource:
    """Finds Circuit records by id."""

    def __init__(
        self,
        bus: Bus,
        store: Store,
        topics: Topics,
        counters: CircuitCounters,
        *,
        held_bytes: int = _HELD_BYTES,
    ) -> None:
        self._bus = bus
        self._store = store
        self._topics = topics
        self._counters = counters
        self._held: Lru[str, bytes] = Lru(_HELD, held_bytes)
        self._sought: Lru[str, int] = Lru(_SOUGHT)

    async def fetch(self, names: Sequence[str]) -> Mapping[str, bytes | None]:
        """Return the framed Circuit records of ``names``; None where none is known or the bus is down."""
        found: dict[str, bytes | None] = {name: self._held.get(name) for name in names}
        self._counters.circuits_from_host += len(names) - len(_missing(found))
        found.update(await self._from_store(_missing(found)))
        found.update(await self._from_bus(_missing(found)))
        for name, record in found.items():
            if record is not None:
                self._held.put(name, record, len(record))
        self._counters.circuits_missing += len(_missing(found))
        return found

    async def _from_store(self, names: Sequence[str]) -> dict[str, bytes]:
        if not names:
            return {}
        try:
            values = await self._store.get_many([_store_key(name) for name in names])
        except StoreError as error:
            _log.warning("store is silent, reading circuits from the bus", error=str(error))
            return {}
        good = {
            name: value
            for name, value in zip(names, values, strict=True)
            if value is not None and _is_authentic(name, value)
        }
        self._counters.circuits_from_store += len(good)
        return good

    async def _from_bus(self, names: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        by_partition: dict[TopicPartition, set[str]] = {}
        for name in names:
            number = keyed_partition(name, self._topics.partitions)
            by_partition.setdefault(TopicPartition(self._topics.name("circuits"), number), set()).add(name)
        for partition, wanted in by_partition.items():
            try:
                found.update(await self._scan(partition, wanted))
            except BusError as error:
                self._counters.bus_errors += 1
                _log.warning("circuits cannot be read from the bus", error=str(error))
        self._counters.circuits_from_bus += len(found)
        await self._put_back(found)
        return found

    async def _scan(self, partition: TopicPartition, wanted: set[str]) -> dict[str, bytes]:
        """Read one partition to the end that is seen now, or until all are found.

        Whoever asks again for what was not there reads on from where the last reading ended.
        """
        found: dict[str, bytes] = {}
        begin = (await self._bus.begins([partition]))[partition]
        end = (await self._bus.ends([partition]))[partition]
        start = max(begin, min(self._sought.get(name) or 0 for name in wanted))
        batches = scan(self._bus, {partition: start}, batch=_SCAN_RECORDS)
        async with contextlib.aclosing(batches):
            async for records in batches:
                found.update(_matching(records, wanted))
                if len(found) == len(wanted):
                    break
        for name in sorted(wanted - found.keys()):
            self._sought.put(name, end)
        return found

    async def _put_back(self, found: Mapping[str, bytes]) -> None:
        if not found:
            return
        items = {_store_key(name): record for name, record in found.items()}
        try:
            await self._store.put_many(items, ttl=CIRCUIT_SECONDS)
        except StoreError as error:
            _log.warning("circuits cannot be put into the store", error=str(error))


def _store_key(name: str) -> str:
    return f"circuit:{name}"


def _missing(found: Mapping[str, bytes | None]) -> list[str]:
    return [name for name, record in found.items() if record is None]


def _matching(records: Iterable[Record], wanted: set[str]) -> dict[str, bytes]:
    """Pick by key before decoding: a partition holds every circuit of the last month."""
    found = {}
    for record in records:
        name = (record.key or b"").decode("ascii", "replace")
        if name in wanted and record.value is not None and _is_authentic(name, record.value):
            found[name] = record.value
    return found


def _is_authentic(name: str, record: bytes) -> bool:
    try:
        circuit = decode(record, "circuit")[1]
    except ShotbusError:
        return False
    return bool(circuit["circuit_id"] == name == circuit_id(circuit["text"]))
