"""Dead letters from outside: read by filter, redrive as new jobs, purge. I/O through the client's session.

A letter redriven twice is one job: the new job's id follows from the record that was given up, so that a
redrive that was interrupted is simply repeated.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, NamedTuple

from shotbus.broker.bus.base import Outgoing, Record, TopicPartition
from shotbus.broker.bus.scan import scan
from shotbus.broker.deadletters import REDRIVE_COUNT, REDRIVE_REASON, Letter, moved, read_letter
from shotbus.producers.asking import Wish, ask
from shotbus.producers.session import Session
from shotbus.schemas.codec import decode, encode
from shotbus.schemas.errors import ShotbusError
from shotbus.schemas.ids import digest, job_id, partition_of

#: A record may have 1 MB.
_SCAN_RECORDS = 200
_PUBLISH_RECORDS = 200
MAX_REASON = 256
#: What became of a letter whose job its shard has or remembers: nothing new.
BEFORE = "redriven before"
_LOOK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters; what is empty or None does not choose.

    ``names``: PARTITION:OFFSET of each; ``since_ms`` and ``until_ms``: wall time of the letter.
    """

    names: Collection[str] = ()
    fingerprint: str = ""
    error_class: str = ""
    code: str = ""
    tenant: str = ""
    pool: str = ""
    since_ms: int | None = None
    until_ms: int | None = None

    def takes(self, letter: Letter) -> bool:
        """Tell whether a letter is meant."""
        return (
            (not self.names or letter.name in self.names)
            and self.fingerprint in ("", letter.fingerprint)
            and self.error_class.upper() in ("", letter.error_class)
            and self.code.upper() in ("", letter.code)
            and self.tenant in ("", letter.tenant)
            and self.pool in ("", letter.pool)
            and (self.since_ms is None or letter.at_ms >= self.since_ms)
            and (self.until_ms is None or letter.at_ms < self.until_ms)
        )


EVERY_LETTER = LetterFilter()


class Redriven(NamedTuple):
    """What became of a letter: the words, and the new job's id (the old one's in a dry run), or none."""

    letter: str
    action: str
    job_id: str


async def find_letters(
    session: Session, wanted: LetterFilter = EVERY_LETTER
) -> AsyncGenerator[list[tuple[Letter, Record]]]:
    """Yield the letters that are there now and are ``wanted``, in batches, partition by partition in order.

    Whoever breaks off must close it. Letters that a purge has moved and not yet deleted come once.
    """
    seen: set[bytes] = set()
    async with aclosing(_every_letter(session)) as batches:
        async for batch in batches:
            found = []
            for letter, record in batch:
                mark = _mark(letter)
                if wanted.takes(letter) and mark not in seen:
                    seen.add(mark)
                    found.append((letter, record))
            yield found


async def _every_letter(session: Session) -> AsyncGenerator[list[tuple[Letter, Record]]]:
    begins = await session.bus.begins(letter_places(session))
    async with aclosing(scan(session.bus, begins, batch=_SCAN_RECORDS)) as batches:
        async for records in batches:
            yield [(read_letter(record), record) for record in records]


def _mark(letter: Letter) -> bytes:
    return digest(*letter.origin, size=8)


def letter_places(session: Session) -> list[TopicPartition]:
    """Return the partitions of ``dead-letters``."""
    topic = session.topics.name("dead-letters")
    return [TopicPartition(topic, number) for number in range(session.topics.partitions)]


async def redrive(
    session: Session,
    wanted: LetterFilter,
    *,
    reason: str = "",
    rate: float | None = None,
    again: bool = False,
    dry_run: bool = False,
    look: bool = False,
) -> AsyncIterator[list[Redriven]]:
    """Submit dead-lettered requests again as new jobs; yields what became of the letters as it goes on.

    Args:
        session: a started one.
        wanted: which letters.
        reason: why; a header of the new request, kept by its dead letter if it becomes one.
        rate: requests a second; None is as fast as the bus takes them.
        again: make another job of a letter that was redriven before, instead of finding that one.
        dry_run: publish nothing.
        look: ask the shards first which letters have their job already, to say so; the session must have been
            started whole. Once a shard has not answered in time nobody is asked any more: to publish a
            request again makes no second job.

    """
    began, sent = time.monotonic(), 0
    look = look and not again
    most = _PUBLISH_RECORDS if rate is None else max(1, min(_PUBLISH_RECORDS, int(rate / 10)))
    async with aclosing(find_letters(session, wanted)) as batches:
        async for batch in batches:
            for start in range(0, len(batch), most):
                plans = [
                    _plan(session, letter, record, reason, again=again)
                    for letter, record in batch[start : start + most]
                ]
                if look:
                    known = await _known(session, [plan for plan in plans if plan.request])
                    look = known is not None
                    plans = [plan.before() if plan.new in (known or ()) else plan for plan in plans]
                outgoing = [plan.request for plan in plans if plan.request]
                if outgoing and not dry_run:
                    if rate is not None:
                        await asyncio.sleep(max(0.0, began + sent / rate - time.monotonic()))
                    await session.bus.publish(outgoing)
                    sent += len(outgoing)
                yield [plan.told(dry_run=dry_run) for plan in plans]


