"""Read models against the topics they are made of: missing, stale, contradictory. Reads the store.

The topics are the truth. What the store has of a later record than was read here is ahead, and no difference.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from shotbus.broker.bus.base import Record
from shotbus.broker.store.base import Store
from shotbus.broker.store.ends import ENDING, end_key
from shotbus.broker.store.refused import PREFIX as REFUSALS
from shotbus.broker.topics import Topics
from shotbus.reducers.readmodels import ReadModels
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import ShotbusError
from shotbus.schemas.ids import digest

_BATCH = 500
#: The field by which versions of a document are ordered.
_TIMES = {
    "status_document": "updated_us",
    "sweep_reduction": "at_us",
    "circuit_result": "finished_us",
    "refusal": "refused_us",
}
#: Records of one key may stand on several partitions: which came last is not known here.
_ANY_ORDER = ("cache:", "circuit:", "history:", "result:", REFUSALS)


class Difference(NamedTuple):
    """A document that is not what the topics say."""

    kind: Literal["missing", "stale", "contradictory"]
    key: str
    seen: str


@dataclass(slots=True)
class _Expected:
    """What a key may hold: hashes, since bodies are large; several where their order is not known."""

    marks: list[bytes]
    at_us: int


class ReadModelCheck:
    """Feed it the records of the read models' topics, then compare."""

    def __init__(self, topics: Topics) -> None:
        self._models = ReadModels(topics)
        self._expected: dict[str, _Expected] = {}

    @property
    def documents(self) -> int:
        """How many documents there should be."""
        return len(self._expected)

    def take(self, records: Iterable[Record]) -> None:
        """Take records in the order of their partitions."""
        for record in records:  # one by one: of two results under a cache key both count
            writes = self._models.project([record])
            for key, document in writes.documents.items():
                self._expect(key, document)
            for key in writes.outdated:
                self._expected.pop(key, None)
            for key, document in writes.circuits.items():
                self._expect(key, document)

    def _expect(self, key: str, document: bytes) -> None:
        if end_key(key) in self._expected:
            return
        known, mark = self._expected.get(key), digest(document)
        if known is None:
            self._expected[key] = _Expected([mark], _time_of(document))
        elif key.startswith(_ANY_ORDER):
            known.marks.append(mark)
            known.at_us = max(known.at_us, _time_of(document))
        else:
            self._expected[key] = _Expected([mark], _time_of(document))

    async def compare(self, store: Store, only: Collection[str] | None = None) -> list[Difference]:
        """Return the differences, of ``only`` these keys where they are given. Raises StoreError."""
        keys = list(self._expected) if only is None else [key for key in only if key in self._expected]
        found: list[Difference] = []
        for start in range(0, len(keys), _BATCH):
            found += await self._compare(store, keys[start : start + _BATCH])
        return found

    async def _compare(self, store: Store, keys: Sequence[str]) -> list[Difference]:
        documents = await store.get_many(keys)
        changing = [key for key in keys if key.startswith(ENDING)]
        ends = await store.get_many([end_key(key) for key in changing]) if changing else []
        # What has ended meanwhile is ahead of what was read.
        ended = {key for key, end in zip(changing, ends, strict=True) if end is not None}
        pairs = [pair for pair in zip(keys, documents, strict=True) if pair[0] not in ended]
        return [one for key, document in pairs if (one := self._judge(key, document)) is not None]

    def _judge(self, key: str, document: bytes | None) -> Difference | None:
        expected = self._expected[key]
        if document is None:
            return Difference("missing", key, "not in the store")
        if digest(document) in expected.marks:
            return None
        try:
            at_us = _time_of(document)
        except ShotbusError as error:
            return Difference("contradictory", key, str(error))
        if at_us > expected.at_us and not key.startswith(end_key("status:")):
            return None
        if at_us < expected.at_us:
            return Difference("stale", key, f"{(expected.at_us - at_us) / 1e6:.3f} s behind the topics")
        return Difference("contradictory", key, "the topics hold another document")


def _time_of(document: bytes) -> int:
    name, fields = decode(document)
    time: int = fields[_TIMES[name]] if name in _TIMES else 0
    return time
