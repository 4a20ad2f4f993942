"""``verify``: the invariants on what a real broker has on its topics, while it runs."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

from shotbus.broker.connect import open_bus, parse_url, topics_for
from shotbus.cli.common import EXIT_FAILED, Options, command_options, emit, printable, run_async, table
from shotbus.schemas.errors import fail

if TYPE_CHECKING:
    from shotbus.broker.bus.base import Bus
    from shotbus.broker.invariants.reading import Reading

_SHOWN = 50
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def duration(text: str) -> float:
    """Return seconds for ``90``, ``90s``, ``15m``, ``2h`` or ``3d``. Raises click.BadParameter."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise click.BadParameter(f"{text!r} is no duration such as 90s, 15m, 2h or 3d")
    return float(match[1]) * _SECONDS[match[2]]


@asynccontextmanager
async def opened_bus(options: Options) -> AsyncIterator[Bus]:
    """Yield the bus alone: whoever looks starts no broker. Raises ShotbusError where there is nothing yet."""
    address = parse_url(options.url)
    if address.untouched:
        raise fail("SB-2004", "$.broker.url", detail=f"nothing in {address.directory} yet")
    bus = open_bus(address, options.config, client_id="shotbus-verify")
    await bus.start()
    try:
        yield bus
    finally:
        await bus.close()


@click.command()
@click.option(
    "--since", metavar="DURATION", help="Only the last 90s, 15m, 2h, 3d [default: all that is kept]."
)
@command_options
def verify(options: Options, *, since: str | None) -> None:
    """Check the invariants I1 to I16 on what the topics hold; exit 1 when one is broken.

    Works on a running broker, whose jobs under way break nothing, and starts none. Says what could not be
    judged, and why; docs/invariants.md tells how each is judged.
    """
    seconds = None if since is None else duration(since)
    if run_async(_verify(options, seconds)):
        raise SystemExit(EXIT_FAILED)


async def _verify(options: Options, seconds: float | None) -> int:
    from shotbus.broker.invariants.reading import verify as read_and_judge

    topics = topics_for(parse_url(options.url), options.config)
    since_ms = None if seconds is None else int((time.time() - seconds) * 1000)
    async with opened_bus(options) as bus:
        reading = await read_and_judge(bus, topics, since_ms=since_ms)
    emit(options, _document(reading), _text(reading))
    return len(reading.report.violations)


def _document(reading: Reading) -> dict[str, object]:
    report = reading.report
    return {
        "violations": [one._asdict() for one in report.violations],
        "judged": report.judged,
        "unjudged": report.unjudged,
        "records": reading.records,
        "missing_topics": reading.missing,
        "complete": reading.complete,
    }


def _text(reading: Reading) -> str:
    from shotbus.broker.invariants import CATALOG

    report = reading.report
    broken = Counter(one.invariant for one in report.violations)
    rows = [
        (name, one.title, f"{report.judged[name]:,}", broken[name], report.unjudged.get(name, ""))
        for name, one in CATALOG.items()
    ]
    lines = [table(rows, ("", "invariant", "judged", "broken", "not judged"))]
    shown = report.violations[:_SHOWN]
    lines += [printable(f"{one.invariant} {one.rule}: {one.about}: {one.seen}") for one in shown]
    if len(report.violations) > _SHOWN:
        lines.append(f"and {len(report.violations) - _SHOWN} more")
    read = f"{sum(reading.records.values()):,} records read"
    kept = "" if reading.complete else "; older ones are gone or were not asked for"
    return "\n".join([*lines, f"{read}{kept}; {len(report.violations)} violations"])
