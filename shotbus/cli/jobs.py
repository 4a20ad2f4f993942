"""``submit status watch result cancel list``: one job at a time."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click

from shotbus.broker.bus.base import Reader, TopicPartition
from shotbus.cli.common import Options, come_back, command_options, emit, run_async, table
from shotbus.producers.client import AsyncClient
from shotbus.producers.result import JobResult
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import fail
from shotbus.schemas.ids import partition_of
from shotbus.schemas.outcomes import status_of
from shotbus.schemas.pub import Estimates

_TERMINAL = ("DONE", "ERROR", "CANCELLED")
_ACCEPT_SECONDS = 5.0


@asynccontextmanager
async def connect(options: Options) -> AsyncIterator[AsyncClient]:
    """Connect as the options say."""
    async with AsyncClient(options.url, config=options.config) as client:
        yield client


def _bind(pairs: tuple[str, ...]) -> dict[str, Any]:
    bindings = {}
    for pair in pairs:
        name, _, values = pair.partition("=")
        try:
            bindings[name] = [float(value) for value in values.split(",")]
        except ValueError as error:
            raise fail("SB-1304", f"--bind {name}", limit="NAME=NUMBER[,NUMBER…]", actual=values) from error
    return bindings


@click.command()
@click.argument("circuit", type=click.Path(dir_okay=False, path_type=Path))
@command_options
@click.option("--bind", multiple=True, metavar="NAME=V[,V…]", help="Values of a parameter, one a point.")
@click.option("--shots", type=int, help="Shots a point; 0 with --observable is exact.")
@click.option("--observable", "observables", multiple=True, help="Pauli label such as ZZ (qubit 0 last).")
@click.option("--precision", type=float, help="Standard error asked for, instead of shots.")
@click.option("--priority", default="experiment", show_default=True)
@click.option("--tenant", default="default", show_default=True)
@click.option("--backend", help="Pool; without it the policy chooses.")
@click.option("--deadline", type=float, help="Seconds from now until it is of no use.")
@click.option("--idempotency-key", default="")
@click.option("--experiment", default="")
@click.option("--intent", default="explore", show_default=True)
@click.option("--seed", type=int)
@click.option("--wait/--no-wait", default=False, help="Wait for the result and print it.")
@click.option("--timeout", type=float, help="Seconds to wait.")
def submit(options: Options, circuit: Path, *, wait: bool, timeout: float | None, **given: Any) -> None:
    """Submit CIRCUIT, a file with OpenQASM 3 or 2; - reads standard input."""
    run_async(_submit(options, read_text(circuit), wait=wait, timeout=timeout, given=given))


def read_text(path: Path) -> str:
    """Return a file's text, - is standard input. Raises ShotbusError (SB-2003)."""
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise fail("SB-2003", str(path), detail=str(error)) from error


async def _submit(
    options: Options, text: str, *, wait: bool, timeout: float | None, given: dict[str, Any]
) -> None:
    bindings = _bind(given.pop("bind")) or None
    labels = given.pop("observables")
    observables = [[(label, 1.0)] for label in labels] if labels else None
    async with connect(options) as client:
        job = await client.submit(text, bindings, observables=observables, **given)
        if not wait:
            accepted = await job.accepted(_ACCEPT_SECONDS)
            back = f"{job.job_id}\ncome back with: {come_back(options, 'result', job.job_id)}"
            note = "" if accepted else "\nit is durable, but no dispatcher has taken it yet: is one running?"
            emit(options, {"job_id": job.job_id, "accepted": accepted}, back + note)
            return
        _print_result(options, await job.result(timeout))


@click.command()
@click.argument("job_id")
@command_options
@click.option("--tenant", default="default")
def status(options: Options, job_id: str, tenant: str) -> None:
    """Say where JOB_ID is."""
    run_async(_status(options, job_id, tenant))


async def _status(options: Options, job_id: str, tenant: str) -> None:
    async with connect(options) as client:
        found = await client.job(job_id, tenant=tenant).status()
        words = [found["status"], found["sub_status"], found["outcome"], found.get("pool", "")]
        emit(options, found, " ".join(word for word in words if word))


@click.command()
@click.argument("job_id")
@command_options
@click.option("--timeout", type=float, help="Seconds to wait.")
@click.option("--row", type=int, default=0, show_default=True, help="Point to print.")
@click.option("--tenant", default="default")
def result(options: Options, job_id: str, timeout: float | None, row: int, tenant: str) -> None:
    """Print the result of JOB_ID, waiting for it when it is not there yet."""
    run_async(_result(options, job_id, timeout, row, tenant))


async def _result(options: Options, job_id: str, timeout: float | None, row: int, tenant: str) -> None:
    async with connect(options) as client:
        _print_result(options, await client.job(job_id, tenant=tenant).result(timeout), row)


