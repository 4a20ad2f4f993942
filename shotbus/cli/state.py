"""``state verify|rebuild``: the store is disposable, the topics are the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from shotbus.broker.connect import OWN_MEMORY, open_store, parse_url, topics_for
from shotbus.cli.common import (
    EXIT_FAILED,
    FiniteRange,
    Options,
    command_options,
    emit,
    printable,
    run_async,
    table,
)
from shotbus.cli.jobs import connect
from shotbus.cli.verify import opened_bus

if TYPE_CHECKING:
    from shotbus.broker.bus.base import Bus, TopicPartition
    from shotbus.broker.reconcile import Remark
    from shotbus.broker.store.base import Store
    from shotbus.broker.topics import Topics
    from shotbus.reducers.progress import Progress
    from shotbus.reducers.reconcile import Difference, ReadModelCheck

_SHOWN = 20


@click.group()
def state() -> None:
    """Compare the read models and the ledgers with the topics; rebuild the read models."""


@state.command(short_help="Write every read model again.")
@command_options
def rebuild(options: Options) -> None:
    """Clear the store and write every read model again from the topics."""
    run_async(_rebuild(options))


async def _rebuild(options: Options) -> None:
    from shotbus.reducers.projector import Projector

    async with connect(options) as client:
        session = client.session
        count = await Projector(session.bus, session.store, session.topics).rebuild()
    emit(options, {"records": count}, f"read {count} records, wrote their read models")


@state.command("verify", short_help="Compare store and ledgers with the topics.")
@click.option("--repair", is_flag=True, help="Rebuild the read models when they differ.")
@click.option(
    "--timeout",
    type=FiniteRange(0),
    default=10.0,
    show_default=True,
    help="Seconds for the projector to come to where the topics end now.",
)
@command_options
def verify_state(options: Options, *, repair: bool, timeout: float) -> None:
    """Compare what the store and the ledgers hold with the topics, as after an outage; starts no broker.

    Read models: missing, stale or contradictory documents, up to where the projector is; when that is not the
    end, it is told. Ledgers: positions behind, or outside what the bus keeps; jobs whose worker, pool or
    request is gone; outcomes that nobody has read. What heals by itself as soon as the processes run is
    listed, but only what does not makes the exit code 1.
    """
    if not run_async(_verify(options, repair=repair, timeout=timeout)):
        raise SystemExit(EXIT_FAILED)


async def _verify(options: Options, *, repair: bool, timeout: float) -> bool:
    from shotbus.broker.reconcile import reconcile

    address = parse_url(options.url)
    topics = topics_for(address, options.config)
    models = None
    async with opened_bus(options) as bus:
        remarks = await reconcile(bus, topics, options.config.pools)
        if address.embedded or address.store != OWN_MEMORY:
            store = open_store(address, options.config)
            await store.start()
            try:
                models = await _read_models(bus, store, topics, repair=repair, timeout=timeout)
            finally:
                await store.close()
    emit(options, _document(models, remarks), _text(models, remarks))
    return not (models and models.differences) and not any(one.severe for one in remarks)


class _Models(NamedTuple):
    """What was found about the read models: of ``documents``, up to where ``made`` says."""

    documents: int
    differences: list[Difference]
    made: Progress
    repaired: bool


async def _read_models(bus: Bus, store: Store, topics: Topics, *, repair: bool, timeout: float) -> _Models:
    from shotbus.broker.bus.scan import despite_deletions
    from shotbus.reducers.progress import progress
    from shotbus.reducers.projector import Projector

    made = await progress(bus, topics, timeout=timeout)
    check = await despite_deletions(partial(_expected, bus, topics, made.positions))
    differences = await check.compare(store)
    if not differences or not repair:
        return _Models(check.documents, differences, made, repaired=False)
    await Projector(bus, store, topics).rebuild()
    ends = {place: at + made.behind.get(place, 0) for place, at in made.positions.items()}
    check = await despite_deletions(partial(_expected, bus, topics, ends))
    return _Models(check.documents, await check.compare(store), replace(made, behind={}), repaired=True)


async def _expected(bus: Bus, topics: Topics, ends: Mapping[TopicPartition, int]) -> ReadModelCheck:
    from shotbus.broker.bus.scan import scan
    from shotbus.reducers.reconcile import ReadModelCheck

    check = ReadModelCheck(topics)
    async for records in scan(bus, await bus.begins(ends), ends=ends):
        check.take(records)
    return check


def _document(models: _Models | None, remarks: Sequence[Remark]) -> dict[str, Any]:
    made = models.made if models else None
    behind = made.behind if made else {}
    return {
        "documents": models.documents if models else 0,
        "differences": [one._asdict() for one in models.differences] if models else [],
        "remarks": [one._asdict() for one in remarks],
        "projectors": made.members if made else 0,
        "projector_behind": {f"{place.topic}[{place.partition}]": count for place, count in behind.items()},
        "repaired": models is not None and models.repaired,
        "store": models is not None,
    }


def _text(models: _Models | None, remarks: Sequence[Remark]) -> str:
    differences = models.differences if models else []
    counts = Counter(f"{one.kind} document" for one in differences)
    counts.update(one.kind + (", severe" if one.severe else "") for one in remarks)
    counts["offset not projected yet"] = sum(models.made.behind.values()) if models else 0
    rows = sorted((+counts).items())
    lines = [table(rows, ("found", "how many"), empty="store and ledgers agree with the topics")]
    found = [f"{one.kind}: {one.key}: {one.seen}" for one in differences[:_SHOWN]]
    found += [f"{one.kind}: {one.about}: {one.seen}" for one in remarks[:_SHOWN]]
    lines += [printable(one) for one in found]
    return "\n".join([*lines, *_about_models(models)])


def _about_models(models: _Models | None) -> Iterator[str]:
    if models is None:
        yield "there is no shared store to compare"
        return
    if models.differences and not models.repaired:
        yield "to write the read models again: shotbus state verify --repair"
    if behind := models.made.told():
        yield f"{behind}; what follows from those was not compared"
    yield f"{models.documents} documents compared{', rebuilt' if models.repaired else ''}"
