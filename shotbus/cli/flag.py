"""``flag``: switch a feature flag of the routing policy on every dispatcher."""

from __future__ import annotations

import click

from shotbus.cli.common import Options, command_options, emit, run_async
from shotbus.cli.jobs import unconnected
from shotbus.producers.deciding import flag_wish
from shotbus.schemas.errors import ShotbusError


@click.command(short_help="Switch a feature flag.")
@click.argument("name")
@click.argument("value", metavar="on|off|PERCENT|default")
@click.option("--reason", default="", help="Why; kept in the audit log. It must be there.")
@command_options
def flag(options: Options, name: str, value: str, reason: str) -> None:
    """Switch the feature flag NAME, one of [flags]; default goes back to what is configured.

    Returns when every dispatcher obeys. It outlives restarts.
    """
    run_async(_switch(options, name, value, reason))


async def _switch(options: Options, name: str, value: str, reason: str) -> None:
    _, problems = flag_wish(name, value, reason=reason)
    if problems:
        raise ShotbusError(problems)
    async with unconnected(options) as client:
        await client.start()
        shards = await client.set_flag(name, value, reason=reason)
    emit(options, {"flag": name, "value": value, "shards": shards}, f"{name} is {value} on {shards} shards")
