"""``list``: the newest jobs, as the read models know them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import click

from shotbus.broker.store.base import Store
from shotbus.broker.store.reading import read_documents
from shotbus.cli.common import Options, command_options, emit, run_async, table
from shotbus.cli.jobs import connect
from shotbus.cli.sweeps import newest_reduction
from shotbus.producers.shards import shard_job
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import fail

#: Sub-status of a job that waits for a person's word.
PENDING = "AWAITING_REVIEW"
_PAGE = 500
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"))


@click.command("list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Most jobs.")
@click.option("--offset", type=click.IntRange(0), default=0, help="Pass over so many newer ones.")
@click.option("--tenant", help="Only this tenant's.")
@click.option("--status", "wanted", help="Only of this status, such as DONE.")
@click.option("--sweep", "sweep_id", metavar="ID", help="The jobs of this sweep, in the order of its shards.")
@click.option("--session", default="", help="With --sweep: the session that it was submitted in.")
@click.option("--pending-review", is_flag=True, help="Only those that wait for a person's word.")
@command_options
def list_jobs(
    options: Options,
    limit: int,
    offset: int,
    tenant: str | None,
    *,
    wanted: str | None,
    sweep_id: str | None,
    session: str,
    pending_review: bool,
) -> None:
    """List the jobs that changed last, newest first, as the read models know them.

    With --sweep those of a sweep instead, of the tenant default unless --tenant says another. A sweep that
    nobody knows is exit code 4.
    """
    wish = Wanted(wanted.upper() if wanted else "", PENDING if pending_review else "")
    if sweep_id is None:
        if session:
            raise click.UsageError("--session goes with --sweep")
        run_async(show(options, limit, offset, tenant, wish))
    else:
        run_async(_show_sweep(options, limit, offset, Family(sweep_id, tenant or "default", session), wish))


class Wanted(NamedTuple):
    """Which documents are wanted; empty is any."""

    status: str = ""
    sub_status: str = ""

    def takes(self, document: Mapping[str, Any]) -> bool:
        """Tell whether a document is one of them."""
        return all(not word or document[name] == word for name, word in zip(self._fields, self, strict=True))


class Family(NamedTuple):
    """Which sweep is meant, and what the ids of its jobs follow from."""

    sweep_id: str
    tenant: str
    session: str


async def _show_sweep(options: Options, limit: int, offset: int, family: Family, wanted: Wanted) -> None:
    async with connect(options) as client:
        newest = await newest_reduction(client, family.sweep_id, family.tenant)
        if newest is None:
            raise fail("SB-4007", "$.sweep_id", actual=family.sweep_id)
        found = list[dict[str, Any]]()
        for start in range(0, newest.shards, _PAGE):
            shards = range(start, min(start + _PAGE, newest.shards))
            names = [shard_job(family.sweep_id, one, family.tenant, family.session) for one in shards]
            found += [one for one in await _of(client.session.store, names) if wanted.takes(one)]
            if len(found) >= offset + limit:
                break
    _print(options, found[offset : offset + limit])


async def _of(store: Store, names: Sequence[str]) -> list[dict[str, Any]]:
    raw = await read_documents(store, [f"status:{name}" for name in names])
    return [decode(value, "status_document")[1] for value in raw if value]


async def show(options: Options, limit: int, offset: int, tenant: str | None, wanted: Wanted) -> None:
    """Print what is wanted of the newest documents, of one tenant or of all."""
    async with connect(options) as client:
        store = client.session.store
        index = f"jobs:{tenant}" if tenant else "jobs"
        documents = await _documents(store, index, offset, limit, wanted)
    _print(options, documents)


def _print(options: Options, documents: Sequence[Mapping[str, Any]]) -> None:
    columns = ("job_id", "status", "outcome", "pool", "tenant", "changed", "sweep_id")
    rows = [[_cell(one, name) for name in columns] for one in documents]
    emit(options, documents, table(rows, columns, empty="no jobs"))


async def _documents(
    store: Store, index: str, offset: int, limit: int, wanted: Wanted
) -> list[dict[str, Any]]:
    """Return the newest documents; where only some are ``wanted``, ``offset`` counts those."""
    found: list[dict[str, Any]] = []
    some = any(wanted)
    start, most = (0, offset + limit) if some else (offset, limit)
    while len(found) < most:
        names = [name for name, _ in await store.index_range(index, offset=start, limit=_PAGE)]
        found += [one for one in await _of(store, names) if wanted.takes(one)]
        start += _PAGE
        if len(names) < _PAGE:
            break
    return found[offset if some else 0 : most]


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
