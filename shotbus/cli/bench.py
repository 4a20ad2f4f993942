"""``bench``: speed and memory on this machine, as ratios measured in one run."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from shotbus.benchmarks import suite, tables
from shotbus.benchmarks.figures import Report
from shotbus.cli.common import EXIT_FAILED, EXIT_UNREACHABLE, FiniteRange, errors
from shotbus.deploy.services import ServiceError, ServiceMissingError, Services
from shotbus.deploy.services.manager import KINDS, url


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(suite.BENCHMARKS)), help="Run only these.")
@click.option("--quick", is_flag=True, help="Small sizes: a look, not a measurement.")
@click.option(
    "--scale",
    type=FiniteRange(0, min_open=True),
    default=1.0,
    help="Multiply the load: 0.01 is a hundredth.",
)
@click.option("--kafka", metavar="URL", help="Also measure on this Kafka (topics get a new prefix).")
@click.option("--with-kafka", is_flag=True, help="Also measure on a Kafka and Redis started for this run.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def bench(
    only: tuple[str, ...], *, quick: bool, scale: float, kafka: str | None, with_kafka: bool, as_json: bool
) -> None:
    """Measure this machine; exits 1 when a target is missed.

    Without --only: sweep, noop, latency, memory and bytes. What loads the dispatcher takes longer and runs
    when it is named: fairness, pools, backlog, eta; so does calibrations.
    """
    size = "quick" if quick else "full"
    with errors(as_json=as_json), _services(wanted=with_kafka and not kafka) as started:
        reports = [_run(name, place, size, scale) for name, place in suite.plan(only, kafka or started)]
    figures = [figure for report in reports for figure in report.figures]
    if as_json:
        printed = [_as_json(report) for report in reports]
        click.echo(json.dumps({"size": size, "scale": scale, "reports": printed}))
    else:
        tables.show(reports, Console(width=None if sys.stdout.isatty() else 200))
    if any(figure.met is False for figure in figures):
        sys.exit(EXIT_FAILED)


def _run(name: str, kafka: str | None, size: str, scale: float) -> Report:
    times = "" if scale == 1 else f", scale {scale:g}"
    click.echo(f"running {name} ({'kafka' if kafka else 'embedded'}, {size}{times}) …", err=True)
    return asyncio.run(suite.run(name, kafka, size, scale))


@contextmanager
def _services(*, wanted: bool) -> Iterator[str | None]:
    """Start Kafka and Redis for the time of the run, when wanted; yields their URL."""
    if not wanted:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="shotbus-bench-services-") as folder:
        services = Services(Path(folder), cache=Path.cwd() / ".services")
        try:
            yield url({kind: services.up(kind) for kind in KINDS})
        except (ServiceError, ServiceMissingError) as error:
            click.echo(str(error), err=True)
            sys.exit(EXIT_UNREACHABLE)
        finally:
            services.down()


def _as_json(report: Report) -> dict[str, Sequence[object]]:
    return {
        "figures": [figure.as_json() for figure in report.figures],
        "notes": report.notes,
        "tables": [{"title": one.title, "header": one.header, "rows": one.rows} for one in report.tables],
    }
