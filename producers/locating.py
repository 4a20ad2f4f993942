"""Where one job is, as its shard says, and what the shard is told about it. I/O through the session."""

from __future__ import annotations

from typing import Any

from shotbus.producers.asking import Wish, ask, tell
from shotbus.producers.result import JobTimeoutError
from shotbus.producers.session import Session
from shotbus.schemas.errors import Problem
from shotbus.schemas.ids import partition_of

LOCATE_SECONDS = 10.0
#: What a shard says of any job, and of one that waits besides.
PLACE = ("job_id", "status", "sub_status", "outcome", "finished_ms")
WHERE = (*PLACE, "pool", "reason", "position", "eta_low_ms", "eta_mid_ms", "eta_high_ms")


class Locator:
    """Speaks with the shard of one job of a tenant."""

    def __init__(self, session: Session, job_id: str, tenant: str) -> None:
        self._session, self._job_id, self._tenant = session, job_id, tenant

    async def places(self, *commands: str, timeout: float = LOCATE_SECONDS) -> list[dict[str, Any]]:
        """Send commands and return what each ``locate`` among them found.

        Raises JobTimeoutError when no dispatcher answers in ``timeout`` seconds; the commands are durable.
        """
        wishes = [self._wish(command) for command in commands]
        try:
            turns = await ask(self._session, wishes, [self._partition], timeout=timeout)
        except TimeoutError as error:
            hint = "no dispatcher answered: is one running?"
            raise JobTimeoutError([Problem("SB-4006", "$", hint=hint)]) from error
        return [place for (place,) in turns]

    async def tell(self, command: str) -> None:
        """Send a command that has no answer; durable on return."""
        await tell(self._session, [self._wish(command)], [self._partition])

    @property
    def _partition(self) -> int:
        return partition_of(self._job_id, self._session.topics.partitions)

    def _wish(self, command: str) -> Wish:
        return Wish(command, "job", self._job_id, self._tenant)


def place_of(told: dict[str, Any]) -> dict[str, Any]:
    """Return of a shard's answer what is said of any job."""
    return {name: told[name] for name in PLACE}
