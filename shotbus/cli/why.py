"""``why``: where a job is, and every step by which it came there, with the terms of each decision."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import click

from shotbus.cli.answers import in_brief, in_json
from shotbus.cli.common import Options, command_options, emit, printable, run_async
from shotbus.cli.jobs import connect, handle, problem_lines
from shotbus.cli.steps import term_lines
from shotbus.cli.submission import tenant_option
from shotbus.cli.verify import duration
from shotbus.producers.queueing import ordinal
from shotbus.schemas.errors import fail
from shotbus.schemas.outcomes import status_of


@click.command(short_help="Say why a job is where it is.")
@click.argument("job_id", required=False)
@click.option("--pool", help="What was decided about this pool, instead of about a job.")
@click.option(
    "--since", metavar="DURATION", default="1d", show_default=True, help="With --pool: 90s, 15m, 2h, 3d."
)
@tenant_option
@command_options
def why(options: Options, job_id: str | None, pool: str | None, since: str, tenant: str) -> None:
    """Say where JOB_ID is, and print its trail: time, state, cause, attempt, pool, terms of each decision.

    Works for finished jobs too, and for submissions that were refused, as long as events are kept, and from
    any process.

    With --pool NAME: what was decided about a pool, by whom and why: breaker, watermarks, shedding, health,
    repeats that were held back, pauses. Each shard decides for itself.
    """
    if (job_id is None) == (pool is None):
        raise click.UsageError("name either a job or --pool")
    if pool is not None:
        run_async(_why_pool(options, pool, duration(since)))
    elif job_id is not None:
        run_async(_why(options, job_id, tenant))


async def _why_pool(options: Options, pool: str, seconds: float) -> None:
    async with connect(options) as client:
        events = await client.pool_events(pool, seconds=seconds)
        if not events and await client.check_pool(pool):
            # What was decided about one that is gone is told as long as it is kept.
            known = ", ".join(sorted(await client.session.pools()))
            raise fail("SB-1102", "--pool", limit=known, actual=pool, hint="see shotbus pools list")
    lines = [line for event in events for line in _pool_lines(event)]
    emit(options, {"pool": pool, "events": events}, "\n".join(lines or [f"nothing was decided about {pool}"]))


def _pool_lines(event: Mapping[str, Any]) -> Iterator[str]:
    by = f"by {event['by']}" if event["by"] else ""
    words = (_at(event), f"shard {event['shard']}", event["cause"], by)
    yield printable("  ".join(word for word in words if word))
    yield from term_lines({name: value for name, value in event["terms"].items() if value})


async def _why(options: Options, job_id: str, tenant: str) -> None:
    async with handle(options, job_id, tenant) as (_, job):
        told = await job.why()
    text = "\n".join(_page(told))
    emit(options, {**told, "results": [in_json(made) for made in told["results"]]}, text)


def _page(told: Mapping[str, Any]) -> Iterator[str]:
    yield f"{told['job_id']}  {_where(told)}"
    if told["reason"]:
        yield f"waits because {printable(told['reason'])}"
    if told["position"] is not None and told["position"] >= 0:
        end = "" if told["eta_mid_ms"] else ", end unknown"
        yield f"{ordinal(told['position'] + 1)} in {told['pool']}'s queue{end}"
    if told["eta_mid_ms"]:
        low, mid, high = (_from_now(told[f"eta_{name}_ms"]) for name in ("low", "mid", "high"))
        yield f"ends in about {mid} (80 %: {low} to {high})"
    yield from problem_lines(told["problems"], told.get("retry_after_ms", 0))
    yield from (in_brief(made) for made in told["results"])
    if not told["events"]:
        yield "no events of it are kept any more"
    for event in told["events"]:
        yield _line(event)
        yield from term_lines(event["terms"])


def _where(told: Mapping[str, Any]) -> str:
    if told["status"] is None:
        return "no dispatcher answers: this is what its events say"
    if told["outcome"]:
        return f"{status_of(told['outcome'])} {told['outcome']}"
    if told["status"] == "UNKNOWN":
        return "is not known any more: this is what its events say"
    place = f"on {told['pool']}" if told["pool"] else ""
    return " ".join(word for word in (told["status"], told["sub_status"], place) if word)


def _line(event: Mapping[str, Any]) -> str:
    state = " ".join(word for word in (event["state"], event["sub_status"]) if word)
    attempt = f"attempt {event['attempt']}" if event["attempt"] else ""
    pool = f"on {event['pool']}" if event["pool"] else ""
    words = (
        _at(event),
        f"{event['cause']:<18}",
        state,
        attempt,
        pool,
    )
    return printable("  ".join(word for word in words if word))


def _at(event: Mapping[str, Any]) -> str:
    at = datetime.fromtimestamp(event["at_us"] / 1e6, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"


def _from_now(wall_ms: int) -> str:
    return f"{max(0.0, wall_ms / 1000 - time.time()):.1f} s"
