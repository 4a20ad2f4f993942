"""Jobs by their events and results: I1, I2, I4, I5, I8, I10, I12, I13, I16. Pure.

The table of phases is read as it is, so a phase that is added there is judged from then on. Events carry the
words that users see; where several phases share them, each is followed as long as it is possible.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from shotbus.broker.bus.base import Record
from shotbus.broker.dispatcher.states import TABLE, TERMINAL, WORDS, Cause, Phase
from shotbus.broker.invariants.findings import Findings, Look
from shotbus.schemas.codec import decode
from shotbus.schemas.outcomes import OUTCOMES

_CAUSES = {cause.value: cause for cause in Cause}
_ENDED = frozenset(WORDS[phase].status for phase in TERMINAL)
_FULL = "SB-1111"
#: How the detail of an event of what only runs beside a job begins.
COMPANION = '{"companion_of":'
#: What the provenance of every answer says, whatever made it; docs/provenance.md has the rest.
ALWAYS_TOLD = ("backend", "kind", "host", "versions")
#: Each of these goes to a worker under a number of its own.
_SENT = frozenset({Cause.FORWARD.value, Cause.LOOK_UP.value})

Phases = tuple[Phase | None, ...]


class Answer(NamedTuple):
    """What is kept of a result."""

    outcome: str
    pool: str
    attempt: int
    tenant: str
    shots: int
    payload: bytes
    provenance: bytes
    answered_by: str

    @property
    def ran(self) -> bool:
        """Whether it is what one attempt reported, and not taken, added up or guessed from others."""
        return self.outcome == "succeeded" and self.answered_by in ("", "run")


class Refused(NamedTuple):
    """What is kept of a refusal."""

    tenant: str
    fingerprint: str


@dataclass(slots=True)
class Life:
    """What is known of a job. ``whole``: from its acceptance on. Times are those of the records, ms.

    ``companion_of``: the job beside which it runs; nobody submitted it, and its end has no result.
    """

    phases: Phases = (None,)
    state: str = ""
    whole: bool = True
    attempt: int = 0
    forwards: int = 0
    tenant: str = ""
    cause: str = ""
    place: tuple[int, int] = (0, 0)
    began_ms: int = 0
    last_ms: int = 0
    waits_since_ms: int = -1
    cancelled_at: tuple[int, int] | None = None
    companion_of: str = ""
    answers: list[Answer] = field(default_factory=list)
    refusals: list[Refused] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether its last event is its end."""
        return self.state in _ENDED

    @property
    def refused(self) -> bool:
        """Whether it ended before its acceptance; the same id may come again and be accepted."""
        return self.phases == (Phase.REFUSED,)


@cache
def _targets(words: tuple[str, str]) -> Phases:
    return tuple(phase for phase, told in WORDS.items() if tuple(told) == words)


@cache
def reached(phases: Phases, cause: str, words: tuple[str, str]) -> Phases:
    """Return the phases a job may be in after an event; none when the table has no such move.

    An end is told by its outcome and a retry with its reason: what no cause is called may be any.
    """
    by, targets = _CAUSES.get(cause), _targets(words)
    moves = [
        target
        for (source, known), target in TABLE.items()
        if source in phases and target in targets and by in (None, known)
    ]
    return tuple(dict.fromkeys(moves))


