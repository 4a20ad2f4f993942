"""The dispatchers' ledger: an id that lives has a row, I1. Pure.

A row and the event of the change it holds are written in one transaction, so whoever looks at a ledger
after an event knows: a job that was live before and is live afterwards must have a row in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from shotbus.broker.bus.base import Record
from shotbus.broker.dispatcher.rows import is_job, row_fields
from shotbus.broker.invariants.findings import Findings, Look


class Rows:
    """Remembers which jobs have rows; compaction may have taken older versions of any."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._live: set[str] = set()
        self._fed = False

    @property
    def takes(self) -> Mapping[str, Callable[[Record], None]]:
        """The ledger."""
        return {"jobs": self._row}

    def _row(self, record: Record) -> None:
        self._fed = True
        key = (record.key or b"").decode("ascii", "replace")
        if record.value is None:
            self._live.discard(key)
        elif is_job(record.value):
            self._live.add(row_fields(record.value)["job_id"])

    def finish(self, look: Look) -> None:
        """Judge lives whose last event was there before the ledger was read."""
        if not self._fed:
            return
        for job_id, life in look.lives.items():
            if life.state and not life.ended and look.settled(life):
                seen = f"{life.state} by {life.cause}, and the ledger has no row"
                self._findings.judge("I1", "what-lives-has-a-row", job_id, seen, holds=job_id in self._live)
