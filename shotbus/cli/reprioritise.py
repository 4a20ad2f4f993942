"""``reprioritise``: change class, deadline, pool, window or begin of what waits already."""

from __future__ import annotations

import sys
from typing import Any, cast

import click

from shotbus.cli.common import EXIT_FAILED, Options, command_options, emit, printable, run_async
from shotbus.cli.jobs import refuse, unconnected
from shotbus.cli.submission import tenant_option
from shotbus.producers.changing import Changed, ChangeOptions, wish_of


@click.command(short_help="Change what waits already.")
@click.argument("job", required=False)
@click.option("--sweep", metavar="ID", help="Every job of this sweep, instead of one JOB.")
@click.option("--experiment", metavar="NAME", help="Every job of this experiment, instead of one JOB.")
@click.option("--class", "priority", help="Another priority class.")
@click.option("--deadline", type=float, metavar="SECONDS", help="From now; later it is of no use.")
@click.option("--pool", help="Where to run instead.")
@click.option("--window", metavar="NAME", help="Named window in which to run.")
@click.option("--not-before", type=float, metavar="SECONDS", help="From now; it waits so long.")
@click.option("--reason", default="", help="Why; kept with the change. It must be there.")
@tenant_option
@command_options
def reprioritise(options: Options, **given: Any) -> None:
    """Change JOB, or every job of a sweep or an experiment, while it waits.

    What a worker has already is not changed. Says how many jobs changed, and why others did not: then exit
    code 1. Nothing that is meant and lives is exit code 4.
    """
    run_async(_reprioritise(options, cast("ChangeOptions", given)))


async def _reprioritise(options: Options, wanted: ChangeOptions) -> None:
    async with unconnected(options) as client:
        _, problems = wish_of(wanted, options.config)
        await refuse(client, problems, wanted["pool"])
        await client.start()
        found = await client.reprioritise(**wanted)
    emit(options, _data(found), _text(found))
    if found.refused or found.problems:
        sys.exit(EXIT_FAILED)


def _data(found: Changed) -> dict[str, Any]:
    problems = [{"problem": text, "jobs": count} for text, count in found.problems]
    return {"changed": found.changed, "refused": found.refused, "problems": problems}


def _text(found: Changed) -> str:
    lines = [f"{found.changed} {'job' if found.changed == 1 else 'jobs'} changed"]
    lines += [f"{count or 'all'} not changed: {printable(text)}" for text, count in found.problems]
    return "\n".join(lines)
