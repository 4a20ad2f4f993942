"""``dlq list|show|redrive|purge``: dead letters keep the original bytes."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import click

from shotbus.broker.bus.base import Outgoing, Record, TopicPartition
from shotbus.broker.bus.scan import scan
from shotbus.broker.deadletters import PREFIX
from shotbus.cli.common import EXIT_FAILED, Options, command_options, emit, plain, printable, run_async, table
from shotbus.cli.jobs import connect
from shotbus.producers.session import Session
from shotbus.schemas.codec import decode, encode
from shotbus.schemas.errors import Problem, ShotbusError, fail
from shotbus.schemas.ids import job_id, partition_of

_NONE = "no dead letters"
_DUMPED_BYTES = 512
_LINE_BYTES = 16


@click.group()
def dlq() -> None:
    """List, show, redrive and purge dead letters; a letter is named PARTITION:OFFSET."""


def _places(session: Session) -> list[TopicPartition]:
    topic = session.topics.name("dead-letters")
    return [TopicPartition(topic, number) for number in range(session.topics.partitions)]


async def _letters(session: Session) -> list[Record]:
    begins = await session.bus.begins(_places(session))
    found = [record async for batch in scan(session.bus, begins) for record in batch]
    return sorted(found, key=lambda record: record.timestamp_ms)


def _name(record: Record) -> str:
    return f"{record.partition}:{record.offset}"


def _headers(record: Record) -> dict[str, str]:
    return {name: value.decode("utf-8", "replace") for name, value in record.headers}


def _describe(record: Record) -> dict[str, Any]:
    headers = _headers(record)
    at = time.gmtime(record.timestamp_ms / 1000)
    return {
        "letter": _name(record),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", at),
        "class": headers.get("error-class", ""),
        "code": headers.get("error-code", ""),
        "topic": headers.get(f"{PREFIX}topic", ""),
        "partition": headers.get(f"{PREFIX}partition", ""),
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
@click.option("--code", help="Only this error code, such as SB-1001.")
@command_options
def list_letters(options: Options, code: str | None) -> None:
    """List dead letters, oldest first."""
    run_async(_list(options, code))


async def _list(options: Options, code: str | None) -> None:
    async with connect(options) as client:
        rows = [_describe(record) for record in await _letters(client.session)]
        prefix = client.session.topics.name("")
    rows = [row for row in rows if code in (None, row["code"])]
    columns = ("letter", "time", "class", "code", "topic", "deliveries", "redriven")
    cells = [[row[name] for name in columns] for row in rows]
    for line in cells:
        line[4] = line[4].removeprefix(prefix)
    emit(options, rows, table(cells, columns, empty=_NONE))


@dlq.command(short_help="Show a letter with its bytes.")
@click.argument("letter")
@command_options
def show(options: Options, letter: str) -> None:
    """Show LETTER: error, headers, decoded form where it can be decoded, original bytes."""
    run_async(_show(options, letter))


async def _show(options: Options, letter: str) -> None:
    async with connect(options) as client:
        (record,) = _named(await _letters(client.session), [letter])
    told, headers, value = _describe(record), _headers(record), record.value or b""
    try:
        decoded: dict[str, Any] | None = decode(record.value)[1]
    except ShotbusError:
        decoded = None
    key = (record.key or b"").decode("utf-8", "replace")
    data = told | {"key": key, "headers": headers, "decoded": decoded, "value": value.hex()}
    emit(options, data, "\n".join(_page(told, key, headers, decoded, value)))


def _page(
    told: Mapping[str, Any],
    key: str,
    headers: Mapping[str, str],
    decoded: Mapping[str, Any] | None,
    value: bytes,
) -> Iterator[str]:
    for name, text in {**told, "key": key}.items():
        yield f"{name:11} {printable(str(text))}"
    original = {name: text for name, text in headers.items() if not name.startswith(PREFIX)}
    yield "\nheaders"
    yield from (f"  {printable(name)}: {printable(text)}" for name, text in original.items())
    yield "\ndecoded"
    shown = json.dumps(plain(decoded), indent=2) if decoded is not None else "not a record we know"
    yield from (f"  {line}" for line in shown.splitlines())
    yield f"\nvalue, {len(value)} bytes"
    yield from _dump(value)


def _dump(value: bytes) -> Iterator[str]:
    """Yield the first bytes as hexadecimal beside their characters."""
    for start in range(0, min(len(value), _DUMPED_BYTES), _LINE_BYTES):
        line = value[start : min(start + _LINE_BYTES, _DUMPED_BYTES)]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in line)
        yield f"  {start:06x}  {line.hex(' '):{3 * _LINE_BYTES - 1}}  {text}"
    if len(value) > _DUMPED_BYTES:
        yield f"  … and {len(value) - _DUMPED_BYTES} more bytes; --json has them all"


def _named(letters: Sequence[Record], names: Collection[str]) -> list[Record]:
    """Return the letters of these names. Raises ShotbusError (SB-4008) with every name that has none."""
    known = {_name(record) for record in letters}
    missing = [Problem("SB-4008", "LETTER", actual=name) for name in names if name not in known]
    if missing:
        raise ShotbusError(missing)
    return [record for record in letters if _name(record) in names]


@dlq.command(short_help="Submit dead-lettered requests again.")
@click.argument("letters", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every letter (with --code: of that code).")
@click.option("--code", help="With --all: only this error code.")
@click.option("--dry-run", is_flag=True, help="Say what would happen.")
@command_options
def redrive(
    options: Options, letters: tuple[str, ...], *, everything: bool, code: str | None, dry_run: bool
) -> None:
    """Submit dead-lettered requests again, as new jobs that name the old one.

    A letter that is no request cannot be redriven: exit code 1 when it was named. When a named letter does
    not exist, nothing is redriven.
    """
    if bool(letters) == everything:
        raise fail("SB-2002", "LETTERS", hint="name letters, or --all")
    if letters and code:
        raise fail("SB-2002", "--code", hint="it goes with --all, not with named letters")
    run_async(_redrive(options, letters, code, dry_run=dry_run))


async def _redrive(options: Options, names: tuple[str, ...], code: str | None, *, dry_run: bool) -> None:
    async with connect(options) as client:
        letters = await _letters(client.session)
        chosen = _named(letters, names) if names else letters
        chosen = [record for record in chosen if code in (None, _describe(record)["code"])]
        report = [await _again(client.session, record, dry_run=dry_run) for record in chosen]
    rows = [[row["letter"], row["action"], row["job_id"]] for row in report]
    emit(options, report, table(rows, ("letter", "action", "job id"), empty=_NONE))
    if names and any(not row["job_id"] for row in report):
        sys.exit(EXIT_FAILED)


async def _again(session: Session, record: Record, *, dry_run: bool) -> dict[str, str]:
    """Publish a request again under a new id; what is no request cannot be redriven."""
    letter = _name(record)
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
@click.option("--dry-run", is_flag=True, help="Say what would happen.")
@click.option("--yes", is_flag=True, help="Do not ask; without a terminal nobody is asked.")
@command_options
def purge(options: Options, *, dry_run: bool, yes: bool) -> None:
    """Delete every dead letter."""
    run_async(_purge(options, dry_run=dry_run, ask=not yes and sys.stdin.isatty()))


async def _purge(options: Options, *, dry_run: bool, ask: bool) -> None:
    async with connect(options) as client:
        bus = client.session.bus
        # What comes after this look is not counted, so it must not be deleted either.
        ends = await bus.ends(_places(client.session))
        letters = await _letters(client.session)
        count = sum(one.offset < ends[TopicPartition(one.topic, one.partition)] for one in letters)
        if not dry_run:
            if ask and count:
                click.confirm(f"Delete {count} dead letters for good?", abort=True, err=True)
            await bus.trim(ends)
    verb = "would delete" if dry_run else "deleted"
    noun = "letter" if count == 1 else "letters"
    emit(options, {"letters": count, "dry_run": dry_run}, f"{verb} {count} {noun}")
