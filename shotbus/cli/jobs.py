"""``submit status result cancel``: one job at a time."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from shotbus.broker.bus.base import BusError
from shotbus.broker.template_names import TEMPLATE
from shotbus.cli.answers import print_result
from shotbus.cli.common import (
    EXIT_TIMEOUT,
    FiniteRange,
    Options,
    aside,
    come_back,
    command_options,
    emit,
    printable,
    run_async,
)
from shotbus.cli.inputs import Bindings, parse_bindings, parse_options, read_text
from shotbus.cli.progress import spinner, way_back
from shotbus.cli.requestfile import circuit_of, is_request_file, read_submission
from shotbus.cli.submission import submission_options, tenant_option
from shotbus.producers.client import AsyncClient
from shotbus.producers.job import AsyncJob
from shotbus.producers.queueing import QueueInfo, info_of
from shotbus.producers.result import JobTimeoutError
from shotbus.schemas.errors import Problem, ShotbusError, fail

#: What an option is called where that is not its name with the client.
_AS_CLIENT = {"options_": "options", "quality_": "quality", "bind": "bindings"}
_NOT_WAITING = ("RUNNING", "DONE", "ERROR", "CANCELLED")
_PROSPECT_SECONDS = 2.0
_ACCEPT_SECONDS = 5.0


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
    given["quality"], wrong = parse_options(given.pop("quality_"), "--quality")
    return problems + wrong


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
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--circuit", metavar="NAME@VERSION", help="A template of the configuration, instead of FILE.")
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
@click.option("--timeout", type=FiniteRange(0), help="Seconds to wait, with --wait.")
@command_options
def submit(
    options: Options,
    file: Path | None,
    circuit: str | None,
    *,
    wait: bool,
    timeout: float | None,
    **given: Any,
) -> None:
    """Submit FILE: a circuit in OpenQASM 3 or 2 (- reads standard input), or a request.

    A request (.toml, .json) names its circuit and says what the options say, and options go over it; it can
    also state the problem behind the circuit, for a solver. policy explain reads the same file.

    Prints the job's id. Nothing is started or published when anything is wrong; everything that is wrong is
    said at once.
    """
    what = _what(file, circuit)
    run_async(_submit(options, what, given, chosen(), wait=wait, timeout=timeout))


def _what(file: Path | None, circuit: str | None) -> Path | str:
    """Return the file, or the template's name. Raises ShotbusError (SB-2002) unless it is one of them."""
    if file is not None and circuit is None:
        return file
    if circuit is not None and file is None and TEMPLATE.fullmatch(circuit):
        return circuit
    actual = "both" if file and circuit else circuit or "neither"
    raise fail("SB-2002", "--circuit", limit="either FILE or --circuit NAME@VERSION", actual=actual)


def chosen() -> frozenset[str]:
    """Return the parameters that the command line really names, as the client calls them."""
    context = click.get_current_context()
    named = {
        one for one in context.params if context.get_parameter_source(one) is not ParameterSource.DEFAULT
    }
    return frozenset(_AS_CLIENT.get(one, one) for one in named)


async def _submit(
    options: Options,
    file: Path | str,
    given: dict[str, Any],
    said: frozenset[str],
    *,
    wait: bool,
    timeout: float | None,
) -> None:
    bindings, problems = parse_bindings(given.pop("bind"))
    problems += check_timeout(timeout, wait=wait) + complete(given)
    async with unconnected(options) as client:
        try:
            text, bindings = _circuit(file, bindings, given, said, options.config.templates)
            program = await client.check(text, bindings or None, **given)
        except ShotbusError as error:
            problems += error.problems
        await refuse(client, problems, given["backend"])
        await client.start()
        job = await client.submit(program, bindings or None, **given)
        if wait:
            await _print_when_done(options, job, timeout, tenant=given["tenant"])
        else:
            await _print_receipt(options, job, given["tenant"])


def _circuit(
    file: Path | str,
    bindings: Bindings,
    given: dict[str, Any],
    said: frozenset[str],
    templates: Mapping[str, str],
) -> tuple[str, Bindings]:
    """Return circuit and bindings; what a request file says besides goes where the options are silent."""
    if isinstance(file, str):
        return file, bindings
    if not is_request_file(file):
        return read_text(file), bindings
    request, told = read_submission(file)
    bindings = {**told.pop("bindings", {}), **bindings}
    if "observables" in told:
        told["observables"] = observables_of(told["observables"])
    if "family" in told:
        told["family"], _, told["family_version"] = told["family"].partition("@")
    for name in ("options", "quality"):
        given[name] = {**told.pop(name, {}), **given[name]}
    silent = said | {"family_version"} if "family" in said else said
    given |= {name: value for name, value in told.items() if name not in silent}
    return request.program or circuit_of(file, request.circuit, templates), bindings


async def _print_receipt(options: Options, job: AsyncJob, tenant: str) -> None:
    accepted = await job.accepted(_ACCEPT_SECONDS)
    emit(options, {"job_id": job.job_id, "accepted": accepted}, job.job_id)
    aside(options, f"come back with: {come_back(options, 'result', job.job_id, *as_tenant(tenant))}")
    if not accepted:
        aside(options, "it is durable, but no dispatcher has taken it yet: is one running?")


