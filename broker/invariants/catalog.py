"""The sixteen invariants as a table: how each is judged, from what, what no running system shows. Pure data.

docs/invariants.md is this table; a test compares them.
"""

from __future__ import annotations

from typing import NamedTuple


class Invariant(NamedTuple):
    """One promise. ``needs`` names what must be fed before any of it can be judged."""

    title: str
    judged: str
    needs: tuple[str, ...]
    beyond: str


CATALOG: dict[str, Invariant] = {
    "I1": Invariant(
        "no accepted job is lost",
        "an id whose events say that it lives has a ledger row; once everything is over each has "
        "ended and each acknowledged submission has an answer",
        ("events",),
        "a submission that was acknowledged and never read: only its client knows; which is why "
        "clients keep histories",
    ),
    "I2": Invariant(
        "at most one terminal result, never rewritten",
        "one result an id (those marked late aside), the one its last event names; none without an "
        "end, no end without one",
        ("results",),
        "results older than the retention",
    ),
    "I3": Invariant(
        "at most one billed submission a job at a time, stale attempts fenced",
        "a success is, byte for byte, what the first lease of its bundle reported for that attempt; "
        "the provider's ledger bills a token once, and another one of that job only after the provider's "
        "own word that the one before is over (a stage's answer, a failure that it billed)",
        ("outcomes", "ledger"),
        "the bill, without the provider's ledger; outcomes that were trimmed",
    ),
    "I4": Invariant(
        "states move along the table",
        "each event of a job follows from the one before by the table of docs/states.md; a shard's "
        "sequence numbers rise; a forwarded attempt is a new one",
        ("events",),
        "jobs whose first events the retention took: from the first one that is there",
    ),
    "I5": Invariant(
        "no result without an accepted submission",
        "a result has an acceptance among the events, and a client that asked; a success on a paid "
        "pool has a submission in the provider's ledger, a job that was never accepted has none",
        ("events",),
        "who asked, without histories",
    ),
    "I6": Invariant(
        "the same key and payload are the same job",
        "one job id a tenant and key; of several payloads under one key all but one are refused",
        ("history",),
        "requests are trimmed, so without histories nothing is left to compare",
    ),
    "I7": Invariant(
        "spend and reservations stay within the limit",
        "what the Treasury has given to the shards is within the limit whenever it gives, what a shard "
        "has used and reserved is within what it was given; where a budget sets aside the longest that "
        "an attempt may take, nothing is spent beyond; the running sum of a tenant's bills never passes "
        "its limit",
        ("treasury-ledger",),
        "the bills, without the provider's ledger and the tenants' limits",
    ),
    "I8": Invariant(
        "bounded wait",
        "no job waits in a queue for longer than the bound that was given",
        ("events", "wait_seconds"),
        "inversions of single slots: the property tests of the fair queue show those",
    ),
    "I9": Invariant(
        "in flight within the window, refusal instead of a drop",
        "a worker grants no more than its slots and prefetch, never runs more bundles than it has "
        "slots; a refusal for fullness says when to come again",
        ("pools",),
        "memory: the benchmarks measure it; workers that answer inline have no slots",
    ),
    "I10": Invariant(
        "provenance is complete",
        "a success names its circuit, its seed, where it ran, and carries readable provenance: at least "
        "backend, kind, host and versions",
        ("results",),
        "that it can be computed again: the acceptance tests do that",
    ),
    "I11": Invariant(
        "shots in are shots out",
        "a finished sweep has counted each shard once and has the shots of its shards' results; a "
        "final reduction is never replaced by another; once everything is over each declared sweep "
        "has one",
        ("reductions",),
        "sweeps whose results the retention took",
    ),
    "I12": Invariant(
        "no new submission after a cancel",
        "a cancelled job is never forwarded again, and the provider sees no attempt that began after its end",
        ("events",),
        "what the provider saw, without its ledger",
    ),
    "I13": Invariant(
        "consumed is finished, retried or dead-lettered",
        "the number of an attempt is the number of times its job was forwarded; a job ends as dead-"
        "lettered exactly when a dead letter has its request, byte for byte; nobody's request becomes"
        " one without an answer",
        ("dead-letters",),
        "letters that were purged; the original bytes, without histories",
    ),
    "I14": Invariant(
        "the audit chain is intact",
        "each entry holds the hash of the one before, and the last one is the head that its writer's "
        "ledger remembers",
        ("audit",),
        "that it extends a checkpoint kept outside, without that checkpoint",
    ),
    "I15": Invariant(
        "tenants do not reach each other's jobs",
        "an answer bears the tenant of its submission; a cancelled job has a cancel of its own tenant",
        ("history",),
        "shares under load: the property tests and benchmarks of fairness measure those",
    ),
    "I16": Invariant(
        "everything holds again soon after the last fault",
        "every job has ended within the given seconds after everything was healed",
        ("healed",),
        "when a fault healed, unless somebody says so",
    ),
}
