"""``sweep submit|status|cancel``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from shotbus.cli.answers import histogram
from shotbus.cli.common import (
    EXIT_FAILED,
    FiniteRange,
    Options,
    aside,
    come_back,
    command_options,
    emit,
    printable,
    run_async,
    table,
)
from shotbus.cli.inputs import read_points, read_text
from shotbus.cli.jobs import (
    as_tenant,
    check_timeout,
    complete,
    connect,
    refuse,
    unconnected,
)
from shotbus.cli.progress import follow, way_back
from shotbus.cli.submission import submission_options, tenant_option
from shotbus.producers.client import AsyncClient
from shotbus.producers.plan import Reduction
from shotbus.producers.shards import Reason, reasons_of
from shotbus.producers.sweep import AsyncSweep
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import Problem, ShotbusError, fail
from shotbus.schemas.pub import Counts
from shotbus.schemas.reductions import REDUCTIONS

_ROWS = 34
_ARRIVAL_SECONDS = 1.0
_LOOK_SECONDS = 0.1
_SHOWN = (
    "sweep_id",
    "reduce",
    "final",
    "shards",
    "done",
    "succeeded",
    "failed",
    "from_cache",
    "points",
    "shots",
)


@click.group()
def sweep() -> None:
    """Submit, inspect and cancel sweeps."""


@sweep.command(short_help="Run a circuit over the points of a CSV file.")
@click.argument("circuit", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("points", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--reduce",
    metavar="REDUCTION",
    help=f"{', '.join(REDUCTIONS)} [default: expectation with --observable, else histogram].",
)
@click.option("--chunk", type=int, help="Points a job; without it the size decides.")
@submission_options
@click.option(
    "--wait/--no-wait", default=True, show_default=True, help="Wait for the reduction and print it."
)
@click.option("--timeout", type=FiniteRange(0), help="Seconds to wait.")
@command_options
def submit(
    options: Options, circuit: Path, points: Path, *, wait: bool, timeout: float | None, **given: Any
) -> None:
    """Run CIRCUIT over POINTS, a CSV file whose header names the parameters; - reads standard input.

    CIRCUIT is a file, or a template of the configuration, NAME@VERSION.

    Exit code 1 when a shard failed. Nothing is started or published when anything is wrong; everything that
    is wrong is said at once.
    """
    run_async(_submit(options, circuit, points, given, wait=wait, timeout=timeout))


async def _submit(
    options: Options, circuit: Path, points: Path, given: dict[str, Any], *, wait: bool, timeout: float | None
) -> None:
    problems = check_timeout(timeout, wait=wait) + complete(given)
    given["reduce"] = given["reduce"] or ("expectation" if given["observables"] else "histogram")
    async with unconnected(options) as client:
        try:
            bindings, wrong = read_points(points)
            problems += wrong
            template = str(circuit) in options.config.templates
            text = str(circuit) if template else read_text(circuit)
            ready = await client.prepare_sweep(text, bindings, **given)
        except ShotbusError as error:
            problems += error.problems
        await refuse(client, problems, given["backend"])
        await client.start()
        (handle,) = await client.submit_ready([ready])
        back = come_back(options, "sweep", "status", handle.sweep_id, *as_tenant(given["tenant"]))
        if not wait:
            emit(options, {"sweep_id": handle.sweep_id}, handle.sweep_id)
            aside(options, f"come back with: {back}")
            return
        count = len(next(iter(bindings.values())))
        with way_back(f"sweep {handle.sweep_id} goes on; come back with: {back}"):
            reduction = await _reduction(handle, count, timeout, back)
            reasons = await _reasons(client, reduction, given["tenant"], given["session"])
            _show(options, reduction, reasons)


async def _reduction(handle: AsyncSweep, points: int, timeout: float | None, back: str) -> Reduction:
    try:
        return (await follow({"points": handle}, {"points": points}, timeout))["points"]
    except TimeoutError as error:
        raise fail(
            "SB-4006", "$", limit=f"{timeout} s", hint=f"it goes on; come back with: {back}"
        ) from error


@sweep.command(short_help="Print a sweep's newest reduction.")
@click.argument("sweep_id")
@click.option("--session", default="", help="Session it was submitted in, which its jobs' ids tell.")
@tenant_option
@command_options
def status(options: Options, sweep_id: str, session: str, tenant: str) -> None:
    """Print the newest reduction of SWEEP_ID, and why shards failed; exit code 1 when one did."""
    run_async(_status(options, sweep_id, session, tenant))


async def _status(options: Options, sweep_id: str, session: str, tenant: str) -> None:
    async with connect(options) as client:
        newest = await newest_reduction(client, sweep_id, tenant)
        reasons = await _reasons(client, newest, tenant, session) if newest else []
    if newest is None:
        raise fail("SB-4007", "$.sweep_id", actual=sweep_id)
    _show(options, newest, reasons)


async def _reasons(client: AsyncClient, reduction: Reduction, tenant: str, session: str) -> list[Reason]:
    """Return why shards failed; of many failures those that the reduction names."""
    if not reduction.failed_shards:
        return []
    shards = reduction.failed_shards
    return await reasons_of(client.session, reduction.sweep_id, shards, tenant=tenant, group=session)


async def newest_reduction(client: AsyncClient, sweep_id: str, tenant: str) -> Reduction | None:
    """Return a tenant's newest reduction: of the store when it is final, else of the bus."""
    stored = await client.session.read_model(f"reduction:{sweep_id}")
    if stored is None or not decode(stored, "sweep_reduction")[1]["final"]:
        # The read model may lag behind, or the store be empty: the bus has the last word.
        record = await client.session.find_reduction(sweep_id)
        stored = record.value if record and record.value else stored
    if stored is None or decode(stored, "sweep_reduction")[1]["tenant"] != tenant:
        return None
    return Reduction.from_record(stored)