async def _print_when_done(
    options: Options, job: AsyncJob, timeout: float | None, row: int = 0, *, tenant: str
) -> None:
    back = come_back(options, "result", job.job_id, *as_tenant(tenant))
    with way_back(f"{job.job_id} goes on; come back with: {back}"), spinner(f"waiting for {job.job_id}"):
        answer = await job.result(timeout)
    print_result(options, answer, row, await job.late())


@click.command()
@click.argument("job_id")
@tenant_option
@command_options
def status(options: Options, job_id: str, tenant: str) -> None:
    """Say where JOB_ID is; while it waits also its place in the queue, when it ends, and why it waits.

    Of one that was refused it says why.
    """
    run_async(_status(options, job_id, tenant))


async def _status(options: Options, job_id: str, tenant: str) -> None:
    async with handle(options, job_id, tenant) as (_, job):
        found = await job.details()
        info = await _prospects(job) if found["status"] not in _NOT_WAITING else None
    words = [found["status"], found["sub_status"], found["outcome"]]
    place = f"on {found['pool']}" if found.get("pool") else ""
    lines = [" ".join(word for word in (*words, place) if word), *(waiting(info) if info else ())]
    lines += problem_lines(found.get("problems", ()), found.get("retry_after_ms", 0))
    emit(options, found | {"queue": info.as_json() if info else None}, "\n".join(lines))


async def _prospects(job: AsyncJob) -> QueueInfo | None:
    """Return what a waiting job may expect; nothing when no dispatcher says so at once."""
    with suppress(JobTimeoutError):
        return info_of(await job.where(_PROSPECT_SECONDS))
    return None


def problem_lines(problems: Sequence[Mapping[str, Any]], retry_after_ms: int = 0) -> Iterator[str]:
    """Yield what is wrong, a line a problem, and when it is worth another try."""
    yield from (f"problem: {printable(str(Problem.from_record(one)))}" for one in problems)
    if retry_after_ms:
        yield f"submit it again in {retry_after_ms / 1000:g} s"


def waiting(info: QueueInfo) -> list[str]:
    """Return lines that say where a job stands, when it ends, and why it waits."""
    words, reason = info.in_words(datetime.now(UTC)), printable(info.reason)
    return [*([words] if words else []), *([f"waits because {reason}"] if reason else [])]


@click.command()
@click.argument("job_id")
@click.option("--timeout", type=FiniteRange(0), help="Seconds to wait; without it, for ever.")
@click.option("--row", type=int, default=0, show_default=True, help="Point to print; --json has them all.")
@click.option("--late", is_flag=True, help="Instead what came after the answer, compared with it.")
@tenant_option
@command_options
def result(
    options: Options, job_id: str, timeout: float | None, row: int, tenant: str, *, late: bool
) -> None:
    """Print the result of JOB_ID, waiting for it when it is not there yet.

    How it was made is said where it is no plain run, and what it cost where that is anything. With --late
    nothing is waited for: when nothing has come late, the exit code is 4.
    """
    run_async((_late if late else _result)(options, job_id, timeout, row, tenant))


async def _result(options: Options, job_id: str, timeout: float | None, row: int, tenant: str) -> None:
    async with handle(options, job_id, tenant) as (_, job):
        await _print_when_done(options, job, timeout, row, tenant=tenant)


async def _late(options: Options, job_id: str, timeout: float | None, row: int, tenant: str) -> None:
    if timeout is not None:
        raise fail("SB-2002", "--timeout", actual=timeout, hint="--late waits for nothing")
    async with handle(options, job_id, tenant) as (_, job):
        answer = await job.late()
        if answer is None:
            await job.details()  # a job that is not known says so instead
            raise fail("SB-4001", "--late", actual=job_id, hint="nothing has come after its answer")
    print_result(options, answer, row)


@click.command()
@click.argument("job_id")
@tenant_option
@command_options
def cancel(options: Options, job_id: str, tenant: str) -> None:
    """Cancel JOB_ID and say what became of it: cancelled, finished before, or being cancelled.

    Cancelled or finished it will not run any more: exit code 0. What a worker of a paid pool has may be
    running at its provider, and ends as that says: exit code 5. A job that nobody knows is exit code 4.
    """
    if run_async(_cancel(options, job_id, tenant)):
        sys.exit(EXIT_TIMEOUT)


async def _cancel(options: Options, job_id: str, tenant: str) -> bool:
    """Tell what became of a job; returns whether that is still open."""
    async with handle(options, job_id, tenant) as (_, job):
        before, after = await job.cancel_and_locate()
    outcome = after["outcome"]
    cancelled = outcome == "cancelled" and not before["outcome"]
    words = "is cancelled" if cancelled else f"had finished already: {outcome}"
    if not outcome:
        words = "is being cancelled: a worker has it, and it ends as its backend says"
    data = {"job_id": job_id, "cancelled": cancelled, "cancelling": not outcome, "outcome": outcome}
    emit(options, data, f"{job_id} {words}")
    return not outcome
