"""``doctor``: the effective configuration with its origins, and whether what it names answers."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from importlib import metadata
from typing import Any

import click

from shotbus.broker.bus.base import BusError
from shotbus.broker.config_loader import effective
from shotbus.broker.connect import OWN_MEMORY, open_bus, open_store, parse_url, topics_for
from shotbus.broker.store.base import StoreError
from shotbus.broker.urls import public_url
from shotbus.cli.common import EXIT_UNREACHABLE, Options, command_options, emit, run_async, table
from shotbus.producers.embedded import is_running


@click.command()
@click.option("--all", "everything", is_flag=True, help="Print defaults too.")
@command_options
def doctor(options: Options, *, everything: bool) -> None:
    """Check the configuration and everything it points to."""
    if not run_async(_doctor(options, everything=everything)):
        raise SystemExit(EXIT_UNREACHABLE)


async def _doctor(options: Options, *, everything: bool) -> bool:
    checks = [("python", "ok", sys.version.split()[0]), *_packages()]
    checks.append(await _check("bus", lambda: _bus(options)))
    checks.append(await _check("store", lambda: _store(options)))
    checks += _pools(options)
    values = [row for row in effective(options.loaded) if everything or row[2] != "default"]
    text = "\n\n".join(
        [
            table(checks, ("check", "state", "detail")),
            table(values, ("key", "value", "from"), empty="every value is its default; --all prints them"),
        ]
    )
    url = public_url(options.url)
    data: dict[str, Any] = {"url": url, "checks": checks, "configuration": values}
    emit(options, data, f"url {url}\n\n{text}")
    return all(state == "ok" for _, state, _ in checks)


def _packages() -> list[tuple[str, str, str]]:
    names = ("shotbus", "aiokafka", "fastavro", "qiskit", "qiskit-aer", "pennylane", "redis")
    return [(name, "ok", metadata.version(name)) for name in names]


def _pools(options: Options) -> list[tuple[str, str, str]]:
    """Return a check for each pool whose adapter refuses its options; what is not here cannot be asked."""
    from shotbus.roles import adapter_problems

    config = options.config
    wrong = {
        pool: "; ".join(str(one) for one in adapter_problems(config, pool) if one.code != "SB-1102")
        for pool in config.pools
    }
    return [(f"pool {pool}", "failed", told) for pool, told in wrong.items() if told]


async def _check(name: str, work: Callable[[], Awaitable[str]]) -> tuple[str, str, str]:
    try:
        return name, "ok", await work()
    except (BusError, StoreError, OSError) as error:
        return name, "failed", str(error)


async def _bus(options: Options) -> str:
    address = parse_url(options.url)
    if address.untouched:
        return f"nothing in {address.directory} yet"
    bus = open_bus(address, options.config, client_id="shotbus-doctor")
    await bus.start()
    try:
        existing = await bus.topics()
    finally:
        await bus.close()
    declared = topics_for(address, options.config).specs(options.config.pools)
    missing = sum(spec.name not in existing for spec in declared)
    running = ""
    if address.directory is not None:
        running = ", broker runs" if is_running(address.directory) else ", no broker runs"
    return f"{bus.capabilities.name}, {len(declared) - missing} of {len(declared)} topics{running}"


async def _store(options: Options) -> str:
    address = parse_url(options.url)
    if address.untouched:
        return "comes with the bus"
    store = open_store(address, options.config)
    await store.start()
    try:
        await store.get_many(["doctor"])
    finally:
        await store.close()
    if address.store == OWN_MEMORY:
        return "none is shared: lists and the result cache are each process's own"
    return type(store).__name__
