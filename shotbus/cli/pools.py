"""``pools list|pause|resume|drain``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import click

from shotbus.broker.dispatcher.credits import SILENT_SECONDS
from shotbus.broker.dispatcher.health import PoolState, Standing, view
from shotbus.broker.pools import PoolsTail
from shotbus.cli.common import (
    EXIT_FAILED,
    FiniteRange,
    Options,
    come_back,
    command_options,
    emit,
    printable,
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
#: What the workers of a pool say of its backend, as the broker's health has it.
_OF_BACKENDS = (
    *("calibration_id", "calibration_age", "fidelity", "t1_us", "t2_us"),
    *("provider_queue_seconds", "errors"),
)


@click.group()
def pools() -> None:
    """List, pause, resume and drain pools."""


@pools.command("list", short_help="List the pools and their state.")
@click.option("--wide", is_flag=True, help="List the dispatchers and workers too.")
@command_options
def list_pools(options: Options, *, wide: bool) -> None:
    """List the pools: whether they are paused, who serves them, what waits and what is in flight.

    A pool whose workers say that they can run nothing is unhealthy, and why. With --wide also what they say
    of their backends (calibration, fidelity, coherence), with --json also their whole advertisements.
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
    text = [table([list(row.values())[: len(columns)] for row in rows], columns)]
    text += [f"{row['pool']}: {printable(row['reason'])}" for row in rows if row["reason"]]
    if not heard:
        text.append("no dispatcher runs: nothing is sent to any pool")
    if wide:
        text += [_processes(alive), *_backends(rows)]
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
    health = view(name, alive, standing=Standing(), now_ms=time.time_ns() // 1_000_000)
    ill = health.state is PoolState.UNHEALTHY
    return {
        "pool": name,
        "state": "unhealthy" if ill and told.word == "ready" else told.word,
        "workers": len(workers),
        "slots": sum(one["slots"] for one in workers),
        "waiting": told.jobs,
        "in_flight": told.in_flight,
        "done": sum(one["done"] for one in workers),
        "failed": sum(one["failed"] for one in workers),
        "reason": health.reason if any(one.get("unhealthy") for one in workers) else "",
        "backend": {name: _known(getattr(health, name)) for name in _OF_BACKENDS},
    }


def _known(value: Any) -> Any:
    """Return a number or a name, None for what the broker's health has as negative or empty."""
    return None if value == "" or (isinstance(value, float) and value < 0) else value


def _backends(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table of what workers say of their backends, if they say anything."""
    told = [row for row in rows if row["backend"]["calibration_id"]]
    if not told:
        return []
    columns = ("pool", "calibration", "age s", "fidelity", "T1 us", "T2 us", "queue s", "errors")
    cells = [[row["pool"], *(_cell(row["backend"][name]) for name in _OF_BACKENDS)] for row in told]
    return [table(cells, columns)]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    return "-" if value is None else str(value)[:12]


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
@click.option("--timeout", type=FiniteRange(0), help="Seconds to wait; without it, until it is empty.")
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
