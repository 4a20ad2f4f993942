"""What people decide about: jobs that wait for a review, feature flags. Asks shards through the session."""

from __future__ import annotations

from collections.abc import Sequence

from shotbus.broker.dispatcher.standing import is_flag_value
from shotbus.producers.asking import Wish, ask
from shotbus.producers.changing import check_reason
from shotbus.producers.session import Session
from shotbus.schemas.errors import Problem, ShotbusError
from shotbus.schemas.ids import partition_of, route_of


def review_wish(verdict: str, job_id: str, *, tenant: str, reason: str) -> tuple[Wish, list[Problem]]:
    """Return the wish to ``approve`` or ``reject`` a job, and everything that is wrong with it."""
    problems = check_reason(reason)
    try:
        route_of(job_id)
    except ValueError as error:
        problems.append(Problem("SB-4001", "$.job_id", actual=job_id, detail=str(error)))
    return Wish(verdict, "job", job_id, tenant, reason), problems


def flag_wish(name: str, value: str, *, reason: str) -> tuple[Wish, list[Problem]]:
    """Return the wish to switch a flag, and everything that is wrong with it.

    ``value``: on, off, a percentage from 0 to 100, or default for what is configured.
    """
    problems, told = check_reason(reason), "" if value == "default" else value
    if not value or not is_flag_value(told):
        limit = "on, off, default or a percentage from 0 to 100"
        problems.append(Problem("SB-1108", "$.value", limit=limit, actual=value))
    return Wish("flag", "policy", name, "", reason, {"value": told}), problems


async def review(session: Session, wish: Wish, *, timeout: float) -> None:
    """Publish a review's verdict; returns when its shard has obeyed.

    Raises:
        TimeoutError: the shard did not answer in time; the wish is durable and will be heeded.
        ShotbusError: SB-4001, the tenant has no such job that waits for a review.

    """
    shard = partition_of(wish.name, session.topics.partitions)
    if not await _obeyed(session, wish, [shard], timeout):
        hint = "see shotbus review list; check the tenant"
        raise ShotbusError(
            [Problem("SB-4001", "$.job_id", actual=wish.name, detail="none awaits review", hint=hint)]
        )


async def switch_flag(session: Session, wish: Wish, *, timeout: float) -> int:
    """Publish a flag's value to every shard; returns how many obeyed.

    Raises:
        TimeoutError: a shard did not answer in time; the wish is durable and will be heeded.
        ShotbusError: SB-1108, no shard has such a flag.

    """
    obeyed = await _obeyed(session, wish, range(session.topics.partitions), timeout)
    if not obeyed:
        hint = "flags are declared in [flags] of the dispatchers' configuration"
        raise ShotbusError(
            [Problem("SB-1108", "$.flag", limit="a configured flag", actual=wish.name, hint=hint)]
        )
    return obeyed


async def _obeyed(session: Session, wish: Wish, shards: Sequence[int], timeout: float) -> int:
    (answers,) = await ask(session, [wish], shards, timeout=timeout)
    return sum(bool(answer["changed"]) for answer in answers)