class _Plan(NamedTuple):
    letter: str
    action: str
    old: str = ""
    new: str = ""
    request: Outgoing | None = None
    tenant: str = ""

    def before(self) -> _Plan:
        """Return what is left to do where the job is there already."""
        return self._replace(action=BEFORE, request=None)

    def told(self, *, dry_run: bool) -> Redriven:
        if self.request is None:
            return Redriven(self.letter, self.action, self.old if dry_run else self.new)
        words = f"would be {self.action}" if dry_run else self.action
        return Redriven(self.letter, words, self.old if dry_run else self.new)


def _plan(session: Session, letter: Letter, record: Record, reason: str, *, again: bool) -> _Plan:
    try:
        fields = decode(record.value, "circuit_request")[1]
    except ShotbusError:
        return _Plan(letter.name, "not a request")
    if fields["priority"] not in session.config.classes:
        return _Plan(letter.name, "its class is not configured")
    old, action = fields["job_id"], "redriven"
    deadline, now_ms = fields["deadline_ms"], time.time_ns() // 1_000_000
    if deadline is not None and deadline <= now_ms:
        action, fields["deadline_ms"] = "redriven without its deadline", None
    entropy = os.urandom(12) if again else digest("redrive", *letter.origin, size=12)
    new = job_id(fields["tenant"], session=fields["session_id"], entropy=entropy)
    fields |= {"job_id": new, "idempotency_key": "", "rerun_of": old, "sweep_id": "", "shard_index": -1}
    fields["submitted_us"] = now_ms * 1000
    headers: Mapping[str, Any] = {REDRIVE_COUNT: letter.redriven + 1, REDRIVE_REASON: reason[:MAX_REASON]}
    added = tuple((name, str(value).encode("utf-8", "replace")) for name, value in headers.items())
    request = session.request(fields, encode("circuit_request", fields), session.traceparent())
    request = request._replace(headers=request.headers + added)
    return _Plan(letter.name, action, old, new, request, fields["tenant"])


async def _known(session: Session, plans: Sequence[_Plan]) -> set[str] | None:
    """Return which of the new jobs their shards have or remember; None when one did not answer in time."""
    partitions = session.topics.partitions
    asking = [
        ask(
            session,
            [Wish("locate", "job", plan.new, plan.tenant)],
            [partition_of(plan.new, partitions)],
            timeout=_LOOK_SECONDS,
        )
        for plan in plans
    ]
    found = await asyncio.gather(*asking, return_exceptions=True)
    known = set[str]()
    for plan, answer in zip(plans, found, strict=True):
        if isinstance(answer, TimeoutError):
            return None
        if isinstance(answer, BaseException):
            raise answer
        if answer[0][0]["status"] != "UNKNOWN":
            known.add(plan.new)
    return known


async def purge(session: Session, wanted: LetterFilter, upto: Mapping[TopicPartition, int]) -> int:
    """Delete the letters below ``upto`` (ends of the partitions) that are ``wanted``; returns how many.

    A log is deleted from its begin: letters that stay are first written again behind the others, under a new
    name, with the time of the old one. An end in between leaves them twice on the bus, and once for whoever
    reads them here.
    """
    doomed: set[bytes] = set()
    lows: dict[TopicPartition, int] = {}
    async with aclosing(_every_letter(session)) as batches:
        async for batch in batches:
            for letter, record in batch:
                place, mark = TopicPartition(record.topic, record.partition), _mark(letter)
                if record.offset < upto[place] and (mark in doomed or wanted.takes(letter)):
                    doomed.add(mark)
                    lows[place] = record.offset + 1
    if lows:
        await _keep(session, doomed, lows)
        await session.bus.trim(lows)
    return len(doomed)


async def _keep(session: Session, doomed: Collection[bytes], lows: Mapping[TopicPartition, int]) -> None:
    """Write again what would go with the doomed letters."""
    async with aclosing(_every_letter(session)) as batches:
        async for batch in batches:
            staying = [
                moved(record)
                for letter, record in batch
                if record.offset < lows.get(TopicPartition(record.topic, record.partition), 0)
                and _mark(letter) not in doomed
            ]
            if staying:
                await session.bus.publish(staying)
