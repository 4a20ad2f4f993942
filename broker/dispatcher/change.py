"""A change of mind about jobs that wait: class, deadline, pool, window. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from sys import intern
from typing import Any, NamedTuple

from shotbus.broker.dispatcher.admission import MAX_YEAR_MS
from shotbus.broker.dispatcher.funds import wait_ms
from shotbus.broker.dispatcher.job import Job
from shotbus.broker.dispatcher.moves import barred, way
from shotbus.broker.dispatcher.shard import LACKS, Shard
from shotbus.broker.dispatcher.states import ASIDE, AT_HAND, Cause, Phase
from shotbus.broker.machine import Now

#: Among the extras of a job that a person has sent elsewhere: it waits there for a budget that may be raised.
MOVED = "moved"
#: In these a job waits for its time, and for nothing that has happened to it.
_PUT_OFF = frozenset({Phase.SCHEDULED, Phase.DEFERRED})


class Change(NamedTuple):
    """What is wished for; None leaves it. ``pool`` and the times hold from now on, ``window`` once."""

    priority: str | None = None
    deadline_ms: int | None = None
    pool: str | None = None
    window: str | None = None
    not_before_ms: int | None = None


class RefusedError(ValueError):
    """A change that cannot be made; the text says why."""


def change_of(arguments: Mapping[str, str]) -> Change:
    """Read a control record's arguments. Raises RefusedError for one that is unknown or malformed."""
    unknown = sorted(set(arguments) - set(_ARGUMENTS))
    if unknown:
        raise RefusedError(f"unknown argument {unknown[0]}")
    fields: dict[str, str | int] = {}
    for name, value in sorted(arguments.items()):
        field = _ARGUMENTS[name]
        if not field.endswith("_ms"):
            fields[field] = value
        elif value.isascii() and value.isdecimal() and int(value[:16]) <= MAX_YEAR_MS:
            fields[field] = int(value)
        else:
            raise RefusedError(f"{name} is wall time in milliseconds")
    return Change(**fields)  # type: ignore[arg-type]  # the table says which are numbers


_ARGUMENTS = {
    "class": "priority",
    "deadline_ms": "deadline_ms",
    "pool": "pool",
    "window": "window",
    "not_before_ms": "not_before_ms",
}


def unknown_window(names: Iterable[str]) -> str:
    """Return why no job can be changed to a window that is none of ``names``; with none, how that begins."""
    return f"unknown window, known: {', '.join(sorted(names))}"


def check_change(shard: Shard, job: Job, change: Change, now: Now) -> str:
    """Return why a job cannot be changed like that; empty when it can."""
    until = _until(shard, change, now)
    deadline = change.deadline_ms or job.deadline_ms or MAX_YEAR_MS
    checks = (
        (change.priority is not None and change.priority not in shard.config.classes, "unknown class"),
        (change.window is not None and change.window not in shard.windows, unknown_window(shard.windows)),
        (job.phase not in AT_HAND, "a worker has it"),
        (change.deadline_ms is not None and change.deadline_ms <= now.wall_ms, "the deadline has passed"),
        (until and job.phase in ASIDE, "it stands aside, waiting for an answer"),
        (until and deadline <= until, "its deadline is earlier"),
        (change.pool is not None and job.phase in ASIDE, "it stands aside, waiting for an answer"),
        (change.pool is not None and "stages" in (job.extras or {}), "its rule has it run elsewhere first"),
    )
    told = next((words for wrong, words in checks if wrong), "")
    if told or change.pool is None:
        return told
    lack = barred(shard, job, change.pool) or _unpaid(shard, job, change.pool, now)
    return f"{change.pool} {lack}" if lack else ""


def _unpaid(shard: Shard, job: Job, pool: str, now: Now) -> str:
    """Return which budget could never pay for a job on another pool; what is only short may be waited for."""
    if pool == job.pool:
        return ""
    seconds = shard.run_seconds(job, pool)
    return shard.funds.never(job, pool, now, seconds=seconds, opens=shard.opens_session(job, pool))


def apply_change(shard: Shard, job: Job, change: Change, now: Now, **terms: Any) -> None:
    """Change a job that :func:`check_change` has nothing against; ``terms`` say whose wish it is."""
    before = {"class": job.priority, "pool": job.pool, "deadline_ms": job.deadline_ms}
    waits = job.phase is Phase.WAITING
    if waits:
        shard.withdraw(job, now)
    _alter(shard, job, change, now)
    moved = job.pool != before["pool"]
    goes, until = _when(shard, job, change, now, moved=moved)
    after = {"class": job.priority, "pool": job.pool, "deadline_ms": job.deadline_ms, "until_ms": until}
    after |= _then(job, change)
    shard.note(job, Cause.CHANGE, before=before, after=after, **terms)
    if waits:
        if moved and not until and (lacking := shard.funds.reserve(job, now)) is not None:
            # It may go there when it can be paid for there.
            until, terms = now.wall_ms + wait_ms(lacking), {**terms, LACKS: "budget"}
        shard.replace(job, now)
    if until and job.phase is Phase.WAITING:
        shard.put_off(job, Cause.DEFER, until, now, **terms)
    elif until:
        job.forget(LACKS)
        shard.set_timer(job, until)
    elif goes:
        shard.release(job, now, **terms)


def _alter(shard: Shard, job: Job, change: Change, now: Now) -> None:
    """Change what is changed about a job, which stands in no queue now."""
    if change.priority is not None:
        shard.jobs.change_class(job, intern(change.priority))
    if change.deadline_ms is not None:
        shard.set_deadline(job, change.deadline_ms)
    if change.pool is not None and change.pool != job.pool:
        shard.move_to(job, way(shard, job, change.pool), now)
        job.keep(**{MOVED: 1})
    if change.window is not None:
        # A person's word about when counts instead of its rule's.
        job.forget("windows")
    job.move(Cause.CHANGE)


def _when(shard: Shard, job: Job, change: Change, now: Now, *, moved: bool) -> tuple[bool, int]:
    """Return whether what was put off goes at once, and the time before which it shall not run, 0 for now."""
    until = _until(shard, change, now)
    short = moved and (job.extras or {}).get(LACKS) == "budget"
    # Put off for a budget that was short where it was: with that pool the reason is left behind.
    if job.phase not in _PUT_OFF or not (until == 0 or (until is None and short)):
        return False, until or 0
    # A word about when is none against the other windows that hold for it.
    closed = shard.hours.closed_until(job, now.wall_ms)
    return not closed, closed


def _then(job: Job, change: Change) -> dict[str, str]:
    """Return where a job goes after what its rules have it do first."""
    return {"then": change.pool} if change.pool is not None and job.pool != change.pool else {}


def _until(shard: Shard, change: Change, now: Now) -> int | None:
    """Return the time before which the job shall not run, 0 for now; None where nothing is said about it."""
    if change.window is None and change.not_before_ms is None:
        return None
    opens = shard.opens_ms(change.window, now) if change.window else None
    until = max(opens or 0, change.not_before_ms or 0)
    return until if until > now.wall_ms else 0
