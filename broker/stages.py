"""The one table of stages: events, metrics and traces are all fed from it. Pure.

Every result carries, for each stage that its job passed, seconds and the bytes that went in and out.
Stages are packed by their number in the table, so rows are only ever appended.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import NamedTuple


class Stage(NamedTuple):
    """A named span of a job's life and the component that measures it."""

    name: str
    where: str
    meaning: str


STAGES: tuple[Stage, ...] = (
    Stage("client-prepare", "client", "from the call to a checked request"),
    Stage("serialise", "client", "encoding the request"),
    Stage("submit-ack", "client", "from publishing to the durable acknowledgement"),
    Stage("admit", "dispatcher", "from the record on the bus to the accepted job"),
    Stage("queue", "dispatcher", "waiting in the queue for a credit, over all attempts"),
    Stage("lease", "worker", "from forwarding to the run in a worker's process, its start included"),
    Stage("compile", "worker", "parsing and transpiling, zero when it was cached"),
    Stage("provider-submit", "worker", "the call that hands the batch to the backend"),
    Stage("provider-queue", "worker", "waiting at the provider"),
    Stage("execute", "worker", "the backend's own run time"),
    Stage("retrieve", "worker", "fetching raw results from the backend"),
    Stage("decode", "worker", "packing raw results"),
    Stage("reduce", "reducer", "folding the result into its sweep"),
    Stage("deliver", "client", "from the published result to the caller's hands"),
    Stage("think", "client", "a loop's time between a result and its next submission"),
)
#: Cause of a state change -> the stage that ended with it.
ENDED_BY: dict[str, str] = {
    "accept": "admit",
    "accept_later": "admit",
    "cache_hit": "admit",
    "forward": "queue",
    "expire": "queue",
    "start": "lease",
    "succeed": "execute",
    "fail": "execute",
    "retry": "execute",
}
INDEX: dict[str, int] = {stage.name: number for number, stage in enumerate(STAGES)}
_ROW = struct.calcsize("<BdQQ")
_MOST_ROWS = 256


class Timings:
    """Seconds and bytes of one job by stage; small, mutable, packed to bytes for the wire.

    Only the stages that were passed are held and packed: a row of 25 bytes each, in the table's order, with
    the stage's number (unsigned byte), seconds (double), bytes in and bytes out (unsigned, 64 bits).
    """

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: dict[int, tuple[float, int, int]] = {}

    def add(self, stage: str, seconds: float, *, bytes_in: int = 0, bytes_out: int = 0) -> None:
        """Add to a stage; negative seconds (clocks of two machines) count as zero."""
        number = INDEX[stage]
        before = self._rows.get(number, (0.0, 0, 0))
        self._rows[number] = (before[0] + max(0.0, seconds), before[1] + bytes_in, before[2] + bytes_out)

    def merge(self, other: Timings) -> None:
        """Add another component's stages."""
        for number, (seconds, bytes_in, bytes_out) in other._rows.items():
            self.add(STAGES[number].name, seconds, bytes_in=bytes_in, bytes_out=bytes_out)

    def share(self, fraction: float) -> Timings:
        """Return this part of every stage."""
        own = Timings()
        own._rows = {
            number: (seconds * fraction, int(bytes_in * fraction), int(bytes_out * fraction))
            for number, (seconds, bytes_in, bytes_out) in self._rows.items()
        }
        return own

    def seconds(self, stage: str) -> float:
        """Return the seconds of a stage, zero when it was not passed."""
        return self._rows.get(INDEX[stage], (0.0, 0, 0))[0]

    def rows(self) -> list[tuple[int, float, int, int]]:
        """Return (number, seconds, bytes in, bytes out) of each stage passed, in order."""
        return [(number, *row) for number, row in sorted(self._rows.items())]

    def pack(self) -> bytes:
        """Return the wire form."""
        values = [value for row in self.rows() for value in row]
        return _layout(len(self._rows)).pack(*values)

    @classmethod
    def unpack(cls, data: bytes) -> Timings:
        """Read the wire form; another length reads as nothing, unknown stages are passed over."""
        timings = cls()
        count, rest = divmod(len(data), _ROW)
        if 0 < count <= _MOST_ROWS and not rest:
            values = iter(_layout(count).unpack(data))
            rows = zip(values, values, values, values, strict=True)
            timings._rows = {number: (s, i, o) for number, s, i, o in rows if number < len(STAGES)}
        return timings

    def as_dict(self) -> dict[str, float]:
        """Return the seconds of the stages that took any."""
        return {STAGES[number].name: seconds for number, seconds, _, _ in self.rows() if seconds}

    def bytes_by_stage(self) -> dict[str, tuple[int, int]]:
        """Return (in, out) of the stages that moved any."""
        return {STAGES[number].name: (i, o) for number, _, i, o in self.rows() if i or o}


@cache
def _layout(rows: int) -> struct.Struct:
    return struct.Struct("<" + "BdQQ" * rows)
