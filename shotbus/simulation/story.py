"""A simulation's story: what was done when and by whom, and the lives of ids that came to harm. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from shotbus.broker.bus.base import Record
from shotbus.broker.dispatcher.rows import row_fields
from shotbus.broker.invariants import History, ProviderLedger
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import ShotbusError
from shotbus.simulation.loop import EPOCH_MS

_LAST = 25


class Story:
    """Lines in the order of their happening."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def tell(self, at: float, who: str, what: str) -> None:
        """Add a line."""
        self.lines.append(line(at, who, what))


def line(at: float, who: str, what: str) -> str:
    """Return one line; ``at`` in simulated seconds."""
    return f"{at:9.3f} s  {who}: {what}"


def life_of(
    name: str, records: Iterable[Record], history: History, ledger: ProviderLedger, *, last: int = _LAST
) -> list[str]:
    """Return the last lines of what clients, topics and provider know of a job or a sweep."""
    found: list[tuple[float, str, str]] = []
    for operation in history.operations:
        if operation.about == name:
            what = f"{operation.kind} by {operation.tenant}, {operation.status} at {operation.ended_at:.3f} s"
            found.append((operation.invoked_at, "client", what))
    for one in ledger.submissions:
        if one.job_id == name:
            what = f"attempt {one.attempt} accepted under {one.token}, {'billed' if one.billed else 'known'}"
            found.append((one.at, "provider", what))
    for record in records:
        at = (record.timestamp_ms - EPOCH_MS) / 1000
        place = f"{record.topic}[{record.partition}]@{record.offset}"
        found += [(at, place, what) for what in _about(name, record)]
    found.sort(key=lambda one: one[0])
    return [line(*one) for one in found[-last:]]


def _about(name: str, record: Record) -> Iterator[str]:
    if record.value is None or name.encode() not in record.value:
        return
    try:
        kind, fields = decode(record.value)
        if kind == "packed_job":
            kind, fields = "job_row", row_fields(record.value)
    except ShotbusError:
        return
    if kind == "event_batch":
        for event in fields["events"]:
            if name in (event["job_id"], event["sweep_id"]):
                words = f"{event['state']}/{event['sub_status']} by {event['cause']}"
                yield f"{words}, attempt {event['attempt']} on {event['pool']}"
    elif kind in ("work_bundle", "outcome"):
        for item in fields["items"]:
            if item["job_id"] == name:
                yield f"{kind} {fields['bundle_id'][:8]} {_words(kind, fields, item)}"
    else:
        yield f"{kind} {_rest(kind, fields)}"


def _words(kind: str, fields: dict[str, Any], item: dict[str, Any]) -> str:
    if kind == "work_bundle":
        return f"attempt {item['attempt']}"
    lease = f"of {fields['worker']}, lease {fields['lease_id'][:8]}"
    return f"{fields['kind']} attempt {item['attempt']} {item['error_class'] or 'succeeded'} {lease}"


def _rest(kind: str, fields: dict[str, Any]) -> str:
    names = {
        "circuit_request": ("tenant", "priority", "backend"),
        "circuit_result": ("outcome", "attempt", "pool"),
        "job_row": ("state", "attempt", "worker", "not_before_ms", "deadline_ms"),
        "control": ("command", "tenant"),
        "refusal": ("problems",),
        "located": ("status", "outcome"),
        "sweep_reduction": ("final", "done", "shards", "shots"),
    }
    return ", ".join(f"{name} {fields[name]}" for name in names.get(kind, ()))