class Lives:
    """Follows every job.

    Args:
        findings: where violations go.
        complete: every record since the beginning is fed; else lives may begin in the middle.
        wait_ms: longest wait in a queue, None for any.

    """

    def __init__(self, findings: Findings, *, complete: bool, wait_ms: float | None) -> None:
        self._findings, self._complete, self._wait_ms = findings, complete, wait_ms
        self._sequences: dict[int, int] = {}
        self.known: dict[str, Life] = {}

    @property
    def takes(self) -> Mapping[str, Callable[[Record], None]]:
        """Events and results."""
        return {"events": self._batch, "results": self._result}

    def life(self, job_id: str) -> Life:
        """Return what is known of a job, made on first use."""
        life = self.known.get(job_id)
        if life is None:
            life = self.known[job_id] = Life()
        return life

    # -- events -----------------------------------------------------------------------------------

    def _batch(self, record: Record) -> None:
        _, batch = decode(record.value, "event_batch")
        shard, number = batch["shard"], batch["sequence"]
        last = self._sequences.get(shard, number - 1)
        seen = f"{number} after {last}"
        self._findings.judge("I4", "events-in-sequence", f"shard {shard}", seen, holds=number > last)
        self._sequences[shard] = number
        for event in batch["events"]:
            if event["job_id"]:
                self._event(event, record)

    def _event(self, event: Mapping[str, Any], record: Record) -> None:
        job_id = event["job_id"]
        life = self.life(job_id)
        self._move(job_id, life, event)
        life.state, life.cause, life.tenant = event["state"], event["cause"], event["tenant"]
        if event["detail"].startswith(COMPANION):
            life.companion_of = json.loads(event["detail"])["companion_of"]
        life.place = (record.partition, record.offset)
        life.began_ms = life.began_ms or record.timestamp_ms
        life.last_ms = record.timestamp_ms
        self._attempts(job_id, life, event["attempt"])
        self._wait(job_id, life, record.timestamp_ms)

    def _move(self, job_id: str, life: Life, event: Mapping[str, Any]) -> None:
        words = (event["state"], event["sub_status"])
        if life.refused:
            life.phases = (None,)
        after = reached(life.phases, event["cause"], words)
        if not after:
            if life.state or self._complete:
                before = "/".join(phase.value if phase else "nothing" for phase in life.phases)
                seen = f"{before} by {event['cause']} to {'/'.join(words)}"
                rule = "I12" if life.state == "CANCELLED" and event["cause"] == "forward" else "I4"
                self._findings.broke(rule, "states-follow-the-table", job_id, seen)
            life.whole, after = False, _targets(words)
        life.phases = after
        self._findings.judged["I4"] += 1

    def _attempts(self, job_id: str, life: Life, attempt: int) -> None:
        if attempt < life.attempt:
            self._findings.broke("I4", "attempts-rise", job_id, f"{attempt} after {life.attempt}")
        if life.cause in _SENT:
            life.forwards += 1
            seen = f"attempt {attempt} of a job that was forwarded {life.forwards} times"
            holds = not life.whole or attempt == life.forwards
            self._findings.judge("I13", "attempts-add-up", job_id, seen, holds=holds)
        if life.state == "CANCELLED":
            life.cancelled_at = (attempt, life.last_ms)
        life.attempt = attempt

    def _wait(self, job_id: str, life: Life, at_ms: int) -> None:
        waits = Phase.WAITING in life.phases
        if not waits:
            self._judge_wait(job_id, life, at_ms)
            life.waits_since_ms = -1
        elif life.waits_since_ms < 0:
            life.waits_since_ms = at_ms

    def _judge_wait(self, job_id: str, life: Life, at_ms: int) -> None:
        """Judge a wait that has ended, or lasts until the time of the look."""
        if self._wait_ms is not None and life.waits_since_ms >= 0:
            waited = at_ms - life.waits_since_ms
            seen = f"waited {waited / 1000:.1f} s, at most {self._wait_ms / 1000:.1f} s are allowed"
            self._findings.judge("I8", "bounded-wait", job_id, seen, holds=waited <= self._wait_ms)

    # -- results ----------------------------------------------------------------------------------

    def _result(self, record: Record) -> None:
        name, fields = decode(record.value, "circuit_result", "refusal", "located")
        if name == "refusal":
            self._refusal(fields, dict(record.headers).get("payload", b"").decode("ascii", "replace"))
        elif name == "circuit_result" and not fields.get("late"):
            self._answer(fields)

    def _refusal(self, fields: Mapping[str, Any], fingerprint: str) -> None:
        self.life(fields["job_id"]).refusals.append(Refused(fields["tenant"], fingerprint))
        if any(problem["code"] == _FULL for problem in fields["problems"]):
            holds = fields["retry_after_ms"] > 0
            self._findings.judge("I9", "refused-with-retry-after", fields["job_id"], "no time", holds=holds)

    def _answer(self, fields: Mapping[str, Any]) -> None:
        job_id, life = fields["job_id"], self.life(fields["job_id"])
        answer = Answer(*(fields[name] for name in Answer._fields))
        life.answers.append(answer)
        seen = ", then ".join(one.outcome for one in life.answers)
        self._findings.judge("I2", "one-terminal-result", job_id, seen, holds=len(life.answers) == 1)
        if answer.outcome == "succeeded":
            missing = _missing(fields)
            seen = f"nothing about {', '.join(missing)}"
            self._findings.judge("I10", "provenance-is-complete", job_id, seen, holds=not missing)

    # -- the end ----------------------------------------------------------------------------------

    def finish(self, look: Look) -> None:
        """Judge what belongs together: ends and results, acceptances and answers."""
        for job_id, life in self.known.items():
            if life.state and look.settled(life):
                self._judge_end(job_id, life, look)
            if life.answers and not life.state and look.complete:
                self._findings.broke("I5", "a-result-has-an-acceptance", job_id, "a result and no event")
            self._findings.judged["I5"] += bool(life.answers)
            if look.bounds.now_ms is not None:
                self._judge_wait(job_id, life, look.bounds.now_ms)
        self._judge_healing(look)

    def _judge_end(self, job_id: str, life: Life, look: Look) -> None:
        if life.refused:
            self._judge_refused(job_id, life)
        elif life.companion_of:
            seen = f"runs beside {life.companion_of}, which nobody accepted"
            holds = life.companion_of in self.known or not look.complete
            self._findings.judge("I5", "a-companion-has-a-job", job_id, seen, holds=holds)
            seen = "runs beside a job, and has a result of its own"
            self._findings.judge("I2", "a-companion-has-no-result", job_id, seen, holds=not life.answers)
        elif life.ended:
            holds = bool(life.answers) or not life.whole
            seen = f"{life.state} without a result"
            self._findings.judge("I2", "an-end-has-a-result", job_id, seen, holds=holds)
            told = [answer.outcome for answer in life.answers]
            if told and life.cause in OUTCOMES and told[0] != life.cause:
                self._findings.broke(
                    "I2", "the-result-is-the-end", job_id, f"ended {life.cause}, told {told[0]}"
                )
        elif life.answers:
            self._findings.broke("I2", "an-end-has-a-result", job_id, f"still {life.state}, but has a result")
        self._findings.judged["I12"] += life.state == "CANCELLED"
        if look.over:
            self._findings.judge("I1", "a-job-ends", job_id, f"still {life.state}", holds=life.ended)

    def _judge_refused(self, job_id: str, life: Life) -> None:
        seen = "refused after its inspection, and nobody was told"
        self._findings.judge("I5", "a-refusal-is-told", job_id, seen, holds=bool(life.refusals))
        if life.answers:
            self._findings.broke("I5", "none-for-a-refused-one", job_id, "refused, and has a result")

    def _judge_healing(self, look: Look) -> None:
        healed, seconds = look.bounds.healed_ms, look.bounds.heal_seconds
        if healed is None or seconds is None:
            return
        for job_id, life in self.known.items():
            until = life.last_ms if life.ended else look.bounds.now_ms
            if until is not None and life.state:
                late = (until - max(healed, life.began_ms)) / 1000
                told = "ended" if life.ended else "has not ended"
                seen = f"{told} {late:.0f} s after everything was healed"
                self._findings.judge("I16", "healed-in-time", job_id, seen, holds=late <= seconds)


def _missing(fields: Mapping[str, Any]) -> Sequence[str]:
    missing = [name for name in ("circuit_id", "executed_on") if not fields[name]]
    try:
        document = json.loads(fields["provenance"])
    except ValueError:
        document = None
    if not isinstance(document, dict):
        return [*missing, "provenance"]
    return missing + [f"provenance.{name}" for name in ALWAYS_TOLD if not document.get(name)]
