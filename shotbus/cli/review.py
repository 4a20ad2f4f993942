"""``review list|approve|reject``: jobs that wait for a person's word."""

from __future__ import annotations

import click

from shotbus.cli.common import Options, command_options, emit, run_async
from shotbus.cli.jobs import unconnected
from shotbus.cli.listing import PENDING, Wanted, show
from shotbus.cli.submission import tenant_option
from shotbus.producers.deciding import review_wish
from shotbus.schemas.errors import ShotbusError

_WORDS = {
    "approve": "is approved: it goes its way",
    "reject": "is rejected: it takes the next step of its chain, or ends",
}


@click.group()
def review() -> None:
    """List, approve and reject jobs that wait for a person's word."""


@review.command("list", short_help="List the jobs that wait for a person's word.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Most jobs.")
@click.option("--offset", type=click.IntRange(0), default=0, help="Pass over so many newer ones.")
@click.option("--tenant", help="Only this tenant's.")
@command_options
def list_pending(options: Options, limit: int, offset: int, tenant: str | None) -> None:
    """List the jobs that wait for a person's word; ``shotbus why JOB`` says which rule asks for it."""
    run_async(show(options, limit, offset, tenant, Wanted(sub_status=PENDING)))


@review.command(short_help="Let a job go.")
@click.argument("job_id")
@click.option("--reason", default="", help="Why; kept with the job and in the audit log. It must be there.")
@tenant_option
@command_options
def approve(options: Options, job_id: str, reason: str, tenant: str) -> None:
    """Let JOB_ID go. Returns when its dispatcher has obeyed; exit code 4 when no such job waits for it."""
    run_async(_decide(options, "approve", job_id, reason, tenant))


@review.command(short_help="Turn a job down.")
@click.argument("job_id")
@click.option("--reason", default="", help="Why; kept with the job and in the audit log. It must be there.")
@tenant_option
@command_options
def reject(options: Options, job_id: str, reason: str, tenant: str) -> None:
    """Turn JOB_ID down: it takes the next step of its fallback chain, or fails with SB-4010."""
    run_async(_decide(options, "reject", job_id, reason, tenant))


async def _decide(options: Options, verdict: str, job_id: str, reason: str, tenant: str) -> None:
    _, problems = review_wish(verdict, job_id, tenant=tenant, reason=reason)
    if problems:
        raise ShotbusError(problems)
    async with unconnected(options) as client:
        await client.start()
        decide = client.approve if verdict == "approve" else client.reject
        await decide(job_id, reason=reason, tenant=tenant)
    emit(options, {"job_id": job_id, "verdict": verdict}, f"{job_id} {_WORDS[verdict]}")
