"""Shots in increments, where a backend takes only so many a call: how many calls, with which seeds. Pure.

The option ``shots_per_call`` asks for it, mostly as a remedy. Counts of all increments are added before
anything is computed from them: what comes out is, number for number, what one run with these counts gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache, reduce

import numpy as np

from shotbus.schemas.errors import fail
from shotbus.schemas.pub import merge_counts
from shotbus.workers.adapters.entries import Entries

OPTION = "shots_per_call"
#: More calls for one row would take longer than any limit of an attempt.
MAX_INCREMENTS = 10_000


def increments_of(options: Mapping[str, str], shots: int) -> tuple[int, ...]:
    """Return how many shots each call takes of a row: all at once unless the options limit them.

    Exact mode (0 shots) is always one call. Raises ShotbusError (SB-1108) for a limit that is no whole
    number, or that would make more than :data:`MAX_INCREMENTS` calls.
    """
    given = options.get(OPTION)
    if given is None:
        return (shots,)
    # Not int(): it also takes signs, spaces and underscores.
    most = int(given) if given.isascii() and given.isdecimal() and len(given) <= 18 else 0
    least = max(1, -(-shots // MAX_INCREMENTS))
    if most < least:
        raise fail("SB-1108", f"$.options.{OPTION}", limit=f"a whole number, {least} or more", actual=given)
    full, rest = divmod(shots, most)
    return (most,) * full + ((rest,) if rest or not full else ())


@lru_cache(maxsize=1_024)
def seed_offset(increment: int) -> int:
    """Return what is added to a row's seed for an increment, 0 for the first: a run in one call is as ever.

    The others are 64 bits drawn from the number alone, far apart, and far from the offsets of measurement
    bases: the rows of a job, a million strides of 2,113, do not reach from one to the next.
    """
    if increment == 0:
        return 0
    sequence = np.random.SeedSequence(0, spawn_key=(0, increment))
    return int(sequence.generate_state(1, np.uint64)[0])


def added(increments: Iterable[Entries]) -> Entries:
    """Add up the outcomes of the same rows, in ascending order within a row, as :class:`Entries` are."""
    return reduce(_add, increments)


def _add(one: Entries, other: Entries) -> Entries:
    merged = merge_counts(one.with_registers(()), other.with_registers(()))
    return Entries(merged.indptr, merged.outcomes, merged.counts)
