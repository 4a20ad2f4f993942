"""What became of a sweep's shards, by the ids that follow from the sweep's. Reads the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from shotbus.broker.store.base import StoreError
from shotbus.broker.store.reading import read_documents
from shotbus.broker.store.refused import refusal_key
from shotbus.producers.session import Session
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import Problem
from shotbus.schemas.ids import job_id
from shotbus.schemas.outcomes import SUCCESSES

_LAG_SECONDS = 2.0
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Reason:
    """Why shards have no answer: a problem, or only the outcome when there is none to tell."""

    outcome: str
    problem: Problem | None
    shards: tuple[int, ...]

    def __str__(self) -> str:
        """Say how many shards, and why."""
        return f"{len(self.shards)} x {self.problem or self.outcome}"

    def as_json(self) -> dict[str, Any]:
        """Return what JSON has words for."""
        told = self.problem.as_json() if self.problem else None
        return {"outcome": self.outcome, "problem": told, "shards": list(self.shards)}


def shard_key(sweep_id: str, shard: int) -> str:
    """Return the idempotency key of a shard's job."""
    return f"{sweep_id}/{shard}"


def shard_job(sweep_id: str, shard: int, tenant: str, group: str = "") -> str:
    """Return the id of a shard's job; ``group``: the session that the sweep was submitted in."""
    return job_id(tenant, session=group, idempotency_key=shard_key(sweep_id, shard))


async def reasons_of(
    session: Session, sweep_id: str, shards: Sequence[int], *, tenant: str, group: str = ""
) -> list[Reason]:
    """Return why these shards of a tenant's sweep failed, the commonest reason first.

    ``group``: the session that the sweep was submitted in. The store lags behind the bus: what is not there
    after two seconds, or when the store is dead, is left out.
    """
    names = [shard_job(sweep_id, one, tenant, group) for one in shards]
    deadline, found = time.monotonic() + _LAG_SECONDS, await _failures(session, names, tenant)
    while None in found and time.monotonic() < deadline:
        await asyncio.sleep(_LOOK_SECONDS)
        found = await _failures(session, names, tenant)
    return _grouped([(shard, one) for shard, one in zip(shards, found, strict=True) if one is not None])


_Failure = tuple[str, tuple[Problem, ...]]


def _grouped(failures: Sequence[tuple[int, _Failure]]) -> list[Reason]:
    """Put together what differs in the actual values alone."""
    groups: dict[tuple[str, ...], Reason] = {}
    for shard, (outcome, problems) in failures:
        for problem in problems or (None,):
            key = (outcome, problem.code, problem.path, problem.limit) if problem else (outcome,)
            before = groups.get(key) or Reason(outcome, problem, ())
            groups[key] = replace(before, shards=(*before.shards, shard))
    return sorted(groups.values(), key=lambda one: -len(one.shards))


async def _failures(session: Session, names: Sequence[str], tenant: str) -> list[_Failure | None]:
    keys = [key for name in names for key in (f"result:{name}", refusal_key(name, tenant))]
    try:
        found = await read_documents(session.store, keys)
    except StoreError:
        return [None] * len(names)
    pairs = zip(found[::2], found[1::2], strict=True)
    return [_failure(result, tenant) or _failure(refusal, tenant) for result, refusal in pairs]


def _failure(value: bytes | None, tenant: str) -> _Failure | None:
    if value is None:
        return None
    _, fields = decode(value, "circuit_result", "refusal")
    outcome = fields.get("outcome", "refused")
    if fields["tenant"] != tenant or outcome in SUCCESSES:
        return None
    return outcome, tuple(Problem.from_record(one) for one in fields["problems"])
