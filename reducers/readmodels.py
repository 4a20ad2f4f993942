"""Turns records of the topics into writes to the store: what the read models are. Pure but for a warning.

| key | value | from |
|---|---|---|
| ``status:<job id>``, ``end:…`` for its last one | a ``status_document`` | ``events`` |
| ``result:<job id>`` | the ``circuit_result`` record as it is | ``results`` |
| ``cache:<cache key>`` | the same, for results that may be served again | ``results`` |
| ``history:<history key>`` | the newest of a piece of work, also with where and how it ran | ``results`` |
| ``refusal:<job id>:<tenant>`` | the ``refusal`` record as it is, the last one | ``results`` |
| ``late:<job id>`` | what came after the answer, with ``deviation`` from that | ``results`` |
| ``reduction:<sweep id>``, ``end:…`` | the latest ``sweep_reduction`` record as it is | ``reductions`` |
| ``circuit:<circuit id>`` | the ``circuit`` record as it is | ``circuits`` |
| indexes ``jobs``, ``jobs:<tenant>``, ``sweeps`` | ids by time of the last change, microseconds | |

A job's events stand on one partition, in order, and they alone write its status: two writers (events
here, results on another partition, perhaps in another process) could set it back from its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from shotbus.broker.bus.base import Record
from shotbus.broker.store.ends import end_key
from shotbus.broker.store.refused import refusal_key
from shotbus.broker.topics import Topics
from shotbus.reducers.skim import FRAME_BYTES, Encoded, encode_text, items, number, shape, skim, text
from shotbus.schemas.codec import decode, encode, identify
from shotbus.schemas.errors import ShotbusError
from shotbus.schemas.ids import is_job_id
from shotbus.schemas.outcomes import OUTCOMES, REFUSED
from shotbus.schemas.registry import SchemaKey

_log = structlog.get_logger()

#: The topics that read models are made of.
SOURCES: tuple[str, ...] = ("events", "results", "reductions", "circuits")
#: The group of those who make them; where it is, is how far they are made.
PROJECTOR = "projector"

_TERMINAL = {"DONE": "succeeded", "ERROR": "failed", "CANCELLED": "cancelled"}
_DEFAULT_OUTCOMES = {encode_text(state): encode_text(outcome) for state, outcome in _TERMINAL.items()}
_OUTCOMES = frozenset(map(encode_text, OUTCOMES))
_EMPTY = encode_text("")
_REFUSED = encode_text(REFUSED)
_SUCCEEDED = b"\x00"  # the first symbol of the enum TerminalOutcome
#: Version of a result from which on it may be late.
_LATE_SINCE = 2
#: How the detail of a companion's event begins, after its length.
_COMPANION = b'{"companion_of":'
_COMPANION_LENGTH = len(_COMPANION) + 5
_STATUS_FRAME = encode(
    "status_document",
    {
        **dict.fromkeys(("job_id", "tenant", "status", "sub_status", "outcome", "pool", "cause"), ""),
        "sweep_id": "",
        "attempt": 0,
        "updated_us": 0,
    },
)[:FRAME_BYTES]


@dataclass(slots=True)
class Writes:
    """What a batch of records changes; of several writes to a key the last one counts.

    ``outdated`` are keys that nobody looks at any more, since their documents have ended, and whether for
    good. ``late`` are results that came after their jobs' answers, by job id.
    """

    documents: dict[str, bytes] = field(default_factory=dict)
    circuits: dict[str, bytes] = field(default_factory=dict)
    late: dict[str, bytes] = field(default_factory=dict)
    outdated: dict[str, bool] = field(default_factory=dict)
    indexes: dict[str, dict[str, float]] = field(default_factory=dict)

    def put(self, key: str, value: bytes, *, settled: bool, binding: bool = True) -> None:
        """Write a document that changes until it is settled; its end has a key of its own.

        What an end that is not ``binding`` has ended may begin anew.
        """
        if settled:
            self.documents.pop(key, None)
            self.documents[end_key(key)] = value
            self.outdated[key] = binding
        elif not self.outdated.get(key):
            self.outdated.pop(key, None)
            self.documents[key] = value

    def rank(self, index: str, member: str, at_us: float) -> None:
        """Put a member into an index."""
        self.indexes.setdefault(index, {})[member] = at_us


class Filed(NamedTuple):
    """What a result says of where it is filed."""

    job_id: str
    cache_key: str
    history_key: str
    late: bool
    succeeded: bool


class ReadModels:
    """Knows which record makes which document."""

    def __init__(self, topics: Topics) -> None:
        self._makers: Mapping[str, Callable[[Record, Writes], None]] = {
            topics.name("events"): self._events,
            topics.name("results"): self._result,
            topics.name("reductions"): self._reduction,
            topics.name("circuits"): self._circuit,
        }
        #: Records by fate: ``read``, and ``unreadable`` for those that were passed over.
        self.stats: Counter[str] = Counter()

    def project(self, records: Iterable[Record]) -> Writes:
        """Return the writes of ``records``, which are in the order of their partitions."""
        writes = Writes()
        for record in records:
            if record.value is None:
                continue  # a tombstone: documents leave the store by their own expiry
            try:
                self._makers[record.topic](record, writes)
                self.stats["read"] += 1
            except (ShotbusError, UnicodeDecodeError) as error:
                self.stats["unreadable"] += 1
                _log.warning("unreadable record", topic=record.topic, offset=record.offset, error=str(error))
        return writes

    def _events(self, record: Record, writes: Writes) -> None:
        head, events, form = items(record.value or b"", "at_us", "events")
        at = form.places
        last: dict[bytes, Encoded] = {}
        for event in events:
            if event[at["job_id"]] == _EMPTY:
                continue  # it is about a pool, or a submission that was refused at the door
            if "detail" in at and _COMPANION in event[at["detail"]][:_COMPANION_LENGTH]:
                continue  # it runs beside a job, and is nobody's own
            known = last.get(event[at["job_id"]])
            if known is None or not _binds(known, at):
                last[event[at["job_id"]]] = event
        updated = head[-1]
        score = float(number(updated, 0)[0])
        for event in last.values():
            _status(event, at, updated, score, writes)

    def _result(self, record: Record, writes: Writes) -> None:
        value = record.value or b""
        key = identify(value)
        if key.name == "refusal":
            _refusal(value, writes)
        if key.name != "circuit_result":
            return
        try:
            filed = _skimmed(value, key)
        except ShotbusError:  # a result with problems has to be decoded
            decoded = decode(value, "circuit_result")[1]
            names = ("job_id", "cache_key", "history_key", "late")
            told = {name: decoded[name] for name in names}
            filed = Filed(**told, succeeded=decoded["outcome"] == "succeeded")
        if filed.late:
            writes.late[filed.job_id] = value
            return
        writes.documents[f"result:{filed.job_id}"] = value
        if filed.succeeded and filed.cache_key:
            writes.documents[f"cache:{filed.cache_key}"] = value
        if filed.history_key:
            writes.documents |= dict.fromkeys(history_names(filed.history_key), value)

    def _reduction(self, record: Record, writes: Writes) -> None:
        value = record.value or b""
        key = identify(value)
        form = shape(key, "final")
        fields, _ = skim(value, FRAME_BYTES, form.kinds)
        sweep_id = text(fields[form.places["sweep_id"]])
        writes.put(f"reduction:{sweep_id}", value, settled=fields[form.places["final"]] == b"\x01")
        writes.rank("sweeps", sweep_id, record.timestamp_ms * 1000.0)

    def _circuit(self, record: Record, writes: Writes) -> None:
        value = record.value or b""
        fields, _ = skim(value, FRAME_BYTES, shape(identify(value), "circuit_id").kinds)
        writes.circuits[f"circuit:{text(fields[0])}"] = value


def _skimmed(value: bytes, key: SchemaKey) -> Filed:
    """Read what a result without problems says; versions before 2 know of no history and are never late."""
    form = shape(key, "cache_key" if key.version < _LATE_SINCE else "late")
    fields, _ = skim(value, FRAME_BYTES, form.kinds)
    job_id, cache_key = text(fields[form.places["job_id"]]), text(fields[form.places["cache_key"]])
    succeeded = fields[form.places["outcome"]] == _SUCCEEDED
    if key.version < _LATE_SINCE:
        return Filed(job_id, cache_key, "", late=False, succeeded=succeeded)
    history_key, late = text(fields[form.places["history_key"]]), fields[form.places["late"]] == b"\x01"
    return Filed(job_id, cache_key, history_key, late=late, succeeded=succeeded)


def history_names(history_key: str) -> tuple[str, ...]:
    """Return under which names a result is part of the history of its work: anywhere, and in its place."""
    work, slash, _ = history_key.partition("/")
    return (f"history:{work}", f"history:{history_key}") if slash else (f"history:{work}",)


def _refusal(value: bytes, writes: Writes) -> None:
    fields = decode(value, "refusal")[1]
    if is_job_id(fields["job_id"]):  # else nobody can ask for it
        writes.documents[refusal_key(fields["job_id"], fields["tenant"])] = value


def _binds(event: Encoded, at: Mapping[str, int]) -> bool:
    """Tell whether an event is its job's end for good: after a refusal the same id may come again."""
    return event[at["state"]] in _DEFAULT_OUTCOMES and event[at["sub_status"]] != _REFUSED


def _status(event: Encoded, at: Mapping[str, int], updated: bytes, score: float, writes: Writes) -> None:
    """Write the status after an event, whose fields are copied as they are encoded."""
    job_id, tenant = text(event[at["job_id"]]), text(event[at["tenant"]])
    state, cause = event[at["state"]], event[at["cause"]]
    terminal, binding = state in _DEFAULT_OUTCOMES, _binds(event, at)
    # The event that ends a job names its outcome as the cause; what was refused was no job and has none.
    outcome = (cause if cause in _OUTCOMES else _DEFAULT_OUTCOMES[state]) if binding else _EMPTY
    ends = [event[at["job_id"]], event[at["tenant"]], state, event[at["sub_status"]], outcome]
    rest = [event[at["pool"]], event[at["attempt"]], cause, event[at["sweep_id"]], updated]
    writes.put(f"status:{job_id}", b"".join([_STATUS_FRAME, *ends, *rest]), settled=terminal, binding=binding)
    writes.rank("jobs", job_id, score)
    writes.rank(f"jobs:{tenant}", job_id, score)