@sweep.command(short_help="Cancel every job of a sweep.")
@click.argument("sweep_id")
@tenant_option
@command_options
def cancel(options: Options, sweep_id: str, tenant: str) -> None:
    """Cancel every job of SWEEP_ID and say how many there were, or that it was finished before.

    Jobs that arrive later are cancelled on arrival. A sweep that nobody knows is exit code 4.
    """
    run_async(_cancel(options, sweep_id, tenant))


async def _cancel(options: Options, sweep_id: str, tenant: str) -> None:
    async with connect(options) as client:
        before, _ = await client.cancel_sweep_and_count(sweep_id, tenant=tenant)
        newest = await _known(client, sweep_id, tenant, wanted=not before.jobs)
    data = {"sweep_id": sweep_id, "cancelled": before.jobs, "final": bool(newest and newest.final)}
    if newest and newest.final and not before.jobs:
        text = (
            f"sweep {sweep_id} had finished already: {newest.succeeded} of {newest.shards} shards succeeded"
        )
    else:
        text = f"cancelled {before.jobs} {'job' if before.jobs == 1 else 'jobs'} of sweep {sweep_id}"
    emit(options, data, text)


async def _known(client: AsyncClient, sweep_id: str, tenant: str, *, wanted: bool) -> Reduction | None:
    """Return the newest reduction; when ``wanted`` wait a little, as jobs and reductions take their time.

    Raises ShotbusError (SB-4007) when one is wanted and there is none.
    """
    deadline = time.monotonic() + _ARRIVAL_SECONDS
    while (newest := await newest_reduction(client, sweep_id, tenant)) is None and wanted:
        if time.monotonic() > deadline:
            hint = "check the id and the tenant; jobs of it that arrive within ten minutes are cancelled"
            raise fail("SB-4007", "$.sweep_id", actual=sweep_id, hint=hint)
        await asyncio.sleep(_LOOK_SECONDS)
    return newest


def _show(options: Options, reduction: Reduction, reasons: Sequence[Reason]) -> None:
    """Print a reduction; exit code 1 when a shard failed, 2 when the declaration was refused."""
    refused = [Problem.from_record(one) for one in reduction.meta.get("problems", ())]
    if refused:
        raise ShotbusError(refused)
    data = {name: getattr(reduction, name) for name in _SHOWN}
    head = [f"{name:11} {value}" for name, value in data.items()]
    why = [printable(f"  {one}") for one in reasons]
    data |= {"failed_shards": reduction.failed_shards, "reasons": [one.as_json() for one in reasons]}
    data["versions"] = reduction.versions
    text = "\n".join([*head, *_mixed(reduction), *why, *_values(reduction)])
    emit(options, data | {"arrays": reduction.arrays}, text)
    if reduction.failed:
        raise SystemExit(EXIT_FAILED)


def _mixed(reduction: Reduction) -> Iterator[str]:
    """Yield a line for each set of versions of a sweep that ran on several, with what they differ in."""
    told = [one["versions"] for one in reduction.versions]
    names = sorted({name for one in told for name in one})
    differing = [name for name in names if len({one.get(name, "") for one in told}) > 1]
    if differing:
        yield f"versions    {len(told)} sets: these numbers were not made by one"
    for one in reduction.versions if differing else ():
        words = ", ".join(f"{name} {one['versions'].get(name, 'none')}" for name in differing)
        yield printable(f"  {one['shards']} shards: {words}")


def _values(reduction: Reduction) -> list[str]:
    """Return the rows of an ``expectation`` or ``minimum``, the commonest outcomes of a ``histogram``."""
    arrays = reduction.arrays
    if "values" in arrays:
        pairs = zip(arrays["values"], arrays["stds"], strict=True)
        rows = [[row, f"{value:.9f}", f"{std:.2g}"] for row, (value, std) in enumerate(pairs)]
        return ["", *_head(table(rows, ("row", "value", "±")))]
    if "counts" in arrays:
        counts = Counts(
            tuple((str(name), int(width)) for name, width in reduction.meta.get("registers", ())),
            arrays["indptr"],
            arrays["outcomes"],
            arrays["counts"],
        )
        return ["", *histogram(counts.row(0))]
    return []


def _head(text: str) -> list[str]:
    lines = text.splitlines()
    more = [f"… and {len(lines) - _ROWS} more rows; --json has them all"] if len(lines) > _ROWS else []
    return lines[:_ROWS] + more
