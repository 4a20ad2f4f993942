"""What goes wrong on command: a plan of faults, who they hit, how often they bit. Pure; chance is handed in.

A fault is planned by token (its beginning; empty is every one), with a probability, for so many times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from shotbus.deploy.provider.refusals import RefusalError

#: fault -> what it does. Those of a submission come first, then of a run, of a result, of a question.
FAULTS: Mapping[str, str] = {
    "throttle": "the submission is refused with 429 and a Retry-After of `seconds`",
    "error": "the submission fails with 500 and is not accepted",
    "error_after": "the submission is accepted and answered with 500",
    "lost_answer": "the submission is accepted and the connection closed without an answer",
    "hang": "the submission is looked at only after `seconds`, whoever still waits for the answer",
    "duplicate_id": "the submission is answered with the id of another job",
    "garbage": "the submission is accepted and answered with something that is no JSON",
    "slow": "the run takes `seconds` longer",
    "recalibrate": "the device is calibrated anew while the job runs",
    "fail": "the run fails and is not billed",
    "cancel": "the provider cancels the job before it runs and does not bill it",
    "result_lost": "the job has run and is billed, its result is gone",
    "wrong_shots": "the result has a shot too many",
    "negative": "the result has a negative count",
    "wide": "an outcome of the result is wider than the circuit's bits",
    "not_hex": "an outcome of the result is no number",
    "missing": "the result has a row too few",
    "poll_error": "a question is answered with 500",
}


@dataclass(slots=True)
class Fault:
    """One line of the plan; ``times`` 0 is without end."""

    fault: str
    token: str = ""
    probability: float = 1.0
    times: int = 1
    seconds: float = 1.0
    bites: int = 0


class Plan:
    """The faults that are planned now."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._faults: list[Fault] = []

    def add(self, document: Any) -> None:
        """Plan a fault. Raises RefusalError (malformed_request)."""
        try:
            fault = Fault(**document)
        except TypeError:
            raise RefusalError("malformed_request", "fault, token, probability, times, seconds") from None
        if fault.fault not in FAULTS:
            raise RefusalError("malformed_request", "unknown fault", limit=", ".join(FAULTS))
        self._faults.append(fault)

    def clear(self) -> None:
        """Plan nothing any more."""
        self._faults.clear()

    def bite(self, fault: str, token: str) -> Fault | None:
        """Return the fault if it strikes now; that is counted."""
        for one in self._faults:
            left = not one.times or one.bites < one.times
            meant = one.fault == fault and left and token.startswith(one.token)
            if meant and self._chance.random() < one.probability:
                one.bites += 1
                return one
        return None

    def told(self) -> list[dict[str, Any]]:
        """Return the plan and how often each line bit."""
        return [asdict(one) for one in self._faults]


def spoiled(results: Any, fault: str) -> Any:
    """Return a result as a fault of results leaves it."""
    first = dict(results[0][0][0])
    outcome = next(iter(first))
    if fault == "missing":
        return [rows[:-1] for rows in results]
    if fault == "wrong_shots":
        first[outcome] += 1
    elif fault == "negative":
        first[outcome] = -first[outcome]
    elif fault == "wide":
        first = {hex(1 << 4_000): sum(first.values())}
    elif fault == "not_hex":
        first = {"up": sum(first.values())}
    return [[[first, *results[0][0][1:]], *results[0][1:]], *results[1:]]
