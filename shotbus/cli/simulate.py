"""``simulate``: live through seeded faults in simulated time; tells the story of a seed that broke."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from shotbus.cli.common import EXIT_FAILED, FiniteRange, table

if TYPE_CHECKING:
    from shotbus.simulation import Outcome, Scenario
    from shotbus.simulation.many import Tally


@click.command()
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The first seed.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="How many seeds.")
@click.option("--jobs", type=click.IntRange(min=1), default=64, show_default=True, help="Submissions a seed.")
@click.option("--faults", type=FiniteRange(min=0), default=36.0, show_default=True, help="Faults a minute.")
@click.option("--only", "kinds", multiple=True, metavar="FAULT", help="Only this kind of fault; repeat it.")
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=None,
    help="Run seeds on so many processes [default: 2 where there are several seeds and cores].",
)
@click.option("--story", is_flag=True, help="Tell the story of seeds that broke nothing, too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a seed, and one for all.")
def simulate(
    *,
    seed: int,
    seeds: int,
    jobs: int,
    faults: float,
    kinds: tuple[str, ...],
    processes: int | None,
    story: bool,
    as_json: bool,
) -> None:
    """Run the whole broker in simulated time under seeded faults; exit 1 when an invariant broke.

    Processes are killed, frozen, cut off and given wrong clocks, the store fails, a paid provider throttles
    and forgets to answer, while jobs and sweeps are submitted, repeated and cancelled. The same seed does
    the same again. Of many seeds each kind of fault must have bitten at least once.
    """
    from shotbus.simulation import FAULTS
    from shotbus.simulation.many import Tally

    unknown = [kind for kind in kinds if kind not in FAULTS]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(FAULTS)}", param_hint="--only")
    tally = Tally()
    make = functools.partial(_scenario, jobs=jobs, faults=faults, kinds=kinds)
    for number, outcome in _run(range(seed, seed + seeds), make, processes):
        tally.add(number, outcome)
        if as_json:
            click.echo(_as_json(number, outcome))
        elif outcome.violations or story or seeds == 1:
            click.echo(_told(number, outcome, story=story))
    harmless = [] if kinds or not faults else tally.harmless
    if seeds > 1:
        click.echo(_tally_json(tally, harmless) if as_json else _tally_text(tally, harmless))
    sys.exit(EXIT_FAILED if tally.broken or harmless else 0)


def _scenario(seed: int, *, jobs: int, faults: float, kinds: tuple[str, ...]) -> Scenario:
    from shotbus.simulation import Scenario

    return Scenario(seed, jobs=jobs, faults=faults, kinds=kinds)


def _run(
    seeds: range, make: functools.partial[Scenario], processes: int | None
) -> Iterator[tuple[int, Outcome]]:
    """Yield outcomes; a bar on standard error when there are many and somebody watches."""
    from shotbus.simulation.many import run_seeds

    several = len(seeds) > 1 and (os.cpu_count() or 1) > 1
    outcomes = run_seeds(seeds, make, processes or (2 if several else 1))
    if len(seeds) == 1 or not sys.stderr.isatty():
        yield from outcomes
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(outcomes, "seeds", total=len(seeds), console=Console(stderr=True))


def _as_json(seed: int, outcome: Outcome) -> str:
    found = [one._asdict() for one in outcome.violations]
    told = {"answers": outcome.answers, "bites": outcome.bites, "digest": outcome.digest}
    document = {"seed": seed, "seconds": outcome.ended_at, "violations": found, **told}
    return json.dumps({**document, "story": outcome.story})


def _told(seed: int, outcome: Outcome, *, story: bool) -> str:
    answers = ", ".join(f"{count} {kind}" for kind, count in sorted(outcome.answers.items()))
    lines = [f"seed {seed}: {outcome.ended_at:.0f} s, {len(outcome.violations)} violations; {answers}"]
    lines += [f"  {one.invariant} {one.rule}: {one.about}: {one.seen}" for one in outcome.violations]
    if story or outcome.violations:
        lines += [f"  {line}".rstrip() for line in outcome.story]
    return "\n".join(lines)


def _tally_json(tally: Tally, harmless: list[str]) -> str:
    counts = {"bites": dict(tally.bites), "judged": dict(tally.judged)}
    return json.dumps({"seeds": tally.seeds, "broken": tally.broken, "harmless": harmless, **counts})


def _tally_text(tally: Tally, harmless: list[str]) -> str:
    bites = table(sorted(tally.bites.items()), ("fault", "bites"), empty="no faults")
    judged = ", ".join(f"{name} {count:,}" for name, count in tally.judged.items())
    lines = [bites, "", f"judged: {judged}", f"{tally.seeds} seeds, {len(tally.broken)} broken"]
    if tally.broken:
        lines.append(f"again, with its story: shotbus simulate --story --seed {tally.broken[0]}")
    if harmless:
        lines.append(f"never bit, so nothing is shown about: {', '.join(harmless)}")
    return "\n".join(lines)
