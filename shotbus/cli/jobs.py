"""``submit status watch result cancel list``: one job at a time."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import click

from shotbus.broker.bus.base import BusError, Reader, TopicPartition
from shotbus.broker.store.base import Store
from shotbus.cli.common import Options, come_back, command_options, emit, run_async, table
from shotbus.cli.inputs import parse_bindings, parse_options, read_text
from shotbus.cli.progress import spinner, way_back
from shotbus.cli.submission import submission_options, tenant_option
from shotbus.producers.client import AsyncClient
from shotbus.producers.job import AsyncJob
from shotbus.producers.result import JobResult
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import Problem, ShotbusError, fail
from shotbus.schemas.ids import partition_of
from shotbus.schemas.outcomes import status_of
from shotbus.schemas.pub import Estimates

_TERMINAL = ("DONE", "ERROR", "CANCELLED")
_ACCEPT_SECONDS = 5.0
_PAGE = 500
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"))


@asynccontextmanager
async def unconnected(options: Options) -> AsyncIterator[AsyncClient]:
    """Yield a client before its start, so that mistakes are found before anything starts; closes it."""
    client = AsyncClient(options.url, config=options.config)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def connect(options: Options) -> AsyncIterator[AsyncClient]:
    """Connect as the options say."""
    async with unconnected(options) as client:
        yield await client.start()


@asynccontextmanager
async def handle(options: Options, job_id: str, tenant: str) -> AsyncIterator[tuple[AsyncClient, AsyncJob]]:
    """Connect with a job in hand; a malformed id is refused before anything starts."""
    async with unconnected(options) as client:
        job = client.job(job_id, tenant=tenant)
        yield await client.start(), job


def complete(given: dict[str, Any]) -> list[Problem]:
    """Turn the submission options into what the client takes; returns what is wrong with them."""
    given["observables"] = observables_of(given["observables"])
    given["family"], _, given["family_version"] = given["family"].partition("@")
    given["options"], problems = parse_options(given.pop("options_"))
    return problems


def observables_of(labels: Sequence[str]) -> list[list[tuple[str, float]]] | None:
    """Return labels as the client takes observables; None for none."""
    return [[(label, 1.0)] for label in labels] if labels else None


def as_tenant(tenant: str) -> list[str]:
    """Return the option that a command about this tenant's things needs."""
    return [] if tenant == "default" else ["--tenant", tenant]


def check_timeout(timeout: float | None, *, wait: bool) -> list[Problem]:
    """Return a problem for a timeout without anything to wait for."""
    if wait or timeout is None:
        return []
    return [Problem("SB-2002", "--timeout", actual=str(timeout), hint="it goes with --wait")]


async def refuse(client: AsyncClient, problems: list[Problem], pool: str | None) -> None:
    """Raise ShotbusError when there are problems, with what a broker that runs says about the pool."""
    if not problems:
        return
    told = any(one.code == "SB-1102" for one in problems)
    if pool and not told and pool not in client.session.config.pools:
        # Nobody to ask is no further problem: the mistakes are told all the same.
        with suppress(BusError, ShotbusError):
            await client.start()
            problems += await client.check_pool(pool)
    raise ShotbusError(problems)


