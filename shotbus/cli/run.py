"""``run FILE``: submit a plan's sweeps, follow them, report."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from shotbus.broker.bus.base import BusError
from shotbus.broker.connect import parse_url
from shotbus.cli.common import EXIT_FAILED, FiniteRange, Options, come_back, command_options, emit
from shotbus.cli.jobs import unconnected
from shotbus.cli.progress import follow, spinner
from shotbus.producers.client import AsyncClient
from shotbus.producers.embedded import is_running
from shotbus.producers.plan import Output, Plan, Reduction
from shotbus.producers.quality import quality_options
from shotbus.producers.request import check_envelope
from shotbus.producers.sweep import ReadySweep
from shotbus.producers.wishes import Wishes
from shotbus.runfile import RunFile, RunMemory, RunSection, load_run, memory_of
from shotbus.schemas.errors import Problem, ShotbusError, fail


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Where the picture goes.")
@click.option("--fresh", is_flag=True, help="Do not resume an interrupted run of this file.")
@click.option("--timeout", type=FiniteRange(0), help="Seconds to wait for the sweeps.")
@command_options
def run(options: Options, file: Path, *, plot: Path | None, fresh: bool, timeout: float | None) -> None:
    """Run FILE and print its report. Ctrl-C leaves it resumable: run the same command again."""
    told = load_run(file, lambda section: _check(options, section))
    memory = memory_of(told.fingerprint, options.url, options.config.broker.prefix)
    if fresh:
        memory.forget()
    again = come_back(options, "run", file)
    png = plot or (Path(told.output.png) if told.output.png else None)
    try:
        _check_output(png)
        with spinner(f"planning {told.run.name}"):
            plan = told.plan()
        # The report is the result; with --json that is the document, and the report only comments on it.
        console = Console(stderr=options.as_json)
        work = _run(options, told, plan, memory, Output(console, png), timeout=timeout)
        failed = asyncio.run(_heed_interrupt(work))
    except KeyboardInterrupt:
        click.echo(f"\ninterrupted; what is finished is kept. Go on with: {again}", err=True)
        sys.exit(130)
    except TimeoutError as error:
        hint = f"what is finished is kept; go on with: {again}"
        raise fail("SB-4006", "--timeout", limit=f"{timeout} s", hint=hint) from error
    sys.exit(EXIT_FAILED if failed else 0)


async def _heed_interrupt(work: Coroutine[Any, Any, bool]) -> bool:
    """Say at once that Ctrl-C was heard, whatever the work is at: what it started takes seconds to stop."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        click.echo("\nstopping", err=True)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise


def _check(options: Options, run: RunSection) -> list[Problem]:
    """Find what a submission would be refused for, before planning, which may take a while."""
    wishes = Wishes(
        priority=run.priority,
        intent=run.intent,
        tenant=run.tenant,
        experiment=run.experiment or run.name,
        backend=run.backend,
        family=run.family,
        family_version=run.family_version,
        options=quality_options(run.quality.as_options(), None)[0],
    )
    now_ms = time.time_ns() // 1_000_000
    # The principal is the client's to fill in.
    found = check_envelope(replace(wishes, principal="run"), options.config, shots=1, now_ms=now_ms)
    if run.backend not in {"", *options.config.pools}:
        found += asyncio.run(_check_pool(options, run.backend))
    return [one.under("$.run") for one in found]


async def _check_pool(options: Options, pool: str) -> list[Problem]:
    """Find out whether a pool that is not configured here is one; a broker that runs is asked."""
    directory = parse_url(options.url).directory
    if directory is not None and not is_running(directory):
        # The broker that this command starts will have this configuration.
        known = ", ".join(sorted(options.config.pools))
        return [Problem("SB-1102", "$.backend", limit=known, actual=pool, hint="see shotbus pools list")]
    try:
        async with AsyncClient(options.url, config=options.config) as client:
            return await client.check_pool(pool)
    except (BusError, ShotbusError):
        # Nobody to ask. The run itself says so when it connects, unless the file is wrong anyway.
        return []


def _check_output(png: Path | None) -> None:
    """Refuse a picture that could not be written, before the work is done."""
    if png is not None and not os.access(png.parent, os.W_OK):
        hint = "create the folder, or choose another place with --plot"
        raise fail("SB-2003", str(png), limit="a folder that can be written", hint=hint)


async def _run(
    options: Options, told: RunFile, plan: Plan, memory: RunMemory, output: Output, *, timeout: float | None
) -> bool:
    """Return whether a shard failed."""
    known = memory.recall()
    ids = {sweep.name: known.get(sweep.name) or os.urandom(12).hex() for sweep in plan.sweeps}
    points = {sweep.name: sum(job.points for job in sweep.jobs) for sweep in plan.sweeps}
    async with unconnected(options) as client:
        ready = await _prepare(client, told, plan, ids)
        if known:
            click.echo("resuming: shards that are finished are not run again", err=True)
        await client.start()
        memory.remember(ids)
        try:
            sweeps = {one.sweep_id: one for one in await client.submit_ready(ready)}
        except ShotbusError:
            if not known:
                memory.forget()  # nothing was published, so there is nothing to go on with
            raise
        named = {name: sweeps[sweep_id] for name, sweep_id in ids.items()}
        reductions = await follow(named, points, timeout)
    _finish(options, plan, reductions, output)
    memory.forget()
    return any(reduction.failed for reduction in reductions.values())


async def _prepare(
    client: AsyncClient, told: RunFile, plan: Plan, ids: Mapping[str, str]
) -> list[ReadySweep]:
    """Check and encode every sweep before anything starts. Raises ShotbusError with everything wrong."""
    return await client.prepare_plans(
        plan.sweeps,
        sweep_ids=[ids[sweep.name] for sweep in plan.sweeps],
        priority=told.run.priority,
        intent=told.run.intent,
        tenant=told.run.tenant,
        experiment=told.run.experiment or told.run.name,
        backend=told.run.backend or None,
        family=told.run.family,
        family_version=told.run.family_version,
        quality=told.run.quality.as_options(),
    )


def _finish(options: Options, plan: Plan, reductions: Mapping[str, Reduction], output: Output) -> None:
    plan.report(reductions, output)
    cached = sum(reduction.from_cache for reduction in reductions.values())
    total = sum(reduction.shards for reduction in reductions.values())
    if cached:
        output.console.print(f"{cached} of {total} shards were served from the cache")
    if options.as_json:
        emit(options, {name: _summary(one) for name, one in reductions.items()}, "")


def _summary(reduction: Reduction) -> dict[str, object]:
    return {
        "sweep_id": reduction.sweep_id,
        "shards": reduction.shards,
        "succeeded": reduction.succeeded,
        "failed": reduction.failed,
        "from_cache": reduction.from_cache,
        "points": reduction.points,
        "shots": reduction.shots,
        "arrays": reduction.arrays,
    }
