"""Waiting jobs as packed rows: everything a :class:`Job` holds, bit for bit, in under 200 bytes. Pure.

What the row has is data: a new attribute of a job is one line in one of the tables below. A value that does
not fit its column (a time beyond its bits, a foreign trace header) goes into a *tail* beside the row instead,
which costs more and loses nothing. Values that many jobs have in common are held once and counted.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter, itemgetter
from sys import intern
from typing import Any, Final, NamedTuple

from shotbus.broker.dispatcher.job import PATIENCE_MS, Job, Reference
from shotbus.broker.dispatcher.slab import BLOCK, Rare, Shared, SharedBytes, Slab
from shotbus.broker.dispatcher.states import Phase


class Number(NamedTuple):
    """A column of its own: attribute of the job, :mod:`struct` code, name in the ledger row."""

    attribute: str
    code: str
    field: str


_PLAIN = {
    **dict.fromkeys(("submitted_us", "deadline_ms", "not_before_ms", "accepted_us"), "q"),
    **dict.fromkeys(("admit_us", "queued_us", "queue_us", "predicted_us"), "q"),
    "cost": "d",
    "shard_index": "i",
    **dict.fromkeys(("points", "shots", "prepare_us", "think_us", "seed", "bytes_in", "traits"), "I"),
    "work": "H",
    **dict.fromkeys(("attempt", "failures", "deaths"), "B"),
}
NUMBERS: Final = (
    Number("reference.offset", "q", "request_offset"),
    *(Number(name, code, name) for name, code in _PLAIN.items()),
)
#: What jobs of one run have in common: one number for all of them together.
COMMON: Final = ("tenant", "priority", "pool", "intent", "family", "rule", "chain")
#: What is shared by fewer: a number each.
TEXTS: Final = ("sweep_id", "session_id", "experiment")
#: What hardly any waiting job has, with the value that means so; kept in the tail. ``key`` is not kept.
SELDOM: Final[Mapping[str, Any]] = {"bundle_id": "", "extras": None}
#: Every attribute that survives packing.
PACKED: Final = frozenset(
    {"job_id", "payload_hash", "reference", "phase", "persisted", "traceparent", "cache_key", "circuit_id"}
    | _PLAIN.keys()
    | set(COMMON)
    | set(TEXTS)
    | SELDOM.keys()
)

_REFERENCES = 4 + len(TEXTS)
_CIRCUIT, _TRACE_AT, _CACHE_KEY = range(_REFERENCES - 3, _REFERENCES)
_SWEEP, _SESSION, _EXPERIMENT = (1 + TEXTS.index(name) for name in ("sweep_id", "session_id", "experiment"))
_ROW = struct.Struct(f"<{_REFERENCES}I16s16sBB" + "".join(number.code for number in NUMBERS))
_HEAD = struct.Struct(f"<{_REFERENCES}I")
_NO_HEAD = bytes(_HEAD.size)
_NO_ROW = bytes(4)
_ID_AT = _HEAD.size
_PHASES: tuple[Phase | None, ...] = (None, *Phase)
_PHASE_OF = {phase.value: phase for phase in Phase}
_PHASE_NUMBERS = {phase: number for number, phase in enumerate(_PHASES)}
_TRACE = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_numbers_of = attrgetter(*(number.attribute for number in NUMBERS))
_common_of = attrgetter(*COMMON)
_texts_of = attrgetter(*TEXTS)
_seldom_of = attrgetter(*SELDOM)
_plain_fields = itemgetter(*(number.field for number in NUMBERS))
_common_fields = itemgetter(*COMMON[:-1])
_text_fields = itemgetter(*TEXTS)
_NO_TAIL: Mapping[str, Any] = {}
_NO_SELDOM = tuple(SELDOM.values())
_NUMBERS_AT = _REFERENCES + 4
_COMMON_LENGTH = len(COMMON)


class _Parts(NamedTuple):
    """A job taken apart, as one row needs it."""

    raw_id: bytes
    payload_hash: bytes
    phase: Phase | None
    persisted: bool
    numbers: tuple[Any, ...]
    common: tuple[Any, ...]
    texts: Sequence[str]
    circuit_id: str
    traceparent: str
    cache_key: str
    seldom: tuple[Any, ...]


class Glance(NamedTuple):
    """What queue, timers and displays need of a waiting job."""

    key: int
    job_id: str
    tenant: str
    priority: str
    pool: str
    sweep_id: str
    session_id: str
    experiment: str
    phase: Phase | None
    cost: float
    points: int
    work: int
    deadline_ms: int
    not_before_ms: int
    accepted_us: int
    reference: Reference

    @property
    def due_ms(self) -> int:
        """When it is due, as :attr:`Job.due_ms` says."""
        patient = self.accepted_us // 1000 + PATIENCE_MS
        return min(self.deadline_ms, patient) if self.deadline_ms else patient

    @property
    def order(self) -> int:
        """Order of admission, as :attr:`Job.order` says."""
        return (self.accepted_us << 20) + (self.reference.offset & 0xFFFFF)


_glance_of = attrgetter(*Glance._fields[1:])


def glance_of(key: int, job: Job) -> Glance:
    """Return the same of a job that is an object."""
    return Glance(key, *_glance_of(job))


def raw_id(job_id: str) -> bytes:
    """Return the 16 bytes of a job id, which admission has checked. Raises ValueError for anything else."""
    return _unhexed(job_id, 16)


def _unhexed(text: str, size: int) -> bytes:
    raw = bytes.fromhex(text)
    if len(raw) != size or raw.hex() != text:
        raise ValueError(f"not {2 * size} lower-case hex digits")
    return raw


class PackedJobs:
    """Rows of waiting jobs by key; a key is a slot, taken before its row is written."""

    def __init__(self) -> None:
        self._slab = Slab(_ROW.size)
        self._shared = Shared()
        self._circuits = SharedBytes(32)
        self._traces, self._cache_keys = Rare(25), Rare(16)
        #: By key what has no column; where that is only extras, their JSON, which jobs of a kind share.
        self._tails: dict[int, dict[str, Any] | str] = {}

    def __len__(self) -> int:
        return len(self._slab)

    def __iter__(self) -> Iterator[int]:
        """Yield the keys that have a row, those first that were taken first as long as none was freed."""
        size = _ROW.size
        for key, block in self._slab.blocks():
            for row in range(BLOCK):
                if block[row * size : row * size + 4] != _NO_ROW:
                    yield key + row

    @property
    def blocks(self) -> int:
        """How many blocks of keys there are."""
        return self._slab.top

    def in_block(self, number: int) -> list[int]:
        """Return the keys of a block that have a row."""
        if not self._slab.has_block(number):
            return []
        size, (block, _) = _ROW.size, self._slab.place(number * BLOCK)
        rows = range(0, BLOCK * size, size)
        return [number * BLOCK + at // size for at in rows if block[at : at + 4] != _NO_ROW]

    def take(self) -> int:
        """Return a key for a job; it has no row yet."""
        return self._slab.take()

    def give(self, key: int) -> None:
        """Free a key and what its row refers to."""
        if self.is_written(key):
            block, start = self._slab.place(key)
            self._release(_HEAD.unpack_from(block, start))
            # Whoever takes the slot next has no row yet.
            block[start : start + _HEAD.size] = _NO_HEAD
            self._tails.pop(key, None)
        self._slab.give(key)

    def is_written(self, key: int) -> bool:
        """Tell whether a key has a row; a row always has something in common with others."""
        block, start = self._slab.place(key)
        return block[start : start + 4] != _NO_ROW

    def is_of(self, key: int, raw: bytes) -> bool:
        """Tell whether a row is that of a job, whose id is given raw."""
        block, start = self._slab.place(key)
        return block.startswith(raw, start + _ID_AT)

    def write(self, key: int, job: Job) -> None:
        """Pack a job. Raises ValueError for an id that admission would not have let in."""
        reference = job.reference
        common = (*_common_of(job), reference.topic, reference.partition)
        parts = _Parts(
            raw_id(job.job_id),
            job.payload_hash,
            job.phase,
            job.persisted,
            _numbers_of(job),
            common,
            _texts_of(job),
            job.circuit_id,
            job.traceparent,
            job.cache_key,
            _seldom_of(job),
        )
        self._put(key, parts)

    def write_row(self, key: int, raw: bytes, fields: Mapping[str, Any]) -> None:
        """Pack a decoded ledger row, whose id is given raw, without making a job of it."""
        extras = json.loads(fields["extras"]) if fields["extras"] else None
        place = (fields["request_topic"], fields["request_partition"])
        parts = _Parts(
            raw,
            fields["payload_hash"],
            _PHASE_OF[fields["state"]],
            True,
            _plain_fields(fields),
            (*_common_fields(fields), tuple(fields["chain"]), *place),
            _text_fields(fields),
            fields["circuit_id"],
            fields["traceparent"],
            fields["cache_key"],
            (fields["bundle_id"], extras),
        )
        self._put(key, parts)

    def _put(self, key: int, parts: _Parts) -> None:
        tail: dict[str, Any] = {}
        numbers, payload = parts.numbers, parts.payload_hash
        if parts.seldom != _NO_SELDOM:
            tail.update(zip(SELDOM, parts.seldom, strict=True))
        if len(payload) != 16:
            tail["payload_hash"], payload = payload, b""
        take = self._shared.take
        references = [
            take(parts.common),
            *map(take, parts.texts),
            self._circuits.take(_packed_hex("circuit_id", parts.circuit_id, 32, tail)),
            self._traces.take(_packed_trace(parts.traceparent, tail)),
            self._cache_keys.take(_packed_hex("cache_key", parts.cache_key, 16, tail)),
        ]
        fixed = (parts.raw_id, payload, _PHASE_NUMBERS[parts.phase], parts.persisted)
        block, start = self._slab.place(key)
        former = _HEAD.unpack_from(block, start) if block[start : start + 4] != _NO_ROW else ()
        try:
            _ROW.pack_into(block, start, *references, *fixed, *numbers)
        except struct.error:
            _ROW.pack_into(block, start, *references, *fixed, *_fitting(numbers, tail))
        if former:
            self._release(former)
        if tail:
            self._tails[key] = _shortened(tail)
        elif former:
            self._tails.pop(key, None)

    def _release(self, references: tuple[int, ...]) -> None:
        for number in references[:_CIRCUIT]:
            self._shared.give(number)
        self._circuits.give(references[_CIRCUIT])
        self._traces.give(references[_TRACE_AT])
        self._cache_keys.give(references[_CACHE_KEY])

    def read(self, key: int) -> Job:
        """Return the job of a row as a new object."""
        values = _ROW.unpack_from(*self._slab.place(key))
        shared = self._shared.value
        job: Job = Job.__new__(Job)
        common: Any = shared(values[0])
        for name, value in zip(COMMON, common, strict=False):
            setattr(job, name, value)
        for name, number in zip(TEXTS, values[1:], strict=False):
            setattr(job, name, shared(number) or "")
        for name, value in zip(_PLAIN, values[_NUMBERS_AT + 1 :], strict=True):
            setattr(job, name, value)
        raw, job.payload_hash, phase, persisted = values[_REFERENCES:_NUMBERS_AT]
        job.job_id, job.phase, job.persisted = raw.hex(), _PHASES[phase], bool(persisted)
        job.circuit_id = self._circuits.value(values[_CIRCUIT]).hex()
        job.traceparent = _text_of_trace(self._traces.value(values[_TRACE_AT]))
        job.cache_key = self._cache_keys.value(values[_CACHE_KEY]).hex()
        job.bundle_id, job.extras, job.key = "", None, key
        offset = values[_NUMBERS_AT]
        for name, value in self._tail(key).items():
            if name == "reference.offset":
                offset = value
            else:
                setattr(job, name, value)
        job.reference = Reference(common[_COMMON_LENGTH], common[_COMMON_LENGTH + 1], offset)
        return job

    def _tail(self, key: int) -> Mapping[str, Any]:
        tail = self._tails.get(key)
        return {"extras": json.loads(tail)} if isinstance(tail, str) else tail or _NO_TAIL

    def glance(self, key: int) -> Glance:
        """Return what the queues need of a row, at a third of the cost of the job."""
        if isinstance(self._tails.get(key), dict):
            return glance_of(key, self.read(key))
        values = _ROW.unpack_from(*self._slab.place(key))
        shared = self._shared.value
        common: Any = shared(values[0])
        numbers = values[_NUMBERS_AT:]
        sweep, session = shared(values[_SWEEP]) or "", shared(values[_SESSION]) or ""
        experiment = shared(values[_EXPERIMENT]) or ""
        tenant, priority, pool = common[:3]
        return Glance(
            key,
            values[_REFERENCES].hex(),
            tenant,
            priority,
            pool,
            str(sweep),
            str(session),
            str(experiment),
            _PHASES[values[_REFERENCES + 2]],
            numbers[_COST],
            numbers[_POINTS],
            numbers[_WORK],
            numbers[_DEADLINE],
            numbers[_NOT_BEFORE],
            numbers[_ACCEPTED],
            Reference(common[_COMMON_LENGTH], common[_COMMON_LENGTH + 1], numbers[0]),
        )

    def cache_key(self, key: int) -> str:
        """Return the cache key in a row, empty for none."""
        if isinstance(self._tails.get(key), dict):
            return self.read(key).cache_key
        block, start = self._slab.place(key)
        return self._cache_keys.value(_HEAD.unpack_from(block, start)[_CACHE_KEY]).hex()

    def has_tail(self, key: int) -> bool:
        """Tell whether a row has values beside it that hardly any has."""
        return key in self._tails

    def text(self, key: int, name: str) -> str:
        """Return one of :data:`TEXTS` or :data:`COMMON` of a row, or its circuit's id."""
        references = _HEAD.unpack_from(*self._slab.place(key))
        found: Any
        if name in TEXTS:
            found = self._shared.value(references[1 + TEXTS.index(name)])
        elif name == "circuit_id":
            raw = self._circuits.value(references[_CIRCUIT])
            found = raw.hex() if raw else self._tail(key).get(name)
        else:
            common: Any = self._shared.value(references[0])
            found = common[COMMON.index(name)]
        return found or ""


