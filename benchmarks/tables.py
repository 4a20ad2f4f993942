"""Prints reports as tables. Writes to the console it is given."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from shotbus.benchmarks.figures import Figure, Report


def show(reports: Sequence[Report], console: Console) -> None:
    """Print one table of figures, then the tables beside them, then what must be known to read them."""
    table = RichTable(title="shotbus bench")
    for heading in ("benchmark", "figure", "value", "unit", "reference", "ratio", "target", "met?", "spread"):
        table.add_column(heading, justify="right" if heading in ("value", "ratio") else "left")
    for report in reports:
        for figure in report.figures:
            table.add_row(*(escape(cell) for cell in _cells(figure)))
    console.print(table)
    for report in reports:
        for one in report.tables:
            beside = RichTable(*one.header, title=one.title)
            for row in one.rows:
                beside.add_row(*(escape(cell) for cell in row))
            console.print(beside)
        for note in report.notes:
            console.print(f"[dim]{escape(note)}[/dim]")


def _cells(figure: Figure) -> list[str]:
    reference = figure.reference
    told = f"{reference.name}: {number(reference.value)}" if reference else ""
    ratio = f"{figure.ratio:.2f}" if figure.ratio is not None else ""
    target = f"{figure.target}" + ("" if reference is None else " times") if figure.target else ""
    met = {None: "", True: "yes", False: "NO"}[figure.met]
    head = [figure.benchmark, figure.name, number(figure.value), figure.unit]
    return [*head, told, ratio, target, met, figure.noise]


def number(value: float) -> str:
    """Return a value with as many digits as it deserves."""
    if value and abs(value) < 10:
        return f"{value:.2f}"
    return f"{value:,.1f}" if abs(value) < 100 else f"{value:,.0f}"
