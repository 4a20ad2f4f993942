"""What the ``dlq`` commands share: which letters are meant, how they are shown. Reads the clock."""

from __future__ import annotations

import functools
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from shotbus.broker.deadletters import PREFIX, Letter
from shotbus.cli.common import plain, printable
from shotbus.producers.letters import LetterFilter
from shotbus.schemas.errors import fail

_DUMPED_BYTES = 512
_LINE_BYTES = 16
SAMPLE = 10
_RATE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(?:/(s|m|h))?", re.ASCII)
_PER = {None: 1, "s": 1, "m": 60, "h": 3_600}
_AGE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(s|m|h|d)", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

LETTER_COLUMNS = ("letter", "time", "fingerprint", "class", "code", "topic", "redriven")
GROUP_COLUMNS = ("fingerprint", "letters", "class", "code", "pool", "family", "last", "title")


def letter_filters(work: Callable[..., Any]) -> Callable[..., Any]:
    """Add what chooses letters; the function receives them as one LetterFilter, ``wanted``."""

    @functools.wraps(work)
    def wrapped(options: Any, *, since: str | None, until: str | None, **given: Any) -> None:
        chosen = {name: given.pop(name) or "" for name in _CHOOSERS}
        begin, end = _moment("--since", since), _moment("--until", until)
        wanted = LetterFilter(since_ms=begin, until_ms=end, **chosen)
        work(options, wanted=wanted, **given)

    for option in reversed(_FILTERS):
        wrapped = option(wrapped)
    return wrapped


_CHOOSERS = ("fingerprint", "error_class", "code", "tenant", "pool")
_FILTERS = (
    click.option("--fingerprint", help="Only letters of this cause."),
    click.option("--class", "error_class", help="Only this error class, such as POISON."),
    click.option("--code", help="Only this error code, such as SB-1001."),
    click.option("--tenant", help="Only this tenant's."),
    click.option("--pool", help="Only of this pool."),
    click.option("--since", metavar="TIME", help="Not older: 2026-07-01T12:00Z, or an age such as 90m, 2d."),
    click.option("--until", metavar="TIME", help="Older than this."),
)


def _moment(option: str, told: str | None) -> int | None:
    """Return wall time in milliseconds. Raises ShotbusError (SB-2002)."""
    if told is None:
        return None
    if age := _AGE.fullmatch(told):
        return int((time.time() - float(age[1]) * _UNITS[age[2]]) * 1000)
    try:
        moment = datetime.fromisoformat(told)
    except ValueError:
        limit = "an ISO time such as 2026-07-01T12:00Z, or an age such as 90m"
        raise fail("SB-2002", option, limit=limit, actual=told) from None
    if moment.tzinfo is None:
        raise fail("SB-2002", option, actual=told, hint="say the zone, Z for UTC")
    return int(moment.timestamp() * 1000)


def utc(at_ms: int) -> str:
    """Return wall time (milliseconds) to the second."""
    # A hostile letter may claim any time.
    try:
        return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return "unknown"


def describe(letter: Letter) -> dict[str, Any]:
    """Return a letter as ``--json`` has it."""
    return {
        "letter": letter.name,
        "time": utc(letter.at_ms),
        "fingerprint": letter.fingerprint,
        "class": letter.error_class,
        "code": letter.code,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "deliveries": letter.deliveries,
        "redriven": str(letter.redriven),
        "reason": letter.reason,
        "job_id": letter.job_id,
        "tenant": letter.tenant,
        "pool": letter.pool,
        "family": letter.family,
        "message": letter.message,
    }


def groups(found: Sequence[Letter]) -> list[dict[str, Any]]:
    """Return a row a fingerprint, the most letters first; ``found`` is in order of time."""
    by_cause: dict[str, list[Letter]] = {}
    for letter in found:
        by_cause.setdefault(letter.fingerprint, []).append(letter)
    ordered = sorted(by_cause.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    return [_group(mark, members) for mark, members in ordered]


def _group(mark: str, members: Sequence[Letter]) -> dict[str, Any]:
    last = members[-1]
    return {
        "fingerprint": mark,
        "letters": len(members),
        "class": last.error_class,
        "code": last.code,
        "pool": last.pool,
        "family": last.family,
        "tenants": dict(Counter(letter.tenant for letter in members).most_common(SAMPLE)),
        "first": utc(members[0].at_ms),
        "last": utc(last.at_ms),
        "sample": [letter.name for letter in members[-SAMPLE:]],
        "title": _title(last),
        "message": last.message,
    }


def _title(letter: Letter) -> str:
    """Return a few words: the code's meaning, or the error a traceback ends with."""
    if letter.message.startswith("Traceback "):
        return letter.message.rstrip().rpartition("\n")[2][:40]
    return letter.message.partition(": ")[2].partition(";")[0][:40]


def page(
    told: Mapping[str, Any],
    key: str,
    headers: Mapping[str, str],
    decoded: Mapping[str, Any] | None,
    value: bytes,
) -> Iterator[str]:
    """Yield the lines of ``dlq show``."""
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


def choose(names: tuple[str, ...], wanted: LetterFilter, *, everything: bool) -> LetterFilter:
    """Return which letters a command is about: names, or a filter, or all; never all by accident."""
    filtered = wanted != LetterFilter()
    if names and filtered:
        used = [name for name in _CHOOSERS if getattr(wanted, name)]
        option = used[0].removeprefix("error_") if used else "since" if wanted.since_ms else "until"
        raise fail("SB-2002", f"--{option}", hint="a filter goes without named letters")
    if bool(names) == (everything or filtered):
        raise fail(
            "SB-2002", "LETTERS", hint="name letters, or give a filter such as --fingerprint, or --all"
        )
    return LetterFilter(names=frozenset(names)) if names else wanted


def per_second(told: str | None) -> float | None:
    """Return what ``--rate`` says. Raises ShotbusError (SB-2002)."""
    if told is None:
        return None
    found = _RATE.fullmatch(told)
    if not found or float(found[1]) <= 0:
        raise fail("SB-2002", "--rate", limit="a number above 0 and /s, /m or /h", actual=told)
    return float(found[1]) / _PER[found[2]]
