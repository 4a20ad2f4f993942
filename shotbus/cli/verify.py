"""``verify``: the invariants on what a real broker has on its topics, while it runs."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shotbus.broker.connect import open_bus, parse_url, topics_for
from shotbus.cli.common import EXIT_FAILED, Options, command_options, emit, printable, run_async, table
from shotbus.schemas.errors import fail

if TYPE_CHECKING:
    from shotbus.broker.bus.base import Bus
    from shotbus.broker.invariants.findings import Bounds
    from shotbus.broker.invariants.reading import Reading
    from shotbus.broker.invariants.witnesses import ProviderLedger

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
@click.option("--longest-wait", metavar="DURATION", help="I8: no job may wait in a queue for longer.")
@click.option("--healed", metavar="DURATION", help="I16: so long ago the last fault was healed.")
@click.option("--heal-within", metavar="DURATION", help="I16: so soon after that each job must have ended.")
@click.option(
    "--ledger",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A provider's books, for what it was sent and has billed (I3, I5, I12): JSON.",
)
@command_options
def verify(options: Options, *, since: str | None, ledger: Path | None, **told: str | None) -> None:
    """Check the invariants I1 to I16 on what the topics hold; exit 1 when one is broken.

    Works on a running broker, whose jobs under way break nothing, and starts none. Says what could not be
    judged, and why; docs/invariants.md tells how each is judged, and what the options are for.
    """
    from shotbus.cli.ledgerfile import read_ledger

    seconds = None if since is None else duration(since)
    books = None if ledger is None else read_ledger(ledger)
    if run_async(_verify(options, seconds, _bounds(**told), books)):
        raise SystemExit(EXIT_FAILED)


def _bounds(longest_wait: str | None, healed: str | None, heal_within: str | None) -> Bounds:
    """Return the numbers to judge by. Raises click.UsageError for half of a pair."""
    from shotbus.broker.invariants.findings import Bounds

    if (healed is None) != (heal_within is None):
        raise click.UsageError("--healed and --heal-within go together")
    now_ms = int(time.time() * 1000)
    return Bounds(
        wait_seconds=None if longest_wait is None else duration(longest_wait),
        healed_ms=None if healed is None else now_ms - int(duration(healed) * 1000),
        heal_seconds=None if heal_within is None else duration(heal_within),
        now_ms=now_ms,
    )


async def _verify(
    options: Options, seconds: float | None, bounds: Bounds, ledger: ProviderLedger | None
) -> int:
    from shotbus.broker.invariants.reading import verify as read_and_judge

    topics = topics_for(parse_url(options.url), options.config)
    since_ms = None if seconds is None else int((time.time() - seconds) * 1000)
    async with opened_bus(options) as bus:
        reading = await read_and_judge(bus, topics, since_ms=since_ms, bounds=bounds, ledger=ledger)
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
        (name, one.title, *_counts(report.judged[name], broken[name]), report.unjudged.get(name, ""))
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


def _counts(judged: int, broken: int) -> tuple[str, str]:
    """Return both as text. No look at all is not the same as looks that found nothing."""
    return (f"{judged:,}", f"{broken:,}") if judged or broken else ("-", "-")
