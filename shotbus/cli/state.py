"""``state rebuild``: the store is disposable."""

from __future__ import annotations

import click

from shotbus.cli.common import Options, command_options, emit, run_async
from shotbus.cli.jobs import connect


@click.group()
def state() -> None:
    """Rebuild the read models from the topics."""


@state.command(short_help="Write every read model again.")
@command_options
def rebuild(options: Options) -> None:
    """Clear the store and write every read model again from the topics."""
    run_async(_rebuild(options))


async def _rebuild(options: Options) -> None:
    from shotbus.reducers.projector import Projector

    async with connect(options) as client:
        session = client.session
        count = await Projector(session.bus, session.store, session.topics).rebuild()
    emit(options, {"records": count}, f"read {count} records, wrote their read models")
