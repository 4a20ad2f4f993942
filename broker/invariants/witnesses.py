"""What is not on the topics: what clients did and saw, and what a provider billed. Pure data.

A client that got no answer does not know what became of its call. That is a state of its own, *unknown*:
the call may have happened, now or later, once or (when it was repeated underneath) more than once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["submit", "declare", "cancel"]
Status = Literal["invoked", "ok", "fail", "unknown"]


@dataclass(slots=True)
class Operation:
    """One call of one client.

    ``about`` is the id of the job or sweep, ``fingerprint`` the hash of the payload in hex as a refusal's
    header repeats it, ``raw`` the record. Times are wall seconds by the judge's clock. ``fail`` is only what
    certainly did not happen.
    """

    kind: Kind
    about: str
    tenant: str
    invoked_at: float
    key: str = ""
    fingerprint: str = ""
    raw: bytes = b""
    status: Status = "invoked"
    ended_at: float = 0.0

    @property
    def possible(self) -> bool:
        """Whether it may have had an effect."""
        return self.status != "fail"

    def ok(self, at: float) -> None:
        """Note that it was acknowledged."""
        self.status, self.ended_at = "ok", at

    def fail(self, at: float) -> None:
        """Note that it certainly did not happen."""
        self.status, self.ended_at = "fail", at

    def unknown(self, at: float) -> None:
        """Note that no answer came."""
        self.status, self.ended_at = "unknown", at


@dataclass(slots=True)
class History:
    """What the clients did. ``complete``: there are no other clients."""

    complete: bool = False
    operations: list[Operation] = field(default_factory=list)

    def invoke(
        self,
        kind: Kind,
        about: str,
        tenant: str,
        at: float,
        *,
        key: str = "",
        fingerprint: str = "",
        raw: bytes = b"",
    ) -> Operation:
        """Note that a call begins; tell the returned operation how it ended."""
        operation = Operation(kind, about, tenant, at, key, fingerprint, raw)
        self.operations.append(operation)
        return operation

    def of(self, kind: Kind) -> Iterator[Operation]:
        """Yield the operations of a kind that may have had an effect."""
        return (one for one in self.operations if one.kind == kind and one.possible)


@dataclass(frozen=True, slots=True)
class Submission:
    """What a provider accepted: ``billed`` is False for one it recognised and did not run again."""

    token: str
    job_id: str
    attempt: int
    at: float
    tenant: str = ""
    cost: float = 0.0
    billed: bool = True
    pool: str = ""


@dataclass(slots=True)
class ProviderLedger:
    """A provider's own books, oldest first; ``pools`` are those whose every run passes through it."""

    pools: tuple[str, ...] = ()
    submissions: list[Submission] = field(default_factory=list)

    def accept(self, submission: Submission) -> None:
        """Enter a submission."""
        self.submissions.append(submission)

    def billed(self) -> Iterator[Submission]:
        """Yield what has to be paid."""
        return (one for one in self.submissions if one.billed)
