"""Prepared answers that are too large for a row: held in memory, up to a number of bytes. Pure.

What does not fit any more is not kept: its job goes down its chain as one without a prepared answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: Bytes of payload and provenance that a shard holds.
MOST_LARGE: Final = 64 << 20


class LargeAnswers:
    """Answers by the ids of the jobs they were prepared for."""

    def __init__(self, most: int = MOST_LARGE) -> None:
        self._most, self._bytes = most, 0
        self._held: dict[str, Mapping[str, Any]] = {}

    def put(self, job_id: str, answer: Mapping[str, Any]) -> bool:
        """Keep an answer in place of an earlier one; False, and nothing is kept, when there is no room."""
        self.drop(job_id)
        size = _size(answer)
        if self._bytes + size > self._most:
            return False
        self._held[job_id] = answer
        self._bytes += size
        return True

    def get(self, job_id: str) -> Mapping[str, Any] | None:
        """Return an answer, None for none."""
        return self._held.get(job_id)

    def drop(self, job_id: str) -> None:
        """Let go of an answer, if there is one."""
        if (answer := self._held.pop(job_id, None)) is not None:
            self._bytes -= _size(answer)


def _size(answer: Mapping[str, Any]) -> int:
    return len(answer["payload"]) + len(answer.get("provenance", b""))
