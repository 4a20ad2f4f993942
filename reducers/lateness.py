"""What came after a job's answer, compared with it. Pure."""

from __future__ import annotations

from shotbus.schemas.codec import Fields, decode, encode
from shotbus.schemas.deviation import UNKNOWN, deviation
from shotbus.schemas.errors import ShotbusError
from shotbus.schemas.outcomes import SUCCESSES
from shotbus.schemas.pub import unpack_result


def compared(late: bytes, answer: bytes | None) -> bytes:
    """Return a late result with its deviation from the answer.

    What the result says of that itself stays. It is negative when there is nothing to compare: the answer is
    gone, one of them is a failure, or they are answers of different kinds.
    """
    fields = decode(late, "circuit_result")[1]
    if fields["deviation"] >= 0:
        return late
    return encode("circuit_result", {**fields, "deviation": _apart(fields, answer)})


def deviation_of(late: bytes) -> float:
    """Return what a late result says of how far it is from the answer; negative where nobody can tell."""
    return float(decode(late, "circuit_result")[1]["deviation"])


def _apart(fields: Fields, answer: bytes | None) -> float:
    if answer is None:
        return UNKNOWN
    try:
        given = decode(answer, "circuit_result")[1]
        if not {given["outcome"], fields["outcome"]} <= SUCCESSES:
            return UNKNOWN
        return deviation(unpack_result(fields["payload"]), unpack_result(given["payload"]))
    except ShotbusError:
        return UNKNOWN
