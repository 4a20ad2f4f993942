"""``dlq list|show|redrive|purge``: dead letters keep the original bytes."""

from __future__ import annotations

import os
import time
from typing import Any

import click

from shotbus.broker.bus.base import Outgoing, Record, TopicPartition
from shotbus.broker.bus.scan import scan
from shotbus.broker.deadletters import PREFIX
from shotbus.cli.common import Options, command_options, emit, run_async, table
from shotbus.cli.jobs import connect
from shotbus.producers.session import Session
from shotbus.schemas.codec import decode, encode
from shotbus.schemas.errors import ShotbusError, fail
from shotbus.schemas.ids import job_id, partition_of


@click.group()
def dlq() -> None:
    """List, show, redrive and purge dead letters; a letter is named PARTITION:OFFSET."""


async def _letters(session: Session) -> list[Record]:
    topic = session.topics.name("dead-letters")
    places = [TopicPartition(topic, number) for number in range(session.topics.partitions)]
    begins = await session.bus.begins(places)
    found = [record async for batch in scan(session.bus, begins) for record in batch]
    return sorted(found, key=lambda record: record.timestamp_ms)


def _describe(record: Record) -> dict[str, Any]:
    headers = {name: value.decode("utf-8", "replace") for name, value in record.headers}
    return {
        "letter": f"{record.partition}:{record.offset}",
        "class": headers.get("error-class", ""),
        "code": headers.get("error-code", ""),
        "topic": headers.get(f"{PREFIX}topic", ""),
        "offset": headers.get(f"{PREFIX}offset", ""),
        "deliveries": headers.get(f"{PREFIX}delivery.count", ""),
        "redriven": _redriven(record),
        "message": headers.get(f"{PREFIX}message", ""),
    }


def _redriven(record: Record) -> str:
    """Return how often a letter was redriven; headers come from outside and may hold anything."""
    told = dict(record.headers).get("redrive-count", b"0")
    return told.decode() if told.isdigit() and len(told) < 6 else "0"


@dlq.command("list")
@command_options
@click.option("--code", help="Only this error code.")
def list_letters(options: Options, code: str | None) -> None:
    """List dead letters, oldest first."""
    run_async(_list(options, code))


async def _list(options: Options, code: str | None) -> None:
    async with connect(options) as client:
        rows = [_describe(record) for record in await _letters(client.session)]
    rows = [row for row in rows if code in (None, row["code"])]
    columns = ("letter", "class", "code", "topic", "deliveries", "redriven")
    emit(options, rows, table([[row[column] for column in columns] for row in rows], columns))


@dlq.command()
@click.argument("letter")
@command_options
def show(options: Options, letter: str) -> None:
    """Show LETTER: error, decoded form where it can be decoded, original bytes in hex."""
    run_async(_show(options, letter))


async def _show(options: Options, letter: str) -> None:
    async with connect(options) as client:
        record = await _find(client.session, letter)
    try:
        decoded: dict[str, Any] | None = decode(record.value)[1]
    except ShotbusError:
        decoded = None
    told = _describe(record)
    value = (record.value or b"").hex()
    lines = [f"{name:11} {text}" for name, text in told.items()]
    emit(
        options, told | {"decoded": decoded, "value": value}, "\n".join([*lines, "", str(decoded), "", value])
    )


async def _find(session: Session, letter: str) -> Record:
    for record in await _letters(session):
        if f"{record.partition}:{record.offset}" == letter:
            return record
    raise fail("SB-4001", "LETTER", actual=letter, hint="see shotbus dlq list")


@dlq.command()
@click.argument("letters", nargs=-1)
@command_options
@click.option("--all", "everything", is_flag=True, help="Every letter (with --code: of that code).")
@click.option("--code", help="With --all: only this error code.")
@click.option("--dry-run", is_flag=True, help="Say what would happen.")
def redrive(
    options: Options, letters: tuple[str, ...], *, everything: bool, code: str | None, dry_run: bool
) -> None:
    """Submit dead-lettered requests again, as new jobs that name the old one."""
    if bool(letters) == everything:
        raise fail("SB-2002", "LETTERS", hint="name letters, or --all")
    run_async(_redrive(options, letters, code, dry_run=dry_run))


async def _redrive(options: Options, letters: tuple[str, ...], code: str | None, *, dry_run: bool) -> None:
    report: list[dict[str, str]] = []
    async with connect(options) as client:
        for record in await _letters(client.session):
            told = _describe(record)
            if (letters and told["letter"] not in letters) or code not in (None, told["code"]):
                continue
            report.append(await _again(client.session, record, told["letter"], dry_run=dry_run))
    rows = [[row["letter"], row["action"], row["job_id"]] for row in report]
    emit(options, report, table(rows, ("letter", "action", "job id")))


async def _again(session: Session, record: Record, letter: str, *, dry_run: bool) -> dict[str, str]:
    """Publish a request again under a new id; what is no request cannot be redriven."""
    try:
        fields = decode(record.value, "circuit_request")[1]
    except ShotbusError:
        return {"letter": letter, "action": "not a request", "job_id": ""}
    old = fields["job_id"]
    new = job_id(fields["tenant"], session=fields["session_id"], entropy=os.urandom(12))
    fields |= {"job_id": new, "idempotency_key": "", "rerun_of": old, "sweep_id": "", "shard_index": -1}
    fields["submitted_us"] = time.time_ns() // 1000
    if dry_run:
        return {"letter": letter, "action": "would redrive", "job_id": old}
    count = int(_redriven(record)) + 1
    request = session.request(fields, encode("circuit_request", fields), session.traceparent())
    headers = (*request.headers, ("redrive-count", str(count).encode()))
    partition = partition_of(new, session.topics.partitions)
    await session.bus.publish([Outgoing(request.topic, partition, request.key, request.value, headers)])
    return {"letter": letter, "action": "redriven", "job_id": new}


@dlq.command()
@command_options
@click.option("--dry-run", is_flag=True, help="Say what would happen.")
def purge(options: Options, *, dry_run: bool) -> None:
    """Delete every dead letter."""
    run_async(_purge(options, dry_run=dry_run))


async def _purge(options: Options, *, dry_run: bool) -> None:
    async with connect(options) as client:
        session = client.session
        count = len(await _letters(session))
        topic = session.topics.name("dead-letters")
        places = [TopicPartition(topic, number) for number in range(session.topics.partitions)]
        if not dry_run:
            await session.bus.trim(await session.bus.ends(places))
    verb = "would delete" if dry_run else "deleted"
    emit(options, {"letters": count, "dry_run": dry_run}, f"{verb} {count} letters")
