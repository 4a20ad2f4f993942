"""``pools list|pause|resume|drain``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import click

from shotbus.broker.dispatcher.credits import SILENT_SECONDS
from shotbus.broker.pools import PoolsTail
from shotbus.cli.common import (
    EXIT_FAILED,
    Options,
    come_back,
    command_options,
    emit,
    run_async,
    table,
)
from shotbus.cli.jobs import connect, unconnected
from shotbus.cli.progress import spinner, way_back
from shotbus.producers.asking import Count, Wish, count
from shotbus.producers.client import AsyncClient
from shotbus.schemas.errors import fail

_LIST_SECONDS = 3.0
_LOOK_SECONDS = 0.2
_NOBODY = Count("unknown", 0, 0)


@click.group()
def pools() -> None:
    """List, pause, resume and drain pools."""


@pools.command("list", short_help="List the pools and their state.")
@click.option("--wide", is_flag=True, help="List the dispatchers and workers too.")
@command_options
def list_pools(options: Options, *, wide: bool) -> None:
    """List the pools: whether they are paused, who serves them, what waits and what is in flight.

    With --json also the advertisements of the dispatchers and workers.
    """
    run_async(_list(options, wide=wide))


async def _list(options: Options, *, wide: bool) -> None:
    async with connect(options) as client:
        alive = await _alive(client)
        names = sorted({*await client.session.pools(), *(one["pool"] for one in alive if one["pool"])})
        heard = any(one["role"] == "dispatcher" for one in alive)
        counts = await _counts(client, names) if heard else {}
    rows = [_row(name, counts.get(name, _NOBODY), alive) for name in names]
    columns = ("pool", "state", "workers", "slots", "waiting", "in flight", "done", "failed")
    text = [table([list(row.values()) for row in rows], columns)]
    if not heard:
        text.append("no dispatcher runs: nothing is sent to any pool")
    if wide:
        text.append(_processes(alive))
    emit(options, {"pools": rows, "processes": alive}, "\n\n".join(text))


async def _alive(client: AsyncClient) -> list[Mapping[str, Any]]:
    """Return the advertisements that are young enough."""
    adverts: dict[bytes, tuple[Mapping[str, Any], float]] = {}

    def learn(key: bytes, fields: Mapping[str, Any] | None, heard: float) -> None:
        adverts.pop(key, None)
        if fields is not None:
            adverts[key] = fields, heard

    await PoolsTail(client.session.bus, client.session.topics, learn).catch_up()
    now = time.monotonic()
    found = [fields for fields, heard in adverts.values() if now - heard < SILENT_SECONDS]
    return sorted(found, key=lambda one: (one["role"], one["pool"], one["name"]))


async def _counts(client: AsyncClient, names: Collection[str]) -> dict[str, Count]:
    """Ask the shards; a pool that not all of them answer about in time is missing."""
    asking = [count(client.session, [Wish("locate", "pool", name)], timeout=_LIST_SECONDS) for name in names]
    found = await asyncio.gather(*asking, return_exceptions=True)
    told = {}
    for name, answer in zip(names, found, strict=True):
        if isinstance(answer, BaseException):
            if not isinstance(answer, TimeoutError):
                raise answer
        else:
            told[name] = answer[0]
    return told


def _row(name: str, told: Count, alive: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    workers = [one for one in alive if one["pool"] == name]
    return {
        "pool": name,
        "state": told.word,
        "workers": len(workers),
        "slots": sum(one["slots"] for one in workers),
        "waiting": told.jobs,
        "in_flight": told.in_flight,
        "done": sum(one["done"] for one in workers),
        "failed": sum(one["failed"] for one in workers),
    }


def _processes(alive: Sequence[Mapping[str, Any]]) -> str:
    columns = ("role", "pool", "name", "state", "slots", "prefetch", "done", "failed")
    rows = [[one[name] if one["pool"] or name in columns[:4] else "-" for name in columns] for one in alive]
    return table(rows, columns, empty="no dispatcher and no worker advertises itself")


async def _check(client: AsyncClient, pool: str) -> None:
    if await client.check_pool(pool):
        known = ", ".join(sorted(await client.session.pools()))
        raise fail("SB-1102", "POOL", limit=known, actual=pool, hint="see shotbus pools list")


async def _obeyed(client: AsyncClient, verb: str, pool: str, reason: str) -> Count:
    """Connect and return what the shards say once they have obeyed; a pool is looked for first."""
    await _check(client, pool)
    await client.start()
    await _check(client, pool)
    told = await client.pool_state(pool, command=verb, reason=reason)
    if told.word == "unknown":
        hint = "no dispatcher is configured for it: see [pools] in their configuration"
        raise fail("SB-1102", "POOL", actual=pool, hint=hint)
    return told


def _report(pool: str, verb: str, told: Count) -> dict[str, Any]:
    numbers = {"waiting": told.jobs, "in_flight": told.in_flight}
    return {"pool": pool, "command": verb, "state": told.word, **numbers}


def _jobs(number: int) -> str:
    return "1 job" if number == 1 else f"{number} jobs"


@pools.command(short_help="Send no new work to a pool.")
@click.argument("pool")
@click.option("--reason", default="", help="Why; kept with the command.")
@command_options
def pause(options: Options, pool: str, reason: str) -> None:
    """Send no new work to POOL; what is in flight goes on. Returns when every dispatcher obeys."""
    run_async(_simple(options, "pause", pool, reason))


@pools.command(short_help="Send work to a pool again.")
@click.argument("pool")
@click.option("--reason", default="", help="Why; kept with the command.")
@command_options
def resume(options: Options, pool: str, reason: str) -> None:
    """Send work to POOL again. Returns when every dispatcher obeys."""
    run_async(_simple(options, "resume", pool, reason))


async def _simple(options: Options, verb: str, pool: str, reason: str) -> None:
    async with unconnected(options) as client:
        told = await _obeyed(client, verb, pool, reason)
    text = f"{pool} is {told.word}: {_jobs(told.jobs)} waiting, {_jobs(told.in_flight)} in flight"
    emit(options, _report(pool, verb, told), text)


@pools.command(short_help="Pause a pool and wait until it is empty.")
@click.argument("pool")
@click.option("--reason", default="", help="Why; kept with the command.")
@click.option("--timeout", type=click.FloatRange(0), help="Seconds to wait; without it, until it is empty.")
@command_options
def drain(options: Options, pool: str, reason: str, timeout: float | None) -> None:
    """Pause POOL and wait until nothing of it is in flight any more.

    Then its workers can be stopped and no work is done twice. The pool stays paused, also when the wait ends
    early: exit code 5 after the timeout, 1 when somebody resumes the pool meanwhile.
    """
    run_async(_drain(options, pool, reason, timeout))


async def _drain(options: Options, pool: str, reason: str, timeout: float | None) -> None:
    again = f"go on waiting with: {come_back(options, 'pools', 'drain', pool)}"
    async with unconnected(options) as client:
        told = await _obeyed(client, "drain", pool, reason)
        try:
            with way_back(f"{pool} stays paused; {again}"), spinner(f"draining {pool}") as say:
                async with asyncio.timeout(timeout):
                    while told.in_flight and told.word == "paused":
                        say(f"draining {pool}: {_jobs(told.in_flight)} in flight")
                        await asyncio.sleep(_LOOK_SECONDS)
                        told = await client.pool_state(pool)
        except TimeoutError as error:
            actual, hint = f"{_jobs(told.in_flight)} in flight", f"it stays paused; {again}"
            raise fail("SB-4006", "POOL", limit=f"{timeout} s", actual=actual, hint=hint) from error
    if told.word != "paused":
        emit(options, _report(pool, "drain", told), f"{pool} is {told.word}: somebody resumed it")
        raise SystemExit(EXIT_FAILED)
    text = f"{pool} is drained: nothing is in flight, {_jobs(told.jobs)} waiting"
    emit(options, _report(pool, "drain", told) | {"drained": True}, text)
