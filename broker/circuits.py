"""Where a process finds circuit texts: its own memory, the store, the bus. Reads store and bus.

The store may be empty or dead; the topic ``circuits`` is the truth. It is read onwards, each record once,
and from its begin only for a circuit that is older than what was read. What had to be looked for there is
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
from shotbus.schemas.ids import circuit_id, digest, keyed_partition

_log = structlog.get_logger(__name__)
_HELD = 1024
_HELD_BYTES = 128 * 1_048_576
_SCAN_RECORDS = 500
# What a reading passes on its way to something else, unchecked until somebody asks for it.
_PASSED = 65_536
_PASSED_BYTES = 16 * 1_048_576
# So many names are known to have been read; with more, a circuit that nobody sent costs a reading.
_NAMES = 250_000
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
        self._passed: Lru[str, bytes] = Lru(_PASSED, _PASSED_BYTES)
        self._sought: Lru[str, int] = Lru(_SOUGHT)
        self._names: set[int] | None = set()
        self._read_to: dict[TopicPartition, int] = {}

    async def fetch(self, names: Sequence[str]) -> Mapping[str, bytes | None]:
        """Return the framed Circuit records of ``names``; None where none is known or the bus is down."""
        found: dict[str, bytes | None] = {name: self._held.get(name) for name in names}
        self._counters.circuits_from_host += len(names) - len(_missing(found))
        found.update(self._from_passed(_missing(found)))
        found.update(await self._from_store(_missing(found)))
        found.update(await self._from_bus(_missing(found)))
        for name, record in found.items():
            if record is not None:
                self._held.put(name, record, len(record))
        self._counters.circuits_missing += len(_missing(found))
        return found

    def _from_passed(self, names: Sequence[str]) -> dict[str, bytes]:
        passed = {name: self._passed.get(name) for name in names}
        good = {name: raw for name, raw in passed.items() if raw is not None and _is_authentic(name, raw)}
        self._counters.circuits_from_bus += len(good)
        return good

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
                found.update(await self._seek(partition, wanted))
            except BusError as error:
                self._counters.bus_errors += 1
                _log.warning("circuits cannot be read from the bus", error=str(error))
        self._counters.circuits_from_bus += len(found)
        await self._put_back(found)
        return found

    async def _seek(self, partition: TopicPartition, wanted: set[str]) -> dict[str, bytes]:
        """Read on from where the last reading ended; what is not there is looked for in front of that."""
        begin = (await self._bus.begins([partition]))[partition]
        end = (await self._bus.ends([partition]))[partition]
        read_to = max(begin, self._read_to.get(partition, begin))
        found = await self._read(partition, read_to, wanted)
        missing = sorted(wanted - found.keys())
        behind = {name for name in missing if self._may_be_before(name, begin, read_to)}
        if behind:
            found.update(await self._read(partition, begin, behind))
        for name in missing:
            self._sought.put(name, end)
        return found

    def _may_be_before(self, name: str, begin: int, read_to: int) -> bool:
        """Tell whether a circuit that is not at hand can be in what was read already."""
        if self._names is not None and _short(name) not in self._names:
            return False
        return (self._sought.get(name) or begin) < read_to

    async def _read(self, partition: TopicPartition, start: int, wanted: set[str]) -> dict[str, bytes]:
        """Read from an offset to the end that is seen now, or until all are found."""
        found: dict[str, bytes] = {}
        batches = scan(self._bus, {partition: start}, batch=_SCAN_RECORDS)
        async with contextlib.aclosing(batches):
            async for records in batches:
                found.update(_matching(records, wanted))
                self._pass(partition, records)
                if len(found) == len(wanted):
                    break
        return found

    def _pass(self, partition: TopicPartition, records: Sequence[Record]) -> None:
        """Keep what is read on the way: it is newer than most, so somebody will ask for it."""
        for record in records:
            if record.key is not None and record.value is not None:
                name = record.key.decode("ascii", "replace")
                self._passed.put(name, record.value, len(record.value))
                self._note(name)
        if records:
            behind = records[-1].offset + 1
            self._read_to[partition] = max(behind, self._read_to.get(partition, 0))

    def _note(self, name: str) -> None:
        if self._names is not None:
            self._names.add(_short(name))
            if len(self._names) > _NAMES:
                self._names = None

    async def _put_back(self, found: Mapping[str, bytes]) -> None:
        if not found:
            return
        items = {_store_key(name): record for name, record in found.items()}
        try:
            await self._store.put_many(items, ttl=CIRCUIT_SECONDS)
        except StoreError as error:
            _log.warning("circuits cannot be put into the store", error=str(error))


def _short(name: str) -> int:
    return int.from_bytes(digest(name, size=8), "little")


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
