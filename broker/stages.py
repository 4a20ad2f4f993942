"""The one table of stages: events, metrics and traces are all fed from it. Pure.

Every result carries, for each stage, seconds and the bytes that went in and out. A stage that a job
did not pass is zero. The packed order is the table's order, so rows are only ever appended.
"""

from __future__ import annotations

import struct
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
    Stage("queue", "dispatcher", "from acceptance to forwarding against a credit"),
    Stage("lease", "worker", "from forwarding to the worker's claim"),
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
_COUNT = len(STAGES)
_LAYOUT = struct.Struct(f"<{_COUNT}d{2 * _COUNT}Q")


class Timings:
    """Seconds and bytes of one job by stage; small, mutable, packed to bytes for the wire."""

    __slots__ = ("bytes_in", "bytes_out", "seconds")

    def __init__(self) -> None:
        self.seconds = [0.0] * _COUNT
        self.bytes_in = [0] * _COUNT
        self.bytes_out = [0] * _COUNT

    def add(self, stage: str, seconds: float, *, bytes_in: int = 0, bytes_out: int = 0) -> None:
        """Add to a stage; negative seconds (clocks of two machines) count as zero."""
        index = INDEX[stage]
        self.seconds[index] += max(0.0, seconds)
        self.bytes_in[index] += bytes_in
        self.bytes_out[index] += bytes_out

    def pack(self) -> bytes:
        """Return the wire form."""
        return _LAYOUT.pack(*self.seconds, *self.bytes_in, *self.bytes_out)

    @classmethod
    def unpack(cls, data: bytes) -> Timings:
        """Read the wire form; anything of another length (older, absent) reads as zeros."""
        timings = cls()
        if len(data) == _LAYOUT.size:
            values = _LAYOUT.unpack(data)
            timings.seconds = list(values[:_COUNT])
            timings.bytes_in = list(values[_COUNT : 2 * _COUNT])
            timings.bytes_out = list(values[2 * _COUNT :])
        return timings

    def as_dict(self) -> dict[str, float]:
        """Return the seconds of the stages that were passed."""
        return {stage.name: value for stage, value in zip(STAGES, self.seconds, strict=True) if value}
