"""``calibration``: a snapshot by its id, or the one that a job ran under."""

from __future__ import annotations

import json

import click

from shotbus.cli.common import Options, command_options, emit, run_async
from shotbus.cli.jobs import connect
from shotbus.cli.submission import tenant_option


@click.command(short_help="Print a calibration by its id.")
@click.argument("calibration_id", required=False)
@click.option("--job", "job_id", help="The one that this job ran under, instead of an id.")
@tenant_option
@command_options
def calibration(options: Options, calibration_id: str | None, job_id: str | None, tenant: str) -> None:
    """Print the calibration snapshot CALIBRATION_ID, as the provenance of results and pools list name it.

    The first eight digits or more will do where they mean but one. Exit code 4: nothing that is kept ran
    under it.
    """
    if (calibration_id is None) == (job_id is None):
        raise click.UsageError("name either a calibration or --job")
    run_async(_print(options, calibration_id or "", job_id or "", tenant))


async def _print(options: Options, calibration_id: str, job_id: str, tenant: str) -> None:
    async with connect(options) as client:
        if job_id:
            found = await client.job(job_id, tenant=tenant).calibration()
        else:
            found = await client.calibration(calibration_id)
    emit(options, found, json.dumps(found, indent=2))
