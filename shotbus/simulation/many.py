"""Many seeds, on several processes: what broke, how often each fault bit. Starts processes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from multiprocessing import get_context

import structlog

from shotbus.simulation import EVERYDAY, FAULTS, Outcome, Scenario, simulate
from shotbus.simulation.loop import DeadlockError, LivelockError

#: With so many seeds every kind of fault must have bitten; with fewer it may not have been drawn.
ENOUGH_SEEDS = 40
_CHUNK = 4
_TALKATIVE = ("asyncio", "shotbus")


@dataclass(slots=True)
class Tally:
    """What many seeds came to; ``broken`` are those with violations, or that stood still."""

    seeds: int = 0
    broken: list[int] = field(default_factory=list)
    bites: Counter[str] = field(default_factory=Counter)
    judged: Counter[str] = field(default_factory=Counter)

    def add(self, seed: int, outcome: Outcome) -> None:
        """Count a seed."""
        self.seeds += 1
        self.bites.update(outcome.bites)
        self.judged.update(outcome.judged)
        if outcome.violations:
            self.broken.append(seed)

    @property
    def harmless(self) -> list[str]:
        """The kinds of fault that never bit, once there were seeds enough for all of them."""
        if self.seeds < ENOUGH_SEEDS:
            return []
        return [kind for kind in (*FAULTS, *EVERYDAY) if not self.bites[kind]]


def run_seeds(
    seeds: Sequence[int], scenario: Callable[[int], Scenario], processes: int
) -> Iterator[tuple[int, Outcome]]:
    """Yield each seed with its outcome, in order.

    Args:
        seeds: each is one run.
        scenario: makes a seed's scenario; has to be picklable when there are several processes.
        processes: 1 stays in this one.

    """
    if processes == 1:
        for seed in seeds:
            with _quiet():
                outcome = _run(scenario, seed)
            yield seed, outcome
        return
    # Spawned, not forked: a fork would inherit whatever loop or log this process has.
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_be_quiet) as pool:
        yield from zip(seeds, pool.map(_run, repeat(scenario), seeds, chunksize=_CHUNK), strict=False)


def _run(scenario: Callable[[int], Scenario], seed: int) -> Outcome:
    try:
        return simulate(scenario(seed))
    except (DeadlockError, LivelockError) as error:
        return Outcome.stuck(str(error))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the logs of what goes wrong on purpose to ourselves, for now: this process may have others."""
    before = structlog.get_config()
    levels = {name: logging.getLogger(name).level for name in _TALKATIVE}
    _be_quiet()
    try:
        yield
    finally:
        structlog.configure(**before)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _be_quiet() -> None:
    """Keep the logs of what goes wrong on purpose to ourselves: the story tells it."""
    # Not cached: a logger that is used now for the first time has to speak up again afterwards.
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=silent, cache_logger_on_first_use=False)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
