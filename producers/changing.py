"""Change of mind: class, deadline, pool, window or begin of what waits. Reads the clock; asks shards."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, TypedDict

from shotbus.broker.config import Config
from shotbus.broker.dispatcher.admission import check_times
from shotbus.broker.dispatcher.change import unknown_window
from shotbus.producers.asking import Wish, ask
from shotbus.producers.coerce import wall_ms
from shotbus.producers.session import Session
from shotbus.schemas.errors import Problem, ShotbusError
from shotbus.schemas.ids import partition_of, route_of

MAX_REASON = 256
_TIMES = ("deadline_ms", "not_before_ms")
# A shard tells a reason once, with the number of jobs that it holds for in front; one against the change
# itself has no number.
_COUNTED = re.compile(r"(\d{1,12}): (.*)", re.DOTALL)


class Changed(NamedTuple):
    """What became of a wish to change jobs: of those that are meant and live, ``changed`` did.

    ``problems``: why the others did not, with how many they are, the commonest first; 0 where no job could
    have been changed like that.
    """

    changed: int
    problems: tuple[tuple[str, int], ...] = ()

    @property
    def refused(self) -> int:
        """Jobs that were meant and stayed as they were."""
        return sum(count for _, count in self.problems)


class ChangeOptions(TypedDict, total=False):
    """Whom a change is about and what it changes; only what is given does change.

    ``job``, ``sweep``, ``experiment``: exactly one of them, an id or a name; of the last two every live job
    of the tenant. ``priority``: another class. ``deadline``, ``not_before``: seconds from now or an aware
    datetime. ``pool``: where to run instead. ``window``: named window of the configuration in which to run.
    ``reason``: why, kept with the change; it must be there.
    """

    job: str | None
    sweep: str | None
    experiment: str | None
    tenant: str
    priority: str | None
    deadline: Any
    not_before: Any
    pool: str | None
    window: str | None
    reason: str


def wish_of(wanted: ChangeOptions, config: Config) -> tuple[Wish, list[Problem]]:
    """Return the ``reprioritise`` wish, and everything that is wrong with it; reads the clock."""
    (target, name), problems = _target(wanted, config.limits.max_field)
    arguments, wrong = _arguments(wanted, config)
    reason = wanted.get("reason", "")
    tenant = wanted.get("tenant", "default")
    return Wish("reprioritise", target, name, tenant, reason, arguments), problems + wrong + check_reason(
        reason
    )


def _arguments(wanted: ChangeOptions, config: Config) -> tuple[dict[str, str], list[Problem]]:
    now_ms, problems = time.time_ns() // 1_000_000, list[Problem]()
    given = {"class": wanted.get("priority"), "pool": wanted.get("pool"), "window": wanted.get("window")}
    arguments = {name: value for name, value in given.items() if value}
    for name, when in (("deadline", wanted.get("deadline")), ("not_before", wanted.get("not_before"))):
        try:
            at_ms = wall_ms(when, f"$.{name}", now_ms)
        except ShotbusError as error:
            problems += error.problems
        else:
            if at_ms is not None:
                arguments[f"{name}_ms"] = str(at_ms)
    times = {name: int(arguments[name]) if name in arguments else None for name in _TIMES}
    problems += check_times(times, now_ms)
    priority = arguments.get("class")
    if priority and priority not in config.classes:
        limit = ", ".join(config.classes)
        problems.append(Problem("SB-1101", "$.priority", limit=limit, actual=priority))
    if not arguments and not problems:
        hint = "say what should change: class, deadline, pool, window or not-before"
        problems.append(Problem("SB-1107", "$", hint=hint))
    return arguments, problems


def check_reason(reason: str) -> list[Problem]:
    """Return what is wrong with the reason of a wish that needs one."""
    if not reason.strip():
        return [Problem("SB-1107", "$.reason", hint="say why: it is kept with the change")]
    if len(reason) > MAX_REASON:
        actual = str(len(reason))
        return [Problem("SB-1105", "$.reason", limit=f"{MAX_REASON} characters", actual=actual)]
    return []


def _target(wanted: ChangeOptions, longest: int) -> tuple[tuple[str, str], list[Problem]]:
    named = {"job": wanted.get("job"), "sweep": wanted.get("sweep"), "experiment": wanted.get("experiment")}
    given = [(target, name) for target, name in named.items() if name]
    if len(given) != 1:
        code = "SB-1108" if given else "SB-1107"
        return ("job", ""), [Problem(code, "$", limit="one of job, sweep and experiment", hint="name one")]
    target, name = given[0]
    if len(name) > longest:
        return given[0], [Problem("SB-1105", f"$.{target}", limit=f"{longest} characters")]
    if target == "job":
        try:
            route_of(name)
        except ValueError as error:
            return given[0], [Problem("SB-4001", "$.job_id", actual=name, detail=str(error))]
    return given[0], []


async def change(session: Session, wish: Wish, *, timeout: float) -> Changed:
    """Publish a ``reprioritise`` wish to every shard it can be about and add their answers up.

    Raises:
        TimeoutError: a shard did not answer in time; the wish is durable and will be heeded.
        ShotbusError: no shard has anything live that is meant (SB-4001; SB-4007 of a sweep), or none knows
            the window (SB-1108).

    """
    partitions: Sequence[int] = range(session.topics.partitions)
    if wish.target == "job":
        partitions = [partition_of(wish.name, session.topics.partitions)]
    (answers,) = await ask(session, [wish], partitions, timeout=timeout)
    problems = Counter[str]()
    for answer in answers:
        for told in answer["problems"]:
            found = _COUNTED.fullmatch(told)
            problems[found[2] if found else told] += int(found[1]) if found else 0
    changed = sum(answer["changed"] for answer in answers)
    if not changed and not problems:
        code = "SB-4007" if wish.target == "sweep" else "SB-4001"
        hint = "what has ended cannot be changed; check the name and the tenant"
        raise ShotbusError([Problem(code, f"$.{wish.target}", actual=wish.name, hint=hint)])
    nowhere = unknown_window(())
    if not changed and all(told.startswith(nowhere) for told in problems):
        # A mistake in the wish, as an unknown pool is, and no state of the jobs.
        limit = next(iter(problems)).removeprefix(nowhere) or "no window is configured"
        raise ShotbusError([Problem("SB-1108", "$.window", limit=limit, actual=wish.arguments["window"])])
    return Changed(changed, tuple(problems.most_common()))
