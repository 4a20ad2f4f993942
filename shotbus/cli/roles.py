"""``up``, ``dispatcher``, ``worker``, ``reducer``: long-running processes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import click

from shotbus.broker.config_rules import check_config
from shotbus.broker.connect import parse_url
from shotbus.broker.files import make_private_directory, private
from shotbus.broker.telemetry import configure_logging
from shotbus.broker.urls import public_url
from shotbus.cli.common import Options, command_options, run_async
from shotbus.producers.embedded import LOCK_NAME
from shotbus.schemas.errors import ShotbusError, fail


def _announce(options: Options, role: str, metrics: str | None) -> None:
    """Say on standard output that the process serves; a parent or a script waits for this line."""
    url, pid = public_url(options.url), os.getpid()
    line = {"ready": True, "role": role, "url": url, "pid": pid, "metrics": metrics}
    text = f"{role} ready on {url} (pid {pid}), metrics {f'at {metrics}' if metrics else 'off'}"
    click.echo(json.dumps(line) if options.as_json else text)
    sys.stdout.flush()


@contextlib.contextmanager
def _on_directory(directory: Path, *, alone: bool) -> Iterator[IO[bytes]]:
    """Hold the data directory's lock: ``up`` alone, single roles together with other roles.

    Raises ShotbusError (SB-2005) when the directory is held the other way.
    """
    make_private_directory(directory)
    with open(directory / LOCK_NAME, "ab", opener=private) as lock:
        try:
            fcntl.flock(lock, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except OSError as error:
            hint = "a broker runs there already: use it with --data, or choose another directory"
            raise fail("SB-2005", str(directory), hint=hint) from error
        yield lock


@click.command()
@click.option("--with-parent", is_flag=True, help="Stop when standard input ends.")
@click.option("--pool", "pools", multiple=True, help="Pools to run (default: all configured).")
@command_options
def up(options: Options, *, with_parent: bool, pools: tuple[str, ...]) -> None:
    """Run dispatcher, reducer and a worker of every pool in one process, embedded."""
    address = parse_url(options.url)
    if address.directory is None:
        raise fail("SB-2002", "--url", limit="sqlite:///DIR", hint="on Kafka run the roles as processes")
    for pool in pools:
        _check_pool(options, pool)
    _check_adapters(options, pools or tuple(options.config.pools))
    configure_logging(options.config.log)
    with _on_directory(address.directory, alone=True):
        run_async(_up(options, pools or tuple(options.config.pools), with_parent=with_parent))


async def _up(options: Options, pools: tuple[str, ...], *, with_parent: bool) -> None:
    from shotbus import roles

    async with roles.process(options.url, options.config, "up") as context:
        services = [*roles.broker(context), roles.reducer(context)]
        services += [roles.worker(context, pool) for pool in pools]
        until = _stdin_end() if with_parent else None
        await roles.serve(services, ready=lambda: _announce(options, "up", context.metrics_url), until=until)


def _check_pool(options: Options, pool: str) -> None:
    if pool not in options.config.pools:
        raise fail("SB-1102", "--pool", limit=", ".join(sorted(options.config.pools)), actual=pool)


def _check_adapters(options: Options, pools: Sequence[str]) -> None:
    """Refuse pools that cannot be served before anything is connected (SB-1102, SB-2001, SB-2002)."""
    from shotbus.roles import adapter_problems

    if problems := [one for pool in pools for one in adapter_problems(options.config, pool)]:
        raise ShotbusError(problems)


async def _stdin_end() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


_instance = click.option(
    "--instance",
    metavar="NAME",
    help="This process's own name, kept over restarts: on Kafka it is back sooner.",
)


@click.command()
@_instance
@command_options
def dispatcher(options: Options, instance: str | None) -> None:
    """Run a dispatcher; start as many as you like."""
    _run_role(_named(options, instance), "dispatcher")


@click.command()
@_instance
@command_options
def reducer(options: Options, instance: str | None) -> None:
    """Run a reducer; start as many as you like."""
    _run_role(_named(options, instance), "reducer")


@click.command()
@click.option("--pool", required=True, help="Pool to serve.")
@click.option("--concurrency", type=click.IntRange(1, 256), help="Child processes (default: the pool's).")
@_instance
@command_options
def worker(options: Options, pool: str, concurrency: int | None, instance: str | None) -> None:
    """Run a worker of one pool; replicas share its work."""
    _check_pool(options, pool)
    _check_adapters(options, (pool,))
    _run_role(_named(options, instance), "worker", pool, concurrency)


def _named(options: Options, instance: str | None) -> Options:
    """Return the options with ``--instance`` for the configured name. Raises ShotbusError (SB-2002)."""
    if instance is None:
        return options
    broker = dataclasses.replace(options.config.broker, instance=instance)
    config = dataclasses.replace(options.config, broker=broker)
    if problems := check_config(config):
        raise ShotbusError([dataclasses.replace(one, path="--instance") for one in problems])
    return dataclasses.replace(options, loaded=dataclasses.replace(options.loaded, config=config))


def _run_role(options: Options, role: str, pool: str = "", slots: int | None = None) -> None:
    configure_logging(options.config.log)
    directory = parse_url(options.url).directory
    held = _on_directory(directory, alone=False) if directory else contextlib.nullcontext()
    with held:
        run_async(_one(options, role, pool, slots))


async def _one(options: Options, role: str, pool: str = "", slots: int | None = None) -> None:
    from shotbus import roles

    async with roles.process(options.url, options.config, role) as context:
        if role == "worker":
            services = [roles.worker(context, pool, slots=slots)]
        else:
            services = roles.broker(context) if role == "dispatcher" else [roles.reducer(context)]
        await roles.serve(services, ready=lambda: _announce(options, role, context.metrics_url))
