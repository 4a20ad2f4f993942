"""``simulate``: live through seeded faults in simulated time; tells the story of a seed that broke."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING

import click
import structlog

from shotbus.cli.common import EXIT_FAILED

if TYPE_CHECKING:
    from shotbus.simulation import Outcome


@click.command()
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The first seed.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="How many seeds.")
@click.option(
    "--jobs", type=click.IntRange(min=1), default=120, show_default=True, help="Submissions a seed."
)
@click.option(
    "--faults", type=click.FloatRange(min=0), default=20.0, show_default=True, help="Faults a minute."
)
@click.option("--story", is_flag=True, help="Tell the story of seeds that broke nothing, too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a seed.")
def simulate(seed: int, seeds: int, jobs: int, faults: float, *, story: bool, as_json: bool) -> None:
    """Run the whole broker in simulated time under seeded faults; exit 1 when an invariant broke.

    Processes of every role are killed, stopped, declared dead and started again while jobs and sweeps are
    submitted, repeated and cancelled. The same seed does the same again.
    """
    from shotbus import simulation

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    broken = False
    for number in range(seed, seed + seeds):
        outcome = simulation.simulate(simulation.Scenario(number, jobs=jobs, faults=faults))
        broken = broken or bool(outcome.violations)
        click.echo(_as_json(number, outcome) if as_json else _told(number, outcome, story=story))
    sys.exit(EXIT_FAILED if broken else 0)


def _as_json(seed: int, outcome: Outcome) -> str:
    found = [one._asdict() for one in outcome.violations]
    told = {"answers": outcome.answers, "digest": outcome.digest, "story": outcome.story}
    return json.dumps({"seed": seed, "seconds": outcome.ended_at, "violations": found, **told})


def _told(seed: int, outcome: Outcome, *, story: bool) -> str:
    answers = ", ".join(f"{count} {kind}" for kind, count in sorted(outcome.answers.items()))
    lines = [f"seed {seed}: {outcome.ended_at:.0f} s, {len(outcome.violations)} violations; {answers}"]
    lines += [f"  {one.invariant}: {one.about}: {one.seen}" for one in outcome.violations]
    if story or outcome.violations:
        lines += [f"  {line}" for line in outcome.story]
    return "\n".join(lines)