@click.command()
@click.argument("circuit", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--bind", multiple=True, metavar="NAME=V[,V…]", help="Values of a parameter, one a point.")
@submission_options
@click.option("--idempotency-key", default="", help="The same key and payload again is the same job.")
@click.option("--unique-key", default="", help="Of jobs with one key only one lives at a time.")
@click.option(
    "--unique-policy",
    default="",
    metavar="WHAT",
    help="While another lives: existing (its id is printed; the default), reject or supersede.",
)
@click.option("--wait/--no-wait", default=False, show_default=True, help="Wait for the result and print it.")
@click.option("--timeout", type=click.FloatRange(0), help="Seconds to wait, with --wait.")
@command_options
def submit(options: Options, circuit: Path, *, wait: bool, timeout: float | None, **given: Any) -> None:
    """Submit CIRCUIT, a file with OpenQASM 3 or 2; - reads standard input.

    Prints the job's id. Nothing is started or published when anything is wrong; everything that is wrong is
    said at once.
    """
    run_async(_submit(options, circuit, given, wait=wait, timeout=timeout))


async def _submit(
    options: Options, circuit: Path, given: dict[str, Any], *, wait: bool, timeout: float | None
) -> None:
    bindings, problems = parse_bindings(given.pop("bind"))
    problems += check_timeout(timeout, wait=wait) + complete(given)
    async with unconnected(options) as client:
        try:
            program = await client.check(read_text(circuit), bindings or None, **given)
        except ShotbusError as error:
            problems += error.problems
        await refuse(client, problems, given["backend"])
        await client.start()
        job = await client.submit(program, bindings or None, **given)
        if wait:
            await _print_when_done(options, job, timeout, tenant=given["tenant"])
        else:
            await _print_receipt(options, job, given["tenant"])


async def _print_receipt(options: Options, job: AsyncJob, tenant: str) -> None:
    accepted = await job.accepted(_ACCEPT_SECONDS)
    back = f"{job.job_id}\ncome back with: {come_back(options, 'result', job.job_id, *as_tenant(tenant))}"
    note = "" if accepted else "\nit is durable, but no dispatcher has taken it yet: is one running?"
    emit(options, {"job_id": job.job_id, "accepted": accepted}, back + note)


async def _print_when_done(
    options: Options, job: AsyncJob, timeout: float | None, row: int = 0, *, tenant: str
) -> None:
    back = come_back(options, "result", job.job_id, *as_tenant(tenant))
    with way_back(f"{job.job_id} goes on; come back with: {back}"), spinner(f"waiting for {job.job_id}"):
        answer = await job.result(timeout)
    _print_result(options, answer, row)


@click.command()
@click.argument("job_id")
@tenant_option
@command_options
def status(options: Options, job_id: str, tenant: str) -> None:
    """Say where JOB_ID is."""
    run_async(_status(options, job_id, tenant))


async def _status(options: Options, job_id: str, tenant: str) -> None:
    async with handle(options, job_id, tenant) as (_, job):
        found = await job.details()
    words = [found["status"], found["sub_status"], found["outcome"]]
    place = f"on {found['pool']}" if found.get("pool") else ""
    emit(options, found, " ".join(word for word in (*words, place) if word))


@click.command()
@click.argument("job_id")
@click.option("--timeout", type=click.FloatRange(0), help="Seconds to wait; without it, for ever.")
@click.option("--row", type=int, default=0, show_default=True, help="Point to print; --json has them all.")
@tenant_option
@command_options
def result(options: Options, job_id: str, timeout: float | None, row: int, tenant: str) -> None:
    """Print the result of JOB_ID, waiting for it when it is not there yet."""
    run_async(_result(options, job_id, timeout, row, tenant))


async def _result(options: Options, job_id: str, timeout: float | None, row: int, tenant: str) -> None:
    async with handle(options, job_id, tenant) as (_, job):
        await _print_when_done(options, job, timeout, row, tenant=tenant)


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
    if answer.points > 1:
        lines.append(f"row {row} of 0 to {answer.points - 1}: --row shows another, --json all")
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
@tenant_option
@command_options
def cancel(options: Options, job_id: str, tenant: str) -> None:
    """Cancel JOB_ID and say what became of it: cancelled, or finished before.

    Either way it will not run any more: exit code 0. A job that nobody knows is exit code 4.
    """
    run_async(_cancel(options, job_id, tenant))


async def _cancel(options: Options, job_id: str, tenant: str) -> None:
    async with handle(options, job_id, tenant) as (_, job):
        before, after = await job.cancel_and_locate()
    outcome = after["outcome"]
    cancelled = outcome == "cancelled" and not before["outcome"]
    words = "is cancelled" if cancelled else f"had finished already: {outcome}"
    data = {"job_id": job_id, "cancelled": cancelled, "outcome": outcome}
    emit(options, data, f"{job_id} {words}")


@click.command("list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Most jobs.")
@click.option("--offset", type=click.IntRange(0), default=0, help="Pass over so many newer ones.")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--status", "wanted", help="Only of this status, such as DONE.")
@command_options
def list_jobs(options: Options, limit: int, offset: int, tenant: str | None, wanted: str | None) -> None:
    """List the jobs that changed last, newest first, as the read models know them."""
    run_async(_list(options, limit, offset, tenant, wanted))


async def _list(options: Options, limit: int, offset: int, tenant: str | None, wanted: str | None) -> None:
    async with connect(options) as client:
        store = client.session.store
        index = f"jobs:{tenant}" if tenant else "jobs"
        documents = await _documents(store, index, offset, limit, wanted)
    columns = ("job_id", "status", "outcome", "pool", "tenant", "changed", "sweep_id")
    rows = [[_cell(one, name) for name in columns] for one in documents]
    emit(options, documents, table(rows, columns, empty="no jobs"))


async def _documents(
    store: Store, index: str, offset: int, limit: int, wanted: str | None
) -> list[dict[str, Any]]:
    """Return the newest documents, of one status where one is ``wanted``: then ``offset`` counts those."""
    found: list[dict[str, Any]] = []
    start, most = (0, offset + limit) if wanted else (offset, limit)
    while len(found) < most:
        names = [name for name, _ in await store.index_range(index, offset=start, limit=_PAGE)]
        raw = await store.get_many([f"status:{name}" for name in names])
        documents = [decode(value, "status_document")[1] for value in raw if value]
        found += [one for one in documents if not wanted or one["status"] == wanted.upper()]
        start += _PAGE
        if len(names) < _PAGE:
            break
    return found[offset if wanted else 0 : most]


def _cell(document: Mapping[str, Any], column: str) -> Any:
    if column != "changed":
        return document[column]
    return _age(time.time_ns() // 1000 - document["updated_us"])


def _age(microseconds: int) -> str:
    seconds = max(0, microseconds // 1_000_000)
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds // size}{unit} ago"
    return f"{seconds}s ago"


@click.command()
@click.argument("job_id")
@click.option("--timeout", type=click.FloatRange(0), default=3600.0, show_default=True, help="Seconds.")
@tenant_option
@command_options
def watch(options: Options, job_id: str, timeout: float, tenant: str) -> None:
    """Print every state change of JOB_ID until it ends; Ctrl-C leaves it running.

    With --json a line is one JSON object.
    """
    run_async(_watch(options, job_id, timeout, tenant))


async def _watch(options: Options, job_id: str, timeout: float, tenant: str) -> None:
    async with handle(options, job_id, tenant) as (client, job):
        session = client.session
        place = TopicPartition(session.topics.name("events"), partition_of(job_id, session.topics.partitions))
        # First the end of the events, then the shard itself: a read model may lag behind either, and
        # what happened in between would never be seen.
        reader = session.bus.reader(await session.bus.ends([place]))
        back = come_back(options, "watch", job_id, *as_tenant(tenant))
        try:
            with way_back(f"{job_id} goes on; come back with: {back}"):
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
