"""What goes into the dispatcher's machine and what comes out. Types only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from shotbus.broker.dispatcher.job import Reference
from shotbus.broker.inspection.facts import Inspected
from shotbus.broker.machine import Tick
from shotbus.broker.policy.decision import Decision
from shotbus.schemas.errors import Problem
from shotbus.schemas.openqasm import CircuitFacts


@dataclass(frozen=True, slots=True)
class Submitted:
    """Event: a decoded request, with what was looked up for it.

    ``contradictions``: what its record's headers say against it. ``decision`` None: it goes to ``pool``.
    ``uninspected``: its circuit has to be inspected first. ``history_key``: of its work, where that is to be
    remembered. ``calibration``: what its keys were made with. ``earlier``: the newest result of the same
    work on the same target, for a request that such a one may be enough for. ``redriven``: how often it was a
    dead letter, and why it comes again; None for most.
    """

    request: Mapping[str, Any]
    reference: Reference
    size: int
    published_ms: int
    traceparent: str = ""
    relayed: bool = False
    pool: str = ""
    cache_key: str = ""
    cached: Mapping[str, Any] | None = None
    contradictions: tuple[Problem, ...] = ()
    decision: Decision | None = None
    facts: CircuitFacts | None = None
    uninspected: bool = False
    history_key: str = ""
    calibration: str = ""
    earlier: Mapping[str, Any] | None = None
    redriven: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Learnt:
    """Event: what the inspection of a circuit found, with the requests that waited for it."""

    inspected: Inspected
    submissions: tuple[Submitted, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """Event: a record of ``grants``, the Treasury's word."""

    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Placed:
    """Event: what another shard said about a limit on jobs with workers, a record of ``grants``."""

    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reported:
    """Event: a worker's outcome record."""

    outcome: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Recalled:
    """Event: what was found of a job's earlier results; None is nothing."""

    job_id: str
    found: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Commanded:
    """Event: a control record."""

    control: Mapping[str, Any]


class Credit(NamedTuple):
    """Room at one worker for ``bundles`` more bundles from this process."""

    worker: str
    partition: int
    bundles: int


@dataclass(frozen=True, slots=True)
class Dispatch(Tick):
    """Event: the end of a micro-batch, with the credits that are free at this moment, by pool.

    ``adverts`` are those of the workers that are alive, None for as before.
    """

    credits: Mapping[str, Sequence[Credit]]
    adverts: Sequence[Mapping[str, Any]] | None = None


class ForwardedItem(NamedTuple):
    """One attempt in a bundle; its request is fetched by reference.

    ``top_up``: the job whose result has the shots that are missing in ``shots``. ``deadline_ms``: wall time
    from which on its worker does not begin it any more, 0 for never.
    """

    job_id: str
    attempt: int
    seed: int
    traceparent: str
    reference: Reference
    token: str = ""
    overrides: Mapping[str, str] = MappingProxyType({})
    shots: int = -1
    top_up: str = ""
    deadline_ms: int = 0


@dataclass(frozen=True, slots=True)
class Forward:
    """Command: send a bundle to a partition of ``work.<pool>``."""

    bundle_id: str
    pool: str
    partition: int
    start_by_ms: int
    lease_ms: int
    sent_us: int
    items: tuple[ForwardedItem, ...]
    purpose: str = "run"


class Prepare(NamedTuple):
    """Command: have a worker compile what a waiting job needs, until a wall time; nothing is owed for it."""

    pool: str
    partition: int
    start_by_ms: int
    sent_us: int
    item: ForwardedItem


@dataclass(frozen=True, slots=True)
class Relay:
    """Command: copy a request that came on the wrong partition to the right one."""

    reference: Reference
    partition: int


@dataclass(frozen=True, slots=True)
class Bury:
    """Command: dead-letter a job's original request."""

    reference: Reference
    job_id: str
    error_class: str
    problem: Problem
    deliveries: int
    pool: str = ""


class Revoke(NamedTuple):
    """Command: tell a worker that jobs of a bundle are not wanted any more.

    ``granted`` says the opposite, of all of them: the claim with this lease is recorded, and what costs may
    be submitted.
    """

    pool: str
    worker: str
    bundle_id: str
    jobs: tuple[str, ...]
    granted: str = ""


class Inspect(NamedTuple):
    """Command: have a circuit inspected; the answer is a record on this shard's ``outcomes``."""

    circuit_id: str


class Recall(NamedTuple):
    """Command: look for an earlier result of the same work, at most ``seconds`` old."""

    job_id: str
    reference: Reference
    seconds: float
