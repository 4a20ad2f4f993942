"""``replay``: a job runs again as it ran, and its two answers are compared."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import click

from shotbus.cli.answers import in_json
from shotbus.cli.common import (
    EXIT_FAILED,
    FiniteRange,
    Options,
    come_back,
    command_options,
    emit,
    plain,
    printable,
    run_async,
)
from shotbus.cli.jobs import as_tenant, connect
from shotbus.cli.progress import spinner, way_back
from shotbus.cli.submission import tenant_option
from shotbus.producers.replay import TOLERANCE, Replay, compared

# A content address fits.
_SHORT = 72


@click.command(short_help="Run a job again and compare the answers.")
@click.argument("job_id")
@click.option("--pool", default="", help="Where to [default: where it ran].")
@click.option("--pay", is_flag=True, help="On a pool that costs, too.")
@click.option(
    "--tolerance",
    type=FiniteRange(1e-12, 1, max_open=True),
    default=TOLERANCE,
    show_default=True,
    metavar="P",
    help="How often chance may bring equal answers this far apart.",
)
@click.option("--timeout", type=FiniteRange(0), help="Seconds to wait for either answer.")
@tenant_option
@command_options
def replay(options: Options, job_id: str, **given: Any) -> None:
    """Run JOB_ID again, with its seed, options and bindings, as a new job, and compare the answers.

    Says in what the provenances of the two differ: versions, calibration, host. Exit code 0: the answers
    are the same bits, or agree within what chance allows; 1: they differ, or the new job failed; 2: the pool
    costs and --pay was not given; 4: there is no such job, or its request is not kept any more.
    """
    told = run_async(_replay(options, job_id, **given))
    if told.verdict == "differs":
        sys.exit(EXIT_FAILED)


async def _replay(options: Options, job_id: str, timeout: float | None, **given: Any) -> Replay:
    tenant, tolerance = given["tenant"], given.pop("tolerance")
    async with connect(options) as client:
        first = await client.job(job_id, tenant=tenant).result(timeout)
        job = await client.submit_again(first, **given)
        back = come_back(options, "result", job.job_id, *as_tenant(tenant))
        with way_back(f"{job.job_id} goes on; come back with: {back}"), spinner(f"waiting for {job.job_id}"):
            again = await job.result(timeout)
    told = compared(first, again, tolerance)
    emit(options, in_json(told.as_json()), "\n".join(_page(told)))
    return told


def _page(told: Replay) -> Iterator[str]:
    yield f"{told.again.job_id}  runs {told.first.job_id} again: {_verdict(told)}"
    for one in told.differences:
        yield printable(f"  {one.name}: {_short(one.was)} -> {_short(one.now)}")


def _verdict(told: Replay) -> str:
    if told.verdict == "identical":
        return "identical, bit for bit"
    if told.deviation < 0:
        return "differs, and cannot be compared"
    return f"{told.verdict}, deviation {told.deviation:.4g}, chance allows {told.allowed:.4g}"


def _short(value: Any) -> str:
    if value is None:
        return "not told"
    text = value if isinstance(value, str) else json.dumps(plain(value))
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}…"
