"""The options that describe a job, for every command that takes one; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

tenant_option = click.option("--tenant", default="default", show_default=True, help="Whose it is.")


def submission_options(work: Callable[..., Any]) -> Callable[..., Any]:
    """Add what a job and a sweep may be told alike."""
    for option in reversed(_SUBMISSION):
        work = option(work)
    return work


_SUBMISSION = (
    click.option("--shots", type=int, help="Shots a point [default: 1024; exact with --observable]."),
    click.option(
        "--observable",
        "observables",
        multiple=True,
        metavar="PAULI",
        help="Pauli label such as ZZ, qubit 0 rightmost; repeat it for several.",
    ),
    click.option("--precision", type=float, help="Standard error asked for, instead of shots."),
    click.option("--seed", type=int, help="Makes the result repeatable."),
    click.option("--backend", metavar="POOL", help="Pool; without it the policy chooses."),
    click.option(
        "--priority",
        default="experiment",
        show_default=True,
        metavar="CLASS",
        help="Priority class: interactive, production, experiment, bulk, or a configured one.",
    ),
    click.option("--deadline", type=float, metavar="SECONDS", help="From now; later it is of no use."),
    tenant_option,
    click.option("--session", default="", metavar="NAME", help="Session it belongs to."),
    click.option("--role", "roles", multiple=True, help="A role that you have; repeat it for several."),
    click.option("--experiment", default="", help="Experiment it belongs to."),
    click.option(
        "--intent",
        default="explore",
        show_default=True,
        help="explore, test, benchmark or production.",
    ),
    click.option("--not-before", type=float, metavar="SECONDS", help="From now; it waits so long."),
    click.option("--family", default="", metavar="NAME[@VERSION]", help="Circuit family it belongs to."),
    click.option("--value", type=float, help="What the answer is worth to you."),
    click.option("--value-per-second", type=float, help="What a second of waiting costs you."),
    click.option("--max-cost", type=float, help="It is refused where the estimate is higher."),
    click.option("--confidence", type=float, help="In the cheap answer that you have already, 0 to 1."),
    click.option(
        "--fallback",
        multiple=True,
        metavar="STEP",
        help="When its pool cannot answer: POOL, cache:SECONDS, defer:WINDOW, demote:CLASS, review.",
    ),
    click.option(
        "--max-result-age", type=float, metavar="SECONDS", help="An earlier result up to this old will do."
    ),
    click.option("--top-up", is_flag=True, help="Earlier shots of the same work count."),
    click.option("--tolerance", type=float, help="An earlier estimate with this standard error is enough."),
    click.option("--speculate", default="", metavar="HOW", help="answer, compare or blend with a cheap one."),
    click.option("--window", default="", metavar="NAME", help="It runs only while this window is open."),
    click.option("--data-class", default="", metavar="NAME", help="Such as private; limits where it may go."),
    click.option(
        "--quality",
        "quality_",
        multiple=True,
        metavar="GATE=VALUE",
        help="What the answer must be: max_stderr, range, outcomes with share, parity; repeat it.",
    ),
    click.option("--tag", "tags", multiple=True, help="A label; repeat it for several."),
    click.option(
        "--option",
        "options_",
        multiple=True,
        metavar="KEY=VALUE",
        help="Backend option; repeat it.",
    ),
)
