"""Progress on standard error: bars of sweeps, a spinner for anything else, the way back after Ctrl-C.

rich is imported when something is shown: the command starts without it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from shotbus.producers.plan import Reduction
from shotbus.producers.sweep import AsyncSweep

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_REFRESH_SECONDS = 0.1


@contextmanager
def spinner(text: str) -> Iterator[Callable[[str], None]]:
    """Show on a terminal what is waited for; yields a function that changes the text."""
    from rich.console import Console

    with Console(stderr=True).status(text) as status:
        yield status.update


@contextmanager
def way_back(text: str) -> Iterator[None]:
    """Say ``text`` on standard error when the work inside is interrupted."""
    try:
        yield
    except asyncio.CancelledError:
        # What Ctrl-C becomes inside a coroutine; the command still ends with 130.
        click.echo(f"\n{text}", err=True)
        raise


async def follow(
    sweeps: Mapping[str, AsyncSweep], points: Mapping[str, int], timeout: float | None
) -> dict[str, Reduction]:
    """Show a bar a sweep with rate and ETA until every final reduction is here.

    Args:
        sweeps: by name.
        points: of each sweep, all shards together.
        timeout: seconds for all of them; None waits for ever.

    Raises:
        TimeoutError: not all were final in time.
        RefusedError: a declaration was refused.

    """
    pending = {name: asyncio.ensure_future(sweep.result()) for name, sweep in sweeps.items()}
    try:
        with _bars() as progress:
            bars = {name: progress.add_task(name, total=points[name], rate="") for name in sweeps}
            began = time.monotonic()
            async with asyncio.timeout(timeout):
                while not all(future.done() for future in pending.values()):
                    await asyncio.wait(pending.values(), timeout=_REFRESH_SECONDS)
                    _show(progress, bars, sweeps, began)
            return {name: future.result() for name, future in pending.items()}
    finally:
        for future in pending.values():
            future.cancel()


def _bars() -> Progress:
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description:>16}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("points {task.fields[rate]}"),
        progress.TimeElapsedColumn(),
        progress.TextColumn("eta"),
        progress.TimeRemainingColumn(),
    )
    return progress.Progress(*columns, console=Console(stderr=True))


def _show(
    progress: Progress, bars: Mapping[str, TaskID], sweeps: Mapping[str, AsyncSweep], began: float
) -> None:
    for name, sweep in sweeps.items():
        latest = sweep.partial()
        if latest is None:
            continue
        rate = latest.points / max(1e-9, time.monotonic() - began)
        done = latest.final or latest.done == latest.shards
        text = f"({rate:,.0f}/s)" if not done else ""
        progress.update(bars[name], completed=latest.points, rate=text)
