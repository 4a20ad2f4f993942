"""What clients did against what the topics say: I1, I5, I6, I15. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from shotbus.broker.bus.base import Record
from shotbus.broker.invariants.findings import Findings, Look
from shotbus.broker.invariants.lives import Life
from shotbus.broker.invariants.witnesses import Operation
from shotbus.schemas.codec import decode


class Clients:
    """Holds histories against answers."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._sweep_of: dict[str, str] = {}

    @property
    def takes(self) -> Mapping[str, Callable[[Record], None]]:
        """Events, for the sweep of each job."""
        return {"events": self._events}

    def _events(self, record: Record) -> None:
        for event in decode(record.value, "event_batch")[1]["events"]:
            if event["job_id"] and event["sweep_id"]:
                self._sweep_of[event["job_id"]] = event["sweep_id"]

    def finish(self, look: Look) -> None:
        """Judge; without operations there is nothing to judge."""
        asked: dict[str, list[Operation]] = {}
        for operation in look.history.of("submit"):
            asked.setdefault(operation.about, []).append(operation)
        for job_id, operations in asked.items():
            life = look.lives.get(job_id) or Life()
            if look.over:
                self._judge_answered(job_id, operations, life)
            self._judge_payloads(job_id, operations, life, over=look.over)
            self._judge_tenant(job_id, operations, life)
        self._judge_keys(look)
        if look.history.complete:
            self._judge_askers(look, asked)
            self._judge_cancels(look)

    def _judge_answered(self, job_id: str, operations: Iterable[Operation], life: Life) -> None:
        if any(one.status == "ok" for one in operations):
            holds = bool(life.answers or life.refusals)
            self._findings.judge("I1", "a-submission-is-answered", job_id, "never answered", holds=holds)

    def _judge_payloads(
        self, job_id: str, operations: Iterable[Operation], life: Life, *, over: bool
    ) -> None:
        """Of several payloads under one id all but one must be refused, once everything is over."""
        sent = dict.fromkeys(one.fingerprint for one in operations if one.status == "ok" and one.fingerprint)
        if len(sent) < 2 or not over:
            return
        refused = {one.fingerprint for one in life.refusals}
        accepted = [one for one in sent if one not in refused]
        seen = f"{len(sent)} payloads, {len(accepted)} of them never refused"
        self._findings.judge("I6", "another-payload-is-refused", job_id, seen, holds=len(accepted) <= 1)

    def _judge_keys(self, look: Look) -> None:
        jobs: dict[tuple[str, str], str] = {}
        for operation in look.history.of("submit"):
            if operation.key:
                first = jobs.setdefault((operation.tenant, operation.key), operation.about)
                seen = f"the key {operation.key} is also job {first}"
                holds = first == operation.about
                self._findings.judge("I6", "one-key-is-one-job", operation.about, seen, holds=holds)

    def _judge_tenant(self, job_id: str, operations: Iterable[Operation], life: Life) -> None:
        tenants = {one.tenant for one in operations}
        told = [one.tenant for one in life.answers] + [one.tenant for one in life.refusals]
        for tenant in told:
            holds = tenant in tenants
            seen = f"answered to {tenant}"
            self._findings.judge("I15", "answers-go-to-their-tenant", job_id, seen, holds=holds)

    def _judge_askers(self, look: Look, asked: Mapping[str, object]) -> None:
        for job_id, life in look.lives.items():
            if life.answers or life.state:
                seen = "nobody submitted it"
                holds = (life.companion_of or job_id) in asked
                self._findings.judge("I5", "somebody-asked", job_id, seen, holds=holds)

    def _judge_cancels(self, look: Look) -> None:
        wanted = {(one.about, one.tenant) for one in look.history.of("cancel")}
        for job_id, life in look.lives.items():
            if any(answer.outcome == "cancelled" for answer in life.answers):
                names = (job_id, self._sweep_of.get(job_id, ""))
                holds = any((name, life.tenant) in wanted for name in names if name)
                seen = f"cancelled, and {life.tenant or 'its tenant'} never asked for that"
                self._findings.judge("I15", "only-its-tenant-cancels", job_id, seen, holds=holds)
