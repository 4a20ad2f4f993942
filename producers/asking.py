"""Control records and the shards' answers to them. I/O through the client's session.

Records that are published together on a partition are handled in their order, so that "cancel, then
locate" answers what the cancel has left. Answers are told apart by their correlation alone: any number of
questions about one name may be open at once.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from shotbus.broker.bus.base import Outgoing, Record
from shotbus.producers.origin import principal
from shotbus.producers.session import Session
from shotbus.schemas.codec import decode, encode, identify
from shotbus.schemas.outcomes import UNDER_WAY

#: What a shard answers with a ``located`` record.
ANSWERED = frozenset({"locate", "reprioritise", "reload", "flag", "approve", "reject"})
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Wish(NamedTuple):
    """A control record's content; ``command`` and ``target`` are those of the schema."""

    command: str
    target: str
    name: str
    tenant: str = ""
    reason: str = ""
    arguments: Mapping[str, str] = _NOTHING


async def tell(session: Session, wishes: Sequence[Wish], partitions: Sequence[int]) -> None:
    """Publish wishes, in order, on each partition; durable on return."""
    await session.bus.publish([_record(session, wish, number) for number in partitions for wish in wishes])


async def ask(
    session: Session, wishes: Sequence[Wish], partitions: Sequence[int], *, timeout: float
) -> list[list[dict[str, Any]]]:
    """Publish wishes about one name and wait for the answer to each of :data:`ANSWERED` among them.

    Args:
        session: a started one.
        wishes: what each partition's shard is told, in this order.
        partitions: of the shards.
        timeout: seconds; anew whenever a shard says that it is carrying a wish out.

    Returns:
        For each that is answered, in order, the fields of the shards' ``located`` records.

    Raises:
        TimeoutError: a shard did not answer in time; the wishes are durable nevertheless.

    """
    loop = asyncio.get_running_loop()
    answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
    asked: list[list[str]] = [[] for wish in wishes if wish.command in ANSWERED]
    records = []
    for number in partitions:
        turns = iter(asked)
        for wish in wishes:
            correlation = ""
            if wish.command in ANSWERED:
                correlation = os.urandom(8).hex()
                answers[correlation] = loop.create_future()
                next(turns).append(correlation)
            records.append(_record(session, wish, number, correlation))

    name = wishes[0].name
    async with asyncio.timeout(None) as limit:

        def take(record: Record) -> None:
            if _answer(record, answers) and limit.when() is not None and not limit.expired():
                # The shard is at it, with a great many jobs.
                limit.reschedule(loop.time() + timeout)

        session.inbox.listen(name, take)
        try:
            await session.bus.publish(records)
            limit.reschedule(loop.time() + timeout)
            await asyncio.gather(*answers.values())
        finally:
            session.inbox.forget(name, take)
    return [[answers[correlation].result() for correlation in turn] for turn in asked]


class Count(NamedTuple):
    """What all shards together hold of a sweep or a pool.

    ``word``: ``ready`` or ``paused`` of a pool, ``live`` of a sweep, ``unknown``; two with a slash while not
    all shards say the same. ``jobs``: live ones of the sweep, those that wait for the pool. ``in_flight``:
    attempts with a worker.
    """

    word: str
    jobs: int
    in_flight: int


async def count(session: Session, wishes: Sequence[Wish], *, timeout: float) -> list[Count]:
    """Tell every shard ``wishes`` about one sweep or pool; return what they held at each ``locate``.

    Raises TimeoutError as :func:`ask` does.
    """
    turns = await ask(session, wishes, range(session.topics.partitions), timeout=timeout)
    return [_total(places) for places in turns]


def _total(places: Sequence[Mapping[str, Any]]) -> Count:
    words = sorted({place["status"].lower() for place in places})
    # A shard without jobs of a sweep does not know it: where another does, it lives.
    known = [word for word in words if word != "unknown" or words == ["unknown"]]
    return Count(
        "/".join(known),
        sum(place["jobs"] for place in places),
        sum(place["in_flight"] for place in places),
    )


def _record(session: Session, wish: Wish, partition: int, correlation: str = "") -> Outgoing:
    fields = wish._asdict() | {
        "principal": principal(),
        "correlation": correlation,
        "at_us": time.time_ns() // 1000,
        "arguments": dict(wish.arguments),
    }
    return Outgoing(session.topics.name("control"), partition, wish.name.encode(), encode("control", fields))


def _answer(record: Record, answers: Mapping[str, asyncio.Future[dict[str, Any]]]) -> bool:
    """Take an answer; True for one that says that the answer will take its time."""
    if identify(record.value).name != "located":
        return False
    fields = decode(record.value)[1]
    future = answers.get(fields["correlation"])
    if future is None or future.done():
        return False
    if fields["status"] == UNDER_WAY:
        return True
    future.set_result(fields)
    return False
