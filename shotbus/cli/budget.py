"""``budget``: limits and what is left of them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from shotbus.broker.treasury.balances import Balance, read_balances
from shotbus.broker.treasury.budgets import percent
from shotbus.cli.common import Options, command_options, emit, printable, run_async, table
from shotbus.cli.jobs import connect

_SUMS = ("limit", "spent", "reserved", "outstanding", "left")
_COLUMNS = ("budget", "whose", "resource", *_SUMS, "until", "alerted")


@click.command(short_help="List the budgets and what is left of them.")
@click.option("--tenant", help="Only what concerns this tenant.")
@command_options
def budget(options: Options, *, tenant: str | None) -> None:
    """List the budgets: limit, spent, reserved by live jobs, outstanding with the dispatchers, left, alerted.

    What is outstanding and not reserved is called back when another dispatcher needs it. Alerted is the
    highest threshold that was passed, and when; shotbus audit --action budget has them all.
    """
    run_async(_list(options, tenant))


async def _list(options: Options, tenant: str | None) -> None:
    async with connect(options) as client:
        session = client.session
        now_ms = time.time_ns() // 1_000_000
        found = await read_balances(session.bus, session.topics, options.config, now_ms=now_ms)
    concerned = [one for one in found if tenant is None or one.purse.tenant in ("", "*", tenant)]
    empty = f"no budget concerns {printable(str(tenant))}" if found else "no budget is configured"
    emit(options, {"budgets": [one.as_json() for one in concerned]}, _text(concerned, empty))


def _text(found: Sequence[Balance], empty: str) -> str:
    rows = []
    for one in found:
        told, purse = one.as_json(), one.purse
        whose = [f"{name}={told[name]}" for name in ("tenant", "experiment", "pool") if told[name]]
        sums = [told[name] for name in ("limit", "spent", "reserved", "held", "available")]
        # Periods end with a day; a line is to fit a terminal.
        until = f"{told['until'][:13]}Z" if told["until"] else "-"
        rows.append([purse.budget, " ".join(whose) or "all", purse.resource, *sums, until, _alerted(one)])
    return table(rows, _COLUMNS, empty=empty)


def _alerted(one: Balance) -> str:
    if not one.alerted:
        return "-"
    at = one.as_json()["alerted_at"]
    return f"{percent(one.alerted)} {at[:16]}Z" if at else percent(one.alerted)