def _print_result(options: Options, answer: JobResult, row: int = 0) -> None:
    if not 0 <= row < answer.points:
        raise fail("SB-2002", "--row", limit=f"0 to {answer.points - 1}", actual=row)
    data: dict[str, Any] = {
        "job_id": answer.job_id,
        "outcome": answer.outcome,
        "executed_on": answer.executed_on,
        "points": answer.points,
        "shots": answer.shots,
        "provenance": answer.provenance,
        "metadata": answer.metadata,
        "spans": [span._asdict() for span in answer.spans],
    }
    lines = [f"{answer.job_id}  {answer.outcome} on {answer.executed_on}"]
    if isinstance(answer.payload, Estimates):
        data |= {"evs": answer.evs, "stds": answer.stds}
        pairs = zip(answer.evs[row], answer.stds[row], strict=True)
        lines += [f"observable {k}: {ev:.9f} ± {std:.2g}" for k, (ev, std) in enumerate(pairs)]
    elif answer.payload is not None:
        counts = answer.counts(row)
        data["counts"] = [answer.counts(point) for point in range(answer.points)]
        lines += histogram(counts)
    emit(options, data, "\n".join(lines))


def histogram(counts: dict[str, int], *, width: int = 40, most: int = 32) -> list[str]:
    """Return bars of the commonest outcomes as lines."""
    total, top = sum(counts.values()), max(counts.values(), default=1)
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    lines = [f"{bits}  {'█' * max(1, width * n // top)} {n} ({n / total:.1%})" for bits, n in ranked[:most]]
    return lines + ([f"… and {len(ranked) - most} more outcomes"] if len(ranked) > most else [])


@click.command()
@click.argument("job_id")
@command_options
@click.option("--tenant", default="default", show_default=True)
def cancel(options: Options, job_id: str, tenant: str) -> None:
    """Cancel JOB_ID and say what became of it: cancelled, or finished before.

    Either way it will not run any more: exit code 0. A job that nobody knows is exit code 4.
    """
    run_async(_cancel(options, job_id, tenant))


async def _cancel(options: Options, job_id: str, tenant: str) -> None:
    async with connect(options) as client:
        before, after = await client.job(job_id, tenant=tenant).cancel_and_locate()
    outcome = after["outcome"]
    cancelled = outcome == "cancelled" and not before["outcome"]
    words = "is cancelled" if cancelled else f"had finished already: {outcome}"
    data = {"job_id": job_id, "cancelled": cancelled, "outcome": outcome}
    emit(options, data, f"{job_id} {words}")


@click.command("list")
@command_options
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
@click.option("--offset", type=click.IntRange(0), default=0)
@click.option("--tenant", help="Only this tenant's.")
@click.option("--status", "wanted", help="Only this status, such as DONE.")
def list_jobs(options: Options, limit: int, offset: int, tenant: str | None, wanted: str | None) -> None:
    """List the newest jobs that the read models know."""
    run_async(_list(options, limit, offset, tenant, wanted))


async def _list(options: Options, limit: int, offset: int, tenant: str | None, wanted: str | None) -> None:
    async with connect(options) as client:
        store = client.session.store
        index = f"jobs:{tenant}" if tenant else "jobs"
        names = [name for name, _ in await store.index_range(index, offset=offset, limit=limit)]
        raw = await store.get_many([f"status:{name}" for name in names])
        documents = [decode(value, "status_document")[1] for value in raw if value]
        if wanted:
            documents = [one for one in documents if one["status"] == wanted.upper()]
        columns = ("job_id", "status", "outcome", "pool", "tenant", "sweep_id")
        rows = [[document[column] for column in columns] for document in documents]
        emit(options, documents, table(rows, columns))


@click.command()
@click.argument("job_id")
@command_options
@click.option("--timeout", type=float, default=3600.0, show_default=True)
@click.option("--tenant", default="default")
def watch(options: Options, job_id: str, timeout: float, tenant: str) -> None:
    """Print every state change of JOB_ID until it ends; Ctrl-C leaves it running."""
    run_async(_watch(options, job_id, timeout, tenant))


async def _watch(options: Options, job_id: str, timeout: float, tenant: str) -> None:
    async with connect(options) as client:
        job, session = client.job(job_id, tenant=tenant), client.session
        place = TopicPartition(session.topics.name("events"), partition_of(job_id, session.topics.partitions))
        # First the end of the events, then the shard itself: a read model may lag behind either, and
        # what happened in between would never be seen.
        reader = session.bus.reader(await session.bus.ends([place]))
        try:
            async with asyncio.timeout(timeout):
                await _follow(options, job_id, await job.locate(), reader)
        finally:
            await reader.close()


async def _follow(options: Options, job_id: str, place: dict[str, Any], reader: Reader) -> None:
    if place["status"] == "UNKNOWN":
        raise fail("SB-4001", "$.job_id", actual=job_id)
    if place["outcome"]:
        place["status"] = status_of(place["outcome"])
    _say(options, place)
    state = place["status"]
    while state not in _TERMINAL:
        for record in await reader.poll(max_records=1_000, timeout=1.0):
            for event in decode(record.value, "event_batch")[1]["events"]:
                if event["job_id"] == job_id:
                    state = event["state"]
                    _say(options, event | {"status": state})


def _say(options: Options, event: dict[str, Any]) -> None:
    words = [event["status"], event["sub_status"], event.get("cause", ""), event.get("outcome", "")]
    text = " ".join(word for word in words if word)
    click.echo(json.dumps(event, default=str) if options.as_json else text)
