"""``pools list|pause|resume|drain``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from shotbus.broker.dispatcher.credits import SILENT_SECONDS
from shotbus.broker.pools import PoolsTail
from shotbus.cli.common import Options, command_options, emit, run_async, table
from shotbus.cli.jobs import connect
from shotbus.schemas.errors import fail


@click.group()
def pools() -> None:
    """List, pause, resume and drain pools."""


@pools.command("list")
@command_options
def list_pools(options: Options) -> None:
    """List the workers and dispatchers that advertise themselves."""
    run_async(_list(options))


async def _list(options: Options) -> None:
    adverts: dict[bytes, Mapping[str, Any]] = {}

    def learn(key: bytes, fields: Mapping[str, Any] | None, heard: float) -> None:
        del heard
        if fields is None:
            adverts.pop(key, None)
        else:
            adverts[key] = fields

    async with connect(options) as client:
        await PoolsTail(client.session.bus, client.session.topics, learn).catch_up()
    now = time.time() * 1000
    alive = [one for one in adverts.values() if now - one["at_ms"] < SILENT_SECONDS * 1000]
    columns = ("role", "pool", "name", "state", "slots", "partitions", "done", "failed", "grants")
    rows = [
        [one[column] for column in columns]
        for one in sorted(alive, key=lambda one: (one["role"], one["pool"]))
    ]
    emit(options, alive, table(rows, columns))


def _command(verb: str, text: str) -> click.Command:
    @click.command(verb, help=text)
    @click.argument("pool")
    @command_options
    @click.option("--reason", default="")
    def command(options: Options, pool: str, reason: str) -> None:
        if pool not in options.config.pools:
            raise fail("SB-1102", "POOL", limit=", ".join(sorted(options.config.pools)), actual=pool)
        run_async(_control(options, verb, pool, reason))

    return command


async def _control(options: Options, verb: str, pool: str, reason: str) -> None:
    async with connect(options) as client:
        await client.control_pool(verb, pool, reason=reason)
        emit(options, {"pool": pool, "command": verb}, f"{verb}: {pool}")


for _verb, _text in {
    "pause": "Send no new work to POOL; what runs goes on.",
    "resume": "Send work to POOL again.",
    "drain": "The same as pause: POOL finishes what it holds and gets no more.",
}.items():
    pools.add_command(_command(_verb, _text))
