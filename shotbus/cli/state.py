"""``state verify|rebuild``: the store is disposable, the topics are the truth."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from shotbus.broker.connect import OWN_MEMORY, open_store, parse_url, topics_for
from shotbus.cli.common import EXIT_FAILED, Options, command_options, emit, printable, run_async, table
from shotbus.cli.jobs import connect
from shotbus.cli.verify import opened_bus

if TYPE_CHECKING:
    from shotbus.broker.bus.base import Bus
    from shotbus.broker.reconcile import Remark
    from shotbus.broker.store.base import Store
    from shotbus.broker.topics import Topics
    from shotbus.reducers.reconcile import Difference, ReadModelCheck

_SHOWN = 20
_PATIENCE_SECONDS = 5.0


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
@command_options
def verify_state(options: Options, *, repair: bool) -> None:
    """Compare what the store and the ledgers hold with the topics, as after an outage; starts no broker.

    Read models: missing, stale or contradictory documents. Ledgers: positions behind, or outside what the bus
    keeps; jobs whose worker, pool or request is gone; outcomes that nobody has read. What heals by itself as
    soon as the processes run is listed, but only what does not makes the exit code 1.
    """
    if not run_async(_verify(options, repair=repair)):
        raise SystemExit(EXIT_FAILED)


async def _verify(options: Options, *, repair: bool) -> bool:
    from shotbus.broker.reconcile import reconcile

    address = parse_url(options.url)
    topics = topics_for(address, options.config)
    async with opened_bus(options) as bus:
        remarks = await reconcile(bus, topics, options.config.pools)
        shared = address.embedded or address.store != OWN_MEMORY
        documents, repaired = 0, False
        differences: list[Difference] = []
        if shared:
            store = open_store(address, options.config)
            await store.start()
            try:
                documents, differences, repaired = await _read_models(bus, store, topics, repair=repair)
            finally:
                await store.close()
    data = {
        "documents": documents,
        "differences": [one._asdict() for one in differences],
        "remarks": [one._asdict() for one in remarks],
        "repaired": repaired,
        "store": shared,
    }
    emit(options, data, _text(data, differences, remarks))
    return not differences and not any(one.severe for one in remarks)


async def _read_models(
    bus: Bus, store: Store, topics: Topics, *, repair: bool
) -> tuple[int, list[Difference], bool]:
    """Return the number of documents there should be, what differs, and whether it was repaired."""
    from shotbus.reducers.projector import Projector

    check = await _expected(bus, topics)
    differences = await _lasting(check, store)
    if not differences or not repair:
        return check.documents, differences, False
    await Projector(bus, store, topics).rebuild()
    check = await _expected(bus, topics)
    return check.documents, await _lasting(check, store), True


async def _expected(bus: Bus, topics: Topics) -> ReadModelCheck:
    from shotbus.broker.bus.base import TopicPartition
    from shotbus.broker.bus.scan import scan
    from shotbus.reducers.readmodels import SOURCES
    from shotbus.reducers.reconcile import ReadModelCheck

    check, existing = ReadModelCheck(topics), await bus.topics()
    names = [topics.name(name) for name in SOURCES if topics.name(name) in existing]
    places = [TopicPartition(name, number) for name in names for number in range(existing[name])]
    async for records in scan(bus, await bus.begins(places)):
        check.take(records)
    return check


async def _lasting(check: ReadModelCheck, store: Store) -> list[Difference]:
    """Return the differences that are still there after a while: a projector is a moment behind."""
    differences = await check.compare(store)
    until = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
    while differences and asyncio.get_running_loop().time() < until:
        await asyncio.sleep(0.25)
        differences = await check.compare(store, [one.key for one in differences])
    return differences


def _text(data: dict[str, Any], differences: Sequence[Difference], remarks: Sequence[Remark]) -> str:
    counts = Counter(f"{one.kind} document" for one in differences)
    counts.update(one.kind + (", severe" if one.severe else "") for one in remarks)
    lines = [
        table(sorted(counts.items()), ("found", "how many"), empty="store and ledgers agree with the topics")
    ]
    found = [f"{one.kind}: {one.key}: {one.seen}" for one in differences[:_SHOWN]]
    found += [f"{one.kind}: {one.about}: {one.seen}" for one in remarks[:_SHOWN]]
    lines += [printable(one) for one in found]
    if not data["store"]:
        lines.append("there is no shared store to compare")
    if differences and not data["repaired"]:
        lines.append("to write the read models again: shotbus state verify --repair")
    repaired = ", rebuilt" if data["repaired"] else ""
    return "\n".join([*lines, f"{data['documents']} documents compared{repaired}"])
