"""What a client asks and wishes about what is there: jobs, sweeps, pools, flags. I/O through its session."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self, Unpack

from shotbus.broker.config import Config
from shotbus.broker.config_loader import load_config
from shotbus.producers.asking import Count, Wish, count, tell
from shotbus.producers.calibrations import find_calibration
from shotbus.producers.changing import Changed, ChangeOptions, change, wish_of
from shotbus.producers.deciding import flag_wish, review, review_wish, switch_flag
from shotbus.producers.job import AsyncJob
from shotbus.producers.result import JobTimeoutError
from shotbus.producers.session import Session
from shotbus.producers.trail import read_pool_trail
from shotbus.schemas.errors import Problem, ShotbusError
from shotbus.schemas.ids import partition_of

_ANSWER_SECONDS = 10.0


class Steering:
    """A connection to a broker, and every verb but those that submit.

    Args:
        url: where; None is a temporary embedded broker.
        config: None loads ``shotbus.toml`` and the environment.

    """

    def __init__(self, url: str | None = None, *, config: Config | None = None) -> None:
        self._session = Session(url, config or load_config().config)

    async def start(self) -> Self:
        """Connect. Raises ShotbusError or BusError that says what to check; then nothing is left open."""
        try:
            await self._session.start()
        except BaseException:
            await self._session.close()
            raise
        return self

    async def close(self) -> None:
        """Disconnect."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def session(self) -> Session:
        """The connection under it, for tools."""
        return self._session

    async def check_pool(self, pool: Any) -> list[Problem]:
        """Return a problem for a pool that no dispatcher can know: neither configured here nor on the bus.

        Whether a dispatcher knows one that passes here is the dispatcher's to say.
        """
        if not isinstance(pool, str) or not pool or await self._session.has_pool(pool):
            return []
        known = ", ".join(sorted(self._session.config.pools))
        return [Problem("SB-1102", "$.backend", limit=known, actual=pool, hint="see shotbus pools list")]

    def job(self, job_id: str, *, tenant: str = "default") -> AsyncJob:
        """Return a handle on a job that any process submitted. Raises ShotbusError for a malformed id."""
        return AsyncJob(self._session, job_id, tenant=tenant)

    async def calibration(self, calibration_id: str) -> dict[str, Any]:
        """Return a calibration that a job ran under: ``calibration_id``, ``pool``, ``backend``, ``snapshot``.

        ``calibration_id``: as provenance names it, or its first eight digits or more. Raises ShotbusError
        (SB-4013) when it is not kept.
        """
        return await find_calibration(self._session, calibration_id)

    async def cancel(self, job_id: str, *, tenant: str = "default") -> None:
        """Ask for a job to be cancelled; durable on return."""
        partition = partition_of(job_id, self._session.topics.partitions)
        await tell(self._session, [Wish("cancel", "job", job_id, tenant)], [partition])

    async def cancel_sweep(self, sweep_id: str, *, tenant: str = "default") -> None:
        """Ask for every job of a sweep to be cancelled."""
        await tell(self._session, [Wish("cancel", "sweep", sweep_id, tenant)], self._everywhere)

    async def cancel_sweep_and_count(self, sweep_id: str, *, tenant: str = "default") -> tuple[Count, Count]:
        """Cancel every job of a sweep; return what was live of it before and what is now.

        Raises JobTimeoutError when a shard does not answer; the wish is durable and will be heeded.
        """
        wishes = [Wish(command, "sweep", sweep_id, tenant) for command in ("locate", "cancel", "locate")]
        before, after = await self._count(wishes)
        return before, after

    async def reprioritise(self, **wanted: Unpack[ChangeOptions]) -> Changed:
        """Change what waits already, on every shard it can be about; returns what became of the wish.

        Args:
            wanted: whom and what; see :class:`ChangeOptions`.

        Raises:
            JobTimeoutError: a shard did not answer; the wish is durable and will be heeded.
            ShotbusError: everything that is wrong; SB-4001 or SB-4007 when nothing live is meant.

        """
        wish, problems = wish_of(wanted, self._session.config)
        problems += [replace(one, path="$.pool") for one in await self.check_pool(wanted.get("pool"))]
        if problems:
            raise ShotbusError(problems)
        try:
            return await change(self._session, wish, timeout=_ANSWER_SECONDS)
        except TimeoutError as error:
            raise _unanswered() from error

    async def approve(self, job_id: str, *, reason: str, tenant: str = "default") -> None:
        """Let a job go that waits for a review; ``reason`` is kept with it. Raises as :meth:`reject` does."""
        await self._review("approve", job_id, tenant=tenant, reason=reason)

    async def reject(self, job_id: str, *, reason: str, tenant: str = "default") -> None:
        """Turn down a job that waits for a review: it takes the next step of its chain, or fails.

        Raises:
            JobTimeoutError: no dispatcher answered; the wish is durable and will be heeded.
            ShotbusError: SB-4001, the tenant has no such job that waits for a review; what is wrong else.

        """
        await self._review("reject", job_id, tenant=tenant, reason=reason)

    async def _review(self, verdict: str, job_id: str, *, tenant: str, reason: str) -> None:
        wish, problems = review_wish(verdict, job_id, tenant=tenant, reason=reason)
        if problems:
            raise ShotbusError(problems)
        try:
            await review(self._session, wish, timeout=_ANSWER_SECONDS)
        except TimeoutError as error:
            raise _unanswered() from error

    async def set_flag(self, name: str, value: str, *, reason: str) -> int:
        """Switch a feature flag on every shard; returns how many shards obeyed.

        Args:
            name: one of ``[flags]``.
            value: ``on``, ``off``, a percentage, or ``default`` for what is configured.
            reason: why; kept in the audit log.

        Raises:
            JobTimeoutError: a shard did not answer; the wish is durable and will be heeded.
            ShotbusError: everything that is wrong; SB-1108 for a flag that no shard has.

        """
        wish, problems = flag_wish(name, value, reason=reason)
        if problems:
            raise ShotbusError(problems)
        try:
            return await switch_flag(self._session, wish, timeout=_ANSWER_SECONDS)
        except TimeoutError as error:
            raise _unanswered() from error

    async def pool_events(self, pool: str, *, seconds: float = 86_400.0) -> list[dict[str, Any]]:
        """Return what was decided about a pool in the last ``seconds``; see :func:`read_pool_trail`."""
        since_ms = max(0, int((time.time() - seconds) * 1000))
        return await read_pool_trail(self._session, pool, since_ms)

    async def pool_state(self, pool: str, *, command: str = "", reason: str = "") -> Count:
        """Return what the shards say about a pool, once they have obeyed ``command``.

        Args:
            pool: its name.
            command: ``pause``, ``drain`` or ``resume``; empty only asks.
            reason: why, for whoever reads the control records.

        Raises:
            JobTimeoutError: a shard did not answer; the command is durable and will be heeded.

        """
        wishes = [Wish(command, "pool", pool, reason=reason)] if command else []
        return (await self._count([*wishes, Wish("locate", "pool", pool)]))[0]

    async def _count(self, wishes: Sequence[Wish]) -> list[Count]:
        try:
            return await count(self._session, wishes, timeout=_ANSWER_SECONDS)
        except TimeoutError as error:
            raise _unanswered() from error

    async def control_pool(self, command: str, pool: str, *, reason: str = "") -> None:
        """``pause``, ``drain`` or ``resume`` a pool on every shard; durable on return."""
        await tell(self._session, [Wish(command, "pool", pool, reason=reason)], self._everywhere)

    @property
    def _everywhere(self) -> range:
        return range(self._session.topics.partitions)


def _unanswered() -> JobTimeoutError:
    hint = "no dispatcher answered: is one running? What was asked is durable and will be heeded"
    return JobTimeoutError([Problem("SB-4006", "$", hint=hint)])
