"""Leases and windows: what workers report against what became the result, I3 and I9. Pure.

The first word about a bundle in its partition is its lease; what any other lease says of it is fenced.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from shotbus.broker.bus.base import Record
from shotbus.broker.dispatcher.attempted import ATTEMPTS
from shotbus.broker.dispatcher.ladders import UNSURE_WHEN_PAID
from shotbus.broker.invariants.findings import Findings, Look
from shotbus.broker.invariants.lives import Answer, Life
from shotbus.schemas.codec import decode

#: What these kinds of worker grant is not bounded by their slots: they may answer inline.
_ATTEMPTS = f'"{ATTEMPTS}":'.encode()
_PERHAPS_INLINE = frozenset({"none", "classical", ""})


class _Told(NamedTuple):
    """A success as its lease's holder reported it."""

    shots: int
    payload: bytes
    provenance: bytes


@dataclass(slots=True)
class _Span:
    """From a lease's first word to its report, or else its last word, by the records' times, ms.

    ``said_us`` is when its worker said the last word: one that comes again is not a later one.
    """

    began: int
    ended: int
    said_us: int
    finished: bool = False


@dataclass(slots=True)
class _Worker:
    slots: int = 0
    spans: dict[str, _Span] = field(default_factory=dict)
    last_ms: int = 0
    steady: bool = True


class Attempts:
    """Follows leases and advertisements; ``whole``: every outcome since the beginning is fed."""

    def __init__(self, findings: Findings, *, whole: bool) -> None:
        self._findings, self._whole = findings, whole
        self._leases: dict[str, str] = {}
        self._told: dict[tuple[str, int], list[_Told]] = {}
        self._workers: dict[str, _Worker] = {}
        self._reported = False
        #: Attempts by job and pool whose submission the provider accepted and ended, for certain.
        self._over: dict[tuple[str, str], set[int]] = {}
        #: By job the last attempt that anything was reported of.
        self._latest: dict[str, int] = {}

    @property
    def takes(self) -> Mapping[str, Callable[[Record], None]]:
        """Outcomes and advertisements."""
        return {"outcomes": self._outcome, "pools": self._status}

    def _outcome(self, record: Record) -> None:
        name, fields = decode(record.value)
        if name != "outcome":
            return  # what inspections found out travels here too
        self._reported = True
        lease = fields["lease_id"]
        holds = self._leases.setdefault(fields["bundle_id"], lease) == lease
        self._use(fields, record.timestamp_ms)
        if not holds or fields["kind"] != "finished":
            return
        for item in fields["items"]:
            if not item["error_class"]:
                told = _Told(item["shots"], item["payload"], fields["provenance"])
                self._told.setdefault((item["job_id"], item["attempt"]), []).append(told)
            self._note_end(fields["pool"], item)

    def _note_end(self, pool: str, item: Mapping[str, Any]) -> None:
        """Note a submission that is over; what comes behind a later attempt's word was given up before."""
        job_id, attempt = item["job_id"], item["attempt"]
        if attempt < self._latest.get(job_id, 0):
            return
        self._latest[job_id] = attempt
        if item["found"] in ("", "done") and _is_over(item):
            self._over.setdefault((job_id, pool), set()).add(attempt)

    def most_bills(self, job_id: str, pools: Iterable[str], life: Life | None) -> int | None:
        """Return how many submissions of a job to these pools may be billed.

        Those that ended for certain, and the last one, of which no report need ever have come. None when
        that is not known, because reports are missing.
        """
        if not self._whole:
            return None
        done = {attempt for pool in pools for attempt in self._over.get((job_id, pool), ())}
        answered = any(answer.ran and answer.attempt in done for answer in (life.answers if life else ()))
        return len(done) + (not answered)

    def _use(self, fields: Mapping[str, Any], at_ms: int) -> None:
        lease, said_us = fields["lease_id"], fields["at_us"]
        worker = self._workers.setdefault(fields["worker"], _Worker())
        worker.steady = worker.steady and at_ms >= worker.last_ms - 1
        worker.last_ms = max(at_ms, worker.last_ms)
        if fields["kind"] == "started":
            worker.spans.setdefault(lease, _Span(at_ms, at_ms, said_us))
        elif lease in worker.spans:
            span = worker.spans[lease]
            if not span.finished and said_us > span.said_us:
                span.ended, span.said_us = at_ms, said_us
                span.finished = fields["kind"] == "finished"

    def _status(self, record: Record) -> None:
        if record.value is None:
            return
        _, fields = decode(record.value, "pool_status")
        if fields["role"] != "worker":
            return
        worker = self._workers.setdefault(fields["name"], _Worker())
        worker.slots = max(worker.slots, fields["slots"])
        if fields["kind"] in _PERHAPS_INLINE:
            return
        granted, room = sum(fields["grants"].values()), fields["slots"] + fields["prefetch"]
        seen = f"grants {granted} bundles, has room for {room}"
        self._findings.judge("I9", "granted-within-the-window", fields["name"], seen, holds=granted <= room)

    def finish(self, look: Look) -> None:
        """Compare results with reports, count what ran at a time."""
        if self._reported and self._whole:
            for job_id, life in look.lives.items():
                for answer in life.answers:
                    if answer.ran:
                        self._judge_answer(job_id, answer)
        for name, worker in self._workers.items():
            if worker.slots and worker.steady:
                most = _most_at_a_time(list(worker.spans.values()))
                seen = f"{most} bundles at a time on {worker.slots} slots"
                self._findings.judge("I9", "runs-within-its-slots", name, seen, holds=most <= worker.slots)

    def _judge_answer(self, job_id: str, answer: Answer) -> None:
        told = self._told.get((job_id, answer.attempt), [])
        holds = _Told(answer.shots, answer.payload, _as_reported(answer.provenance)) in told
        seen = f"attempt {answer.attempt}: not what the holder of its lease reported"
        self._findings.judge("I3", "stale-attempts-are-fenced", job_id, seen, holds=holds)


def _as_reported(provenance: bytes) -> bytes:
    """Return a result's provenance without what its dispatcher adds: the attempts before this one."""
    if _ATTEMPTS not in provenance:
        return provenance
    known = json.loads(provenance)
    known.pop(ATTEMPTS, None)
    return json.dumps(known, separators=(",", ":")).encode()


def _is_over(item: Mapping[str, Any]) -> bool:
    """Tell whether a report is the provider's own last word about what it had accepted."""
    failed = item["error_class"]
    return not failed or (bool(item["provider_job_id"]) and failed not in UNSURE_WHEN_PAID)


def _most_at_a_time(spans: list[_Span]) -> int:
    """Return the highest number of spans that overlap by more than a moment."""
    edges = [(span.began, 1) for span in spans if span.ended > span.began]
    edges += [(span.ended, -1) for span in spans if span.ended > span.began]
    most = now = 0
    for _, step in sorted(edges):
        now += step
        most = max(most, now)
    return most
