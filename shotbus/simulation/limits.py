"""How many jobs were with workers at a time, over all shards of a simulated world, by their ledgers. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from shotbus.broker.bus.memory_log import Stored
from shotbus.broker.dispatcher.concurrency import Concurrency
from shotbus.broker.dispatcher.job import job_of_row
from shotbus.broker.dispatcher.rows import is_job, row_fields
from shotbus.broker.dispatcher.states import TERMINAL, WITH_A_WORKER, Phase
from shotbus.broker.invariants import Violation


class _Step(NamedTuple):
    """A job that goes to a worker (``more`` 1), or that no worker has any more (-1)."""

    at_ms: int
    more: int
    tenant: str
    pool: str


def passed_limits(rows: Iterable[Stored], limits: Mapping[str, int]) -> list[Violation]:
    """Return where more jobs were with workers than may be; none for whoever is within the limits.

    Args:
        rows: every record of the dispatchers' ledgers that was ever committed, each partition in its order.
        limits: ``[limits.concurrency]``.

    """
    shared, running = Concurrency(limits), Counter[str]()
    found: dict[str, Violation] = {}
    # What one shard's place leaves and another's gains in the same millisecond has left first.
    for step in sorted(_steps(rows), key=lambda one: (one.at_ms, one.more)):
        for key in (f"tenant:{step.tenant}", f"backend:{step.pool}"):
            running[key] += step.more
            most = shared.most(key)
            if most and running[key] > most and key not in found:
                told = f"{running[key]} jobs of {key} are with workers at {step.at_ms}, {most} may be"
                found[key] = Violation("I9", "limit-passed", "", told)
    return list(found.values())


def _steps(rows: Iterable[Stored]) -> Iterator[_Step]:
    away: dict[bytes, tuple[str, str]] = {}
    for record in rows:
        key = record.key or b""
        before = away.pop(key, None)
        after = _place(record.value, before)
        if after is not None:
            away[key] = after
        if before == after:
            continue
        if before is not None:
            yield _Step(record.timestamp_ms, -1, *before)
        if after is not None:
            yield _Step(record.timestamp_ms, 1, *after)


def _place(row: bytes | None, before: tuple[str, str] | None) -> tuple[str, str] | None:
    """Return whose job it is and where it runs; None for one that no worker has, or only looks up.

    A job that has ended keeps its row while a worker has it: it is where it was ``before``.
    """
    if row is None or not is_job(row):
        return None
    fields = row_fields(row)
    phase = Phase(fields["state"])
    if phase in TERMINAL:
        return before
    if phase not in WITH_A_WORKER or phase is Phase.LOOKING_UP:
        return None
    job, _ = job_of_row(fields)
    return job.tenant, job.pool
