"""What must hold of the records on the topics, whatever happened: one checker for all who look. Pure.

The simulation feeds it every record, ``shotbus verify`` those that a bus still holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from shotbus.broker.dispatcher.states import TABLE, WORDS, Cause, Phase
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import ShotbusError

_CAUSES = {cause.value: cause for cause in Cause}
_PHASES = {tuple(words): phase for phase, words in WORDS.items()}
_ENDS = frozenset({"DONE", "ERROR", "CANCELLED"})


class Violation(NamedTuple):
    """One broken promise: the invariant's name, the id it is about, and what was seen."""

    invariant: str
    about: str
    seen: str


@dataclass(slots=True)
class _Life:
    """What is known of a job."""

    phase: Phase | None = None
    state: str = ""
    whole: bool = True
    attempt: int = 0
    outcome: str = ""
    results: int = 0
    refusals: int = 0


@dataclass(slots=True)
class _Sweep:
    shards: int = 0
    shots: dict[int, int] = field(default_factory=dict)
    final: Mapping[str, Any] | None = None


class Checker:
    """Feed it records in the order of their partitions, then ask for :meth:`violations`.

    Args:
        complete: every record since the beginning is fed; else histories may begin in the middle.

    """

    def __init__(self, *, complete: bool) -> None:
        self._complete = complete
        self._jobs: dict[str, _Life] = {}
        self._sweeps: dict[str, _Sweep] = {}
        self._sequences: dict[int, int] = {}
        self._found: list[Violation] = []

    def event_batch(self, value: bytes) -> None:
        """Take a record of ``events``."""
        _, batch = decode(value, "event_batch")
        shard, number = batch["shard"], batch["sequence"]
        last = self._sequences.get(shard)
        if last is not None and number <= last:
            self._say("events-in-sequence", f"shard {shard}", f"{number} after {last}")
        self._sequences[shard] = number
        for event in batch["events"]:
            self._event(event)

    def result(self, value: bytes) -> None:
        """Take a record of ``results``."""
        try:
            name, fields = decode(value, "circuit_result", "refusal", "located")
        except ShotbusError as error:
            self._say("results-readable", "", str(error))
            return
        if name == "located":
            return
        life = self._life(fields["job_id"])
        if name == "refusal":
            life.refusals += 1
            return
        life.results += 1
        if life.results > 1:
            self._say("one-terminal-result", fields["job_id"], f"{life.outcome}, then {fields['outcome']}")
        life.outcome = fields["outcome"]
        if fields["sweep_id"] and fields["outcome"] in ("succeeded", "served_from_cache"):
            self._sweep(fields["sweep_id"]).shots[fields["shard_index"]] = fields["shots"]

    def reduction(self, value: bytes) -> None:
        """Take a record of ``reductions``."""
        _, fields = decode(value, "sweep_reduction")
        if not fields["final"]:
            return
        sweep = self._sweep(fields["sweep_id"])
        if sweep.final is not None and sweep.final["payload"] != fields["payload"]:
            self._say("one-final-reduction", fields["sweep_id"], "two different final reductions")
        sweep.final = fields

    def violations(
        self, *, asked: Iterable[str] = (), sweeps: Iterable[str] = (), over: bool = False
    ) -> list[Violation]:
        """Return everything that was found.

        Args:
            asked: ids of the submissions, as far as they are known: each must be answered once it is over.
            sweeps: ids of the declared sweeps, likewise.
            over: nothing is under way any more.

        """
        found = list(self._found)
        for sweep_id, sweep in self._sweeps.items():
            found += self._judge_sweep(sweep_id, sweep)
        if not over:
            return found
        for job_id, life in self._jobs.items():
            found += _judge_end(job_id, life)
        for job_id in asked:
            life = self._life(job_id)
            if not (life.results or life.refusals):
                found.append(Violation("no-accepted-job-is-lost", job_id, "never answered"))
        for sweep_id in sweeps:
            if self._sweep(sweep_id).final is None:
                found.append(Violation("every-sweep-ends", sweep_id, "no final reduction"))
        return found

    def _judge_sweep(self, sweep_id: str, sweep: _Sweep) -> list[Violation]:
        if sweep.final is None or not self._complete or sweep.final["done"] < sweep.final["shards"]:
            return []
        shots = sum(sweep.shots.values())
        if shots != sweep.final["shots"]:
            seen = f"results have {shots} shots, the reduction {sweep.final['shots']}"
            return [Violation("fan-in-conserves-shots", sweep_id, seen)]
        return []

    def _event(self, event: Mapping[str, Any]) -> None:
        job_id, life = event["job_id"], self._life(event["job_id"])
        if life.state or self._complete:
            self._move(job_id, life, event)
        life.phase = _PHASES.get((event["state"], event["sub_status"]))
        life.state = event["state"]
        if event["attempt"] < life.attempt:
            self._say("attempts-rise", job_id, f"{event['attempt']} after {life.attempt}")
        life.attempt = event["attempt"]

    def _move(self, job_id: str, life: _Life, event: Mapping[str, Any]) -> None:
        """Look the move up; an end is told by its outcome, which no cause is called."""
        reached = _PHASES.get((event["state"], event["sub_status"]))
        cause = _CAUSES.get(event["cause"])
        moves = ((source, by) for (source, by), target in TABLE.items() if target is reached)
        if not any(source is life.phase and by is (cause or by) for source, by in moves):
            before = life.phase.value if life.phase else "nothing"
            seen = f"{before} by {event['cause']} to {event['state']}/{event['sub_status']}"
            self._say("states-follow-the-table", job_id, seen)

    def _life(self, job_id: str) -> _Life:
        return self._jobs.setdefault(job_id, _Life())

    def _sweep(self, sweep_id: str) -> _Sweep:
        return self._sweeps.setdefault(sweep_id, _Sweep())

    def _say(self, invariant: str, about: str, seen: str) -> None:
        self._found.append(Violation(invariant, about, seen))


def _judge_end(job_id: str, life: _Life) -> list[Violation]:
    found = []
    if life.state and life.state not in _ENDS:
        found.append(Violation("no-accepted-job-is-lost", job_id, f"still {life.state}"))
    if life.state in _ENDS and not life.results:
        found.append(Violation("one-terminal-result", job_id, f"{life.state} without a result"))
    return found
