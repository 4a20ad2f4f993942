"""``topics plan|apply``: the declared topics beside those that exist."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import click

from shotbus.broker.bus.base import Bus, TopicSpec
from shotbus.broker.connect import open_bus, parse_url, topics_for
from shotbus.cli.common import EXIT_USAGE, Options, command_options, emit, run_async, table


@click.group()
def topics() -> None:
    """Plan and apply the topics."""


@topics.command(short_help="Show what is declared and whether it exists.")
@command_options
def plan(options: Options) -> None:
    """Show each declared topic and whether it exists as declared; exit code 2 when one differs."""
    run_async(_work(options, apply=False))


@topics.command(short_help="Create the topics that are missing.")
@command_options
def apply(options: Options) -> None:
    """Create the topics that are missing; refuses when one exists with another partition count."""
    run_async(_work(options, apply=True))


async def _work(options: Options, *, apply: bool) -> None:
    address = parse_url(options.url)
    specs = topics_for(address, options.config).specs(options.config.pools)
    bus = open_bus(address, options.config, client_id="shotbus-topics")
    # A plan changes nothing: a data directory that holds no bus yet is not given one.
    existing = {} if address.untouched and not apply else await _existing(bus, specs if apply else ())
    rows = [(spec, _state(spec, existing)) for spec in specs]
    columns = ("topic", "partitions", "clean-up", "retention", "state")
    text = table([[s.name, s.partitions, s.cleanup, _days(s), state] for s, state in rows], columns)
    emit(options, [dataclasses.asdict(spec) | {"state": state} for spec, state in rows], text)
    if any(state.startswith("differs") for _, state in rows):
        raise SystemExit(EXIT_USAGE)


async def _existing(bus: Bus, specs: Sequence[TopicSpec]) -> dict[str, int]:
    """Create what is missing of ``specs``; return the partition counts of the topics there are."""
    await bus.start()
    try:
        if specs:
            await bus.create_topics(specs)
        return await bus.topics()
    finally:
        await bus.close()


def _state(spec: TopicSpec, existing: dict[str, int]) -> str:
    partitions = existing.get(spec.name)
    if partitions is None:
        return "missing"
    return "ok" if partitions == spec.partitions else f"differs: {partitions} partitions"


def _days(spec: TopicSpec) -> str:
    return "-" if spec.retention_ms is None else f"{spec.retention_ms / 86_400_000:g} d"