_COST, _POINTS, _WORK, _DEADLINE, _NOT_BEFORE, _ACCEPTED = (
    1 + list(_PLAIN).index(name)
    for name in ("cost", "points", "work", "deadline_ms", "not_before_ms", "accepted_us")
)


def _shortened(tail: dict[str, Any]) -> dict[str, Any] | str:
    """Return a tail of extras alone as JSON, the same object for all that say the same."""
    if tail.get("extras") is None or any(tail[name] != SELDOM.get(name) for name in tail if name != "extras"):
        return tail
    return intern(json.dumps(tail["extras"], separators=(",", ":")))


def _packed_trace(text: str, tail: dict[str, Any]) -> bytes:
    if not text:
        return b""
    if _TRACE.fullmatch(text):
        return bytes.fromhex(text[3:35] + text[36:52] + text[53:])
    tail["traceparent"] = text
    return b""


def _text_of_trace(raw: bytes) -> str:
    return f"00-{raw[:16].hex()}-{raw[16:24].hex()}-{raw[24:].hex()}" if raw else ""


def _packed_hex(attribute: str, text: str, size: int, tail: dict[str, Any]) -> bytes:
    if not text:
        return b""
    try:
        return _unhexed(text, size)
    except ValueError:
        tail[attribute] = text
        return b""


def _fitting(numbers: tuple[Any, ...], tail: dict[str, Any]) -> list[Any]:
    """Return the numbers with a zero for each that its column cannot hold; that one goes into the tail."""
    fitting = []
    for value, (attribute, code, _) in zip(numbers, NUMBERS, strict=True):
        try:
            struct.pack(f"<{code}", value)
        except struct.error:
            tail[attribute] = value
            fitting.append(0)
        else:
            fitting.append(value)
    return fitting
