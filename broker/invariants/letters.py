"""Dead letters: I13. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from shotbus.broker.bus.base import Record
from shotbus.broker.deadletters import PREFIX
from shotbus.broker.invariants.findings import Findings, Look
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import ShotbusError


class Letters:
    """Matches letters with the ends of their jobs."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._letters: dict[str, list[bytes]] = {}
        self._fed = False

    @property
    def takes(self) -> Mapping[str, Callable[[Record], None]]:
        """Dead letters."""
        return {"dead-letters": self._letter}

    def _letter(self, record: Record) -> None:
        self._fed = True
        source = dict(record.headers).get(f"{PREFIX}topic", b"").decode("utf-8", "replace")
        if ".requests." not in f".{source}":
            return
        try:
            job_id = decode(record.value, "circuit_request")[1]["job_id"]
        except ShotbusError:
            return  # what cannot be read has no id to answer to: that is why it is here
        self._letters.setdefault(job_id, []).append(record.value or b"")

    def finish(self, look: Look) -> None:
        """Judge letters against results, and bytes against what was submitted."""
        sent: dict[str, list[bytes]] = {}
        for operation in look.history.of("submit"):
            sent.setdefault(operation.about, []).append(operation.raw)
        for job_id, letters in self._letters.items():
            life = look.lives.get(job_id)
            answered = life is not None and bool(life.answers or life.refusals)
            if look.complete:
                seen = "a dead letter, and nobody was told"
                self._findings.judge("I13", "a-letter-has-an-answer", job_id, seen, holds=answered)
            if job_id in sent:
                holds = all(letter in sent[job_id] for letter in letters)
                seen = "its dead letter is not what was submitted"
                self._findings.judge("I13", "a-letter-keeps-the-bytes", job_id, seen, holds=holds)
        self._judge_ends(look)

    def _judge_ends(self, look: Look) -> None:
        for job_id, life in look.lives.items():
            buried = any(answer.outcome == "dead_lettered" for answer in life.answers)
            if buried and (look.complete or self._fed) and life.whole:
                holds = job_id in self._letters
                seen = "ended as dead-lettered, and there is no letter"
                self._findings.judge("I13", "a-burial-has-a-letter", job_id, seen, holds=holds)
