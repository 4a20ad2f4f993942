"""``dlq list|show|redrive|purge``: dead letters keep the original bytes."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

import click

from shotbus.broker.bus.base import Record
from shotbus.broker.deadletters import Letter, headers_of
from shotbus.cli.common import EXIT_FAILED, Options, command_options, emit, run_async, table
from shotbus.cli.jobs import connect
from shotbus.cli.letters import (
    GROUP_COLUMNS,
    LETTER_COLUMNS,
    SAMPLE,
    choose,
    describe,
    groups,
    letter_filters,
    page,
    per_second,
)
from shotbus.cli.progress import spinner, way_back
from shotbus.producers import letters as dead
from shotbus.producers.letters import MAX_REASON, LetterFilter, Redriven
from shotbus.producers.session import Session
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import Problem, ShotbusError, fail

_NONE = "no dead letters"
_MOST_LINES = 50


@click.group()
def dlq() -> None:
    """List, show, redrive and purge dead letters; a letter is named PARTITION:OFFSET.

    Letters with one cause have one fingerprint: error class, code, message without what varies, pool and
    circuit family.
    """


async def _read(session: Session, wanted: LetterFilter) -> list[Letter]:
    """Return what the wanted letters say, oldest first; not their bytes."""
    async with aclosing(dead.find_letters(session, wanted)) as batches:
        found = [letter async for batch in batches for letter, _ in batch]
    return sorted(found, key=lambda letter: letter.at_ms)


@dlq.command("list", short_help="List dead letters by cause.")
@click.option("--letters", "each", is_flag=True, help="A line a letter instead of a line a cause.")
@command_options
@letter_filters
def list_letters(options: Options, wanted: LetterFilter, *, each: bool) -> None:
    """List dead letters grouped by fingerprint, the most frequent cause first.

    With --letters (or --fingerprint, which leaves one group) a line a letter, oldest first.
    """
    run_async(_list(options, wanted, each=each or bool(wanted.fingerprint)))


async def _list(options: Options, wanted: LetterFilter, *, each: bool) -> None:
    async with connect(options) as client:
        found = await _read(client.session, wanted)
        prefix = client.session.topics.name("")
    rows = [describe(letter) for letter in found] if each else groups(found)
    columns = LETTER_COLUMNS if each else GROUP_COLUMNS
    cells = [[str(row[name]).removeprefix(prefix) for name in columns] for row in rows]
    emit(options, rows, table(cells, columns, empty=_NONE))


@dlq.command(short_help="Show a letter with its bytes.")
@click.argument("letter")
@command_options
def show(options: Options, letter: str) -> None:
    """Show LETTER: error, headers, decoded form where it can be decoded, original bytes."""
    run_async(_show(options, letter))


async def _show(options: Options, name: str) -> None:
    async with connect(options) as client:
        found, record = await _one(client.session, name)
    told, headers, value = describe(found), headers_of(record), record.value or b""
    try:
        decoded: dict[str, Any] | None = decode(record.value)[1]
    except ShotbusError:
        decoded = None
    key = (record.key or b"").decode("utf-8", "replace")
    data = told | {"key": key, "headers": headers, "decoded": decoded, "value": value.hex()}
    emit(options, data, "\n".join(page(told, key, headers, decoded, value)))


async def _one(session: Session, name: str) -> tuple[Letter, Record]:
    async with aclosing(dead.find_letters(session, LetterFilter(names={name}))) as batches:
        async for batch in batches:
            if batch:
                return batch[0]
    raise fail("SB-4008", "LETTER", actual=name)


@dlq.command(short_help="Submit dead-lettered requests again.")
@click.argument("letters", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every letter that the filters leave.")
@click.option("--dry-run", is_flag=True, help="Say what would happen: how many, and some of them.")
@click.option("--rate", metavar="N/s", help="At most so many a second (N/m, N/h: a minute, an hour).")
@click.option("--reason", default="", help="Why; kept with the new jobs.")
@click.option("--again", is_flag=True, help="Make new jobs of letters that were redriven before, too.")
@command_options
@letter_filters
def redrive(
    options: Options,
    letters: tuple[str, ...],
    wanted: LetterFilter,
    rate: str | None,
    reason: str,
    *,
    everything: bool,
    dry_run: bool,
    again: bool,
) -> None:
    """Submit dead-lettered requests again, as new jobs that name the old one.

    A letter that is no request cannot be redriven: exit code 1 when it was named. When a named letter does
    not exist, nothing is redriven. A letter becomes one job, however often it is redriven, but for --again;
    so an interrupted redrive is simply repeated, and says which letters were redriven before.
    """
    chosen = choose(letters, wanted, everything=everything)
    if len(reason) > MAX_REASON:
        raise fail("SB-2002", "--reason", limit=f"{MAX_REASON} characters", actual=len(reason))
    settings = {"rate": per_second(rate), "reason": reason, "again": again, "dry_run": dry_run}
    run_async(_redrive(options, chosen, settings))


async def _redrive(options: Options, wanted: LetterFilter, settings: Mapping[str, Any]) -> None:
    dry_run, report, counts = settings["dry_run"], _Report(dry_run=settings["dry_run"]), Counter[str]()
    async with connect(options) as client:
        await _check_names(client.session, wanted)
        note = "what was redriven goes on; the same command goes on where this one stopped"
        with way_back(note), spinner("redriving") as say:
            async for told in dead.redrive(client.session, wanted, look=True, **settings):
                report.take(told)
                counts.update(one.action for one in told)
                say(f"redriving: {report.letters} letters")
    data = {
        "dry_run": dry_run,
        "letters": report.letters,
        "redriven": report.redriven,
        "actions": dict(counts),
        "sample" if dry_run else "jobs": [row._asdict() for row in report.rows],
    }
    emit(options, data, report.text(counts))
    if wanted.names and report.redriven + counts[dead.BEFORE] < report.letters:
        sys.exit(EXIT_FAILED)


async def _check_names(session: Session, wanted: LetterFilter) -> None:
    """Raise ShotbusError (SB-4008) with every name that has no letter, before anything is done."""
    if not wanted.names:
        return
    known = {letter.name for letter in await _read(session, wanted)}
    missing = [
        Problem("SB-4008", "LETTER", actual=name) for name in sorted(wanted.names) if name not in known
    ]
    if missing:
        raise ShotbusError(missing)


class _Report:
    """What a redrive did: every row, or a sample of a dry run."""

    def __init__(self, *, dry_run: bool) -> None:
        self._dry_run = dry_run
        self.rows: list[Redriven] = []
        self.letters = self.redriven = 0

    def take(self, told: Sequence[Redriven]) -> None:
        self.letters += len(told)
        self.redriven += sum(bool(row.job_id) and row.action != dead.BEFORE for row in told)
        self.rows += told[: max(0, SAMPLE - len(self.rows))] if self._dry_run else told

    def text(self, counts: Mapping[str, int]) -> str:
        if not self.letters:
            return _NONE
        lines = [table([list(row) for row in self.rows[:_MOST_LINES]], ("letter", "action", "job id"))]
        if self.letters > len(self.rows[:_MOST_LINES]):
            lines.append(f"… of {_letters(self.letters)} in all")
        lines += [f"{count} {action}" for action, count in sorted(counts.items())]
        return "\n".join(lines)


def _letters(count: int) -> str:
    return "1 letter" if count == 1 else f"{count} letters"


@dlq.command(short_help="Delete dead letters.")
@click.argument("letters", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Say what would happen: how many, and some of them.")
@click.option("--yes", is_flag=True, help="Do not ask; without a terminal nobody is asked.")
@command_options
@letter_filters
def purge(
    options: Options, letters: tuple[str, ...], wanted: LetterFilter, *, dry_run: bool, yes: bool
) -> None:
    """Delete dead letters: those named, those that the filters leave, or all.

    A letter that stays behind a deleted one gets a new name.
    """
    chosen = choose(letters, wanted, everything=not letters and wanted == LetterFilter())
    run_async(_purge(options, chosen, dry_run=dry_run, ask=not yes and sys.stdin.isatty()))


async def _purge(options: Options, wanted: LetterFilter, *, dry_run: bool, ask: bool) -> None:
    async with connect(options) as client:
        session = client.session
        # What comes after this look is not counted, so it must not be deleted either.
        ends = await session.bus.ends(dead.letter_places(session))
        await _check_names(session, wanted)
        found = await _read(session, wanted)
        count = len(found)
        if not dry_run:
            if ask and count:
                click.confirm(f"Delete {_letters(count)} for good?", abort=True, err=True)
            count = await dead.purge(session, wanted, ends)
    verb = "would delete" if dry_run else "deleted"
    data: dict[str, Any] = {"letters": count, "dry_run": dry_run}
    text = f"{verb} {_letters(count)}"
    if dry_run and found:
        data["sample"] = [describe(letter) for letter in found[:SAMPLE]]
        cells = [[row[name] for name in LETTER_COLUMNS] for row in data["sample"]]
        text = f"{table(cells, LETTER_COLUMNS)}\n{text}"
    emit(options, data, text)
