"""A provider's ledger against everything else: I3, I5, I7, I12. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from shotbus.broker.bus.base import Record
from shotbus.broker.invariants.attempts import Attempts
from shotbus.broker.invariants.findings import Findings, Look
from shotbus.broker.invariants.witnesses import Submission


class Bills:
    """Judges by what the broker cannot forge."""

    def __init__(self, findings: Findings, attempts: Attempts) -> None:
        self._findings, self._attempts = findings, attempts

    @property
    def takes(self) -> Mapping[str, Callable[[Record], None]]:
        """Nothing on the topics."""
        return {}

    def finish(self, look: Look) -> None:
        """Judge each job's bill, each tenant's sum."""
        billed: dict[str, list[Submission]] = {}
        for one in look.ledger.billed():
            billed.setdefault(one.job_id, []).append(one)
        for job_id, bills in billed.items():
            seen = "billed " + ", ".join(f"attempt {one.attempt} at {one.at:.3f} s" for one in bills)
            tokens = len({one.token for one in bills})
            most = self._attempts.most_bills(job_id, look.ledger.pools, look.lives.get(job_id))
            holds = len(bills) == tokens and (most is None or tokens <= most)
            self._findings.judge("I3", "billed-once", job_id, seen, holds=holds)
        for one in look.ledger.submissions:
            self._judge_submission(one, look)
        self._judge_answers(look)
        self._judge_budgets(look)

    def _judge_submission(self, one: Submission, look: Look) -> None:
        life = look.lives.get(one.job_id)
        accepted = life is not None and bool(life.state)
        if look.complete:
            seen = f"submitted at {one.at:.3f} s, but never accepted"
            self._findings.judge("I5", "submitted-after-acceptance", one.job_id, seen, holds=accepted)
        if life is not None and life.cancelled_at is not None:
            last, at_ms = life.cancelled_at
            holds = one.attempt <= last
            seen = f"attempt {one.attempt} submitted after a cancel at {at_ms / 1000:.3f} s"
            self._findings.judge("I12", "no-submission-after-cancel", one.job_id, seen, holds=holds)

    def _judge_answers(self, look: Look) -> None:
        known = {one.job_id for one in look.ledger.submissions}
        for job_id, life in look.lives.items():
            for answer in life.answers:
                if answer.ran and answer.pool in look.ledger.pools:
                    seen = f"a success on {answer.pool}, which never had it"
                    self._findings.judge("I5", "a-success-was-submitted", job_id, seen, holds=job_id in known)

    def _judge_budgets(self, look: Look) -> None:
        limits = look.bounds.budgets
        if limits is None:
            return
        spent: dict[str, float] = {}
        for one in look.ledger.billed():
            spent[one.tenant] = spent.get(one.tenant, 0.0) + one.cost
            limit = limits.get(one.tenant)
            if limit is not None:
                seen = f"{spent[one.tenant]:.6g} spent of {limit:.6g}"
                holds = spent[one.tenant] <= limit * (1 + 1e-9)
                self._findings.judge("I7", "spend-within-the-limit", one.tenant, seen, holds=holds)
