"""What a caller gets back: one job's result, decoded lazily. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from shotbus.broker.stages import Timings
from shotbus.broker.tracing import Span, parse_traceparent, spans_of
from shotbus.schemas.codec import decode
from shotbus.schemas.errors import Problem, ShotbusError, fail
from shotbus.schemas.outcomes import ABOUT_A_SUBMISSION, REFUSED, SUCCESSES, status_of
from shotbus.schemas.packed import Array
from shotbus.schemas.pub import Counts, Estimates, unpack_result

_ORIGIN = (
    "circuit_id",
    "seed",
    "attempt",
    "pool",
    "request_topic",
    "request_partition",
    "request_offset",
)
_LABELS = (
    "experiment",
    "intent",
    "sweep_id",
    "shard_index",
    "submitted_us",
    "accepted_us",
    "finished_us",
)

_MADE = (
    *("executed_on", "answered_by", "age", "fallback_from", "late", "deviation", "rule", "policy_version"),
    *("shots", "cost", "backend_seconds"),
)


class JobFailedError(ShotbusError):
    """A job ended without an answer; ``outcome`` says how, ``problems`` why."""

    def __init__(
        self, job_id: str, outcome: str, problems: tuple[Problem, ...], traceparent: str = ""
    ) -> None:
        """Keep what the broker published about the job."""
        super().__init__(problems or (Problem("SB-4004", "$", actual=outcome),))
        self.job_id, self.outcome = job_id, outcome
        context = parse_traceparent(traceparent)
        self.trace_id = context.trace_id if context else ""


class RefusedError(ShotbusError):
    """A submission was not accepted; ``retry_after`` seconds is 0 when trying again is useless."""

    def __init__(self, job_id: str, problems: tuple[Problem, ...], retry_after: float) -> None:
        """Keep what the broker answered."""
        super().__init__(problems)
        self.job_id, self.retry_after = job_id, retry_after


class JobTimeoutError(ShotbusError):
    """The answer did not come in time; the job goes on and can be asked for again by its id."""


class JobResult:
    """The terminal result of one job. Rows are points.

    ``outcome`` tells how it ended, ``executed_on`` which backend answered, ``fallback_from`` which one
    should have.
    """

    def __init__(self, fields: Mapping[str, Any], *, client: Timings | None = None) -> None:
        """Wrap the fields of a ``circuit_result``; ``client`` adds the stages only the client saw."""
        self._fields = fields
        self._client = client

    @property
    def job_id(self) -> str:
        """The broker's id, which works from any process."""
        return str(self._fields["job_id"])

    @property
    def outcome(self) -> str:
        """How the job ended."""
        return str(self._fields["outcome"])

    @property
    def executed_on(self) -> str:
        """The backend that answered, as its provider writes it."""
        return str(self._fields["executed_on"])

    @property
    def fallback_from(self) -> str:
        """The pool that should have answered, empty when it did."""
        return str(self._fields["fallback_from"])

    @property
    def answered_by(self) -> str:
        """How the answer was made.

        ``run``, ``cache``, ``shared`` (with the same work under way), ``top_up``, ``tolerance``,
        ``fallback``, ``prescreen``, ``speculation`` or ``blend``; a late one may be a ``shadow``.
        """
        return str(self._fields["answered_by"])

    @property
    def age(self) -> float:
        """Seconds since the oldest part of it was computed, as it was given; 0 for a run of its own."""
        return float(self._fields["age_ms"]) / 1000

    @property
    def late(self) -> bool:
        """Whether it came after the job had been answered."""
        return bool(self._fields["late"])

    @property
    def deviation(self) -> float:
        """How far a quantum answer is from the cheap one, negative when that is not known.

        Total variation distance (0 to 1) of counts, standard errors of the difference of estimates.
        """
        return float(self._fields["deviation"])

    @property
    def rule(self) -> str:
        """The rule of the policy that routed it, empty for the default."""
        return str(self._fields["rule"])

    @property
    def policy_version(self) -> str:
        """The version of the policy that routed it."""
        return str(self._fields["policy_version"])

    @property
    def cost(self) -> float:
        """What it cost, in budget units; what stages of it and failed attempts were billed counts."""
        return float(self._fields["cost"])

    @property
    def backend_seconds(self) -> float:
        """What it took of backends, counted as :attr:`cost` is."""
        return float(self._fields["backend_seconds"])

    def made(self) -> dict[str, Any]:
        """Return how it was made and what it cost, by the names of the properties.

        ``deviation`` is None where it is not known.
        """
        told = {name: getattr(self, name) for name in _MADE}
        return told | {"deviation": self.deviation if self.deviation >= 0 else None}

    @property
    def shots(self) -> int:
        """Shots taken, all points together; 0 when the answer is exact or came from the cache."""
        return int(self._fields["shots"])

    @property
    def points(self) -> int:
        """Number of rows."""
        return int(self._fields["points"])

    @property
    def packed(self) -> bytes:
        """The answer as it travels: two runs are identical when these bytes are."""
        return bytes(self._fields["payload"])

    @property
    def rerun_of(self) -> str:
        """The job that it runs again, empty for most."""
        return str(self._fields["rerun_of"])

    @property
    def seed(self) -> int:
        """Seed that reproduces it."""
        return int(self._fields["seed"])

    @cached_property
    def provenance(self) -> Mapping[str, Any]:
        """Where the numbers come from: backend, versions, options, circuit, seed, request."""
        raw = self._fields["provenance"]
        told = json.loads(raw) if raw else {}
        return {**told, **{name: self._fields[name] for name in _ORIGIN}}

    @cached_property
    def metadata(self) -> Mapping[str, Any]:
        """Times, bytes and labels.

        ``timings`` are seconds by stage, ``bytes`` pairs (in, out) by stage, ``bytes_in`` is the request's
        size and ``bytes_out`` the answer's.
        """
        timings = Timings.unpack(self._fields["timings"])
        if self._client:
            timings.merge(self._client)
        return {
            "timings": timings.as_dict(),
            "bytes": timings.bytes_by_stage(),
            "bytes_in": self._fields["bytes_in"],
            "bytes_out": len(self._fields["payload"]),
            **{name: self._fields[name] for name in _LABELS},
        }

    @cached_property
    def spans(self) -> list[Span]:
        """The stages it passed as spans of the trace it was submitted in."""
        timings: Mapping[str, float] = self.metadata["timings"]
        start = self._fields["submitted_us"] - int(1e6 * timings.get("client-prepare", 0.0))
        return spans_of(self._fields["traceparent"], timings, start)

    @cached_property
    def payload(self) -> Counts | Estimates | None:
        """The unpacked answer; None for the noop pool."""
        return unpack_result(self._fields["payload"])

    def counts(self, row: int = 0) -> dict[str, int]:
        """Return a point's counts as Qiskit writes them: registers separated by a space."""
        if not isinstance(self.payload, Counts):
            raise fail("SB-1108", "$.mode", limit="a sampling job", hint="use evs and stds")
        return self.payload.row(row)

    @property
    def evs(self) -> Array:
        """Expectation values, points x observables."""
        return self._estimates().evs

    @property
    def stds(self) -> Array:
        """Standard errors, points x observables; zeros in exact mode."""
        return self._estimates().stds

    def _estimates(self) -> Estimates:
        if not isinstance(self.payload, Estimates):
            raise fail("SB-1108", "$.mode", limit="an estimation job", hint="use counts()")
        return self.payload

    @property
    def data(self) -> Any:
        """Qiskit's ``DataBin``: bit arrays by register, or ``evs`` and ``stds``."""
        from shotbus.producers.databin import databin_of

        return databin_of(self.payload)

    def __repr__(self) -> str:
        return f"JobResult({self.job_id}, {self.outcome}, executed_on={self.executed_on!r})"


def read_making(value: bytes) -> dict[str, Any]:
    """Return of a ``circuit_result`` how it was made and what it cost, in the words of :class:`JobResult`.

    ``attempts`` are those before the one that answered: what they came to, and where their parts are.
    """
    fields = decode(value, "circuit_result")[1]
    made = JobResult(fields)
    head = {"outcome": made.outcome, "pool": str(fields["pool"])}
    return head | made.made() | {"attempts": made.provenance.get("attempts", [])}


def read_refusal(value: bytes) -> dict[str, Any]:
    """Return what a ``refusal`` record says, in the words of a job's details."""
    fields = decode(value, "refusal")[1]
    names = ("job_id", "tenant", "problems", "retry_after_ms")
    words = {"status": status_of(REFUSED), "sub_status": REFUSED, "outcome": ""}
    return {name: fields[name] for name in names} | words | {"updated_us": fields["refused_us"]}


def ended_as(value: bytes) -> dict[str, Any]:
    """Return what an answer, a refusal included, says in the words of a job's details."""
    name, fields = decode(value, "circuit_result", "refusal")
    if name == "refusal":
        return read_refusal(value)
    told = {name: fields[name] for name in ("job_id", "tenant", "outcome", "pool", "attempt", "sweep_id")}
    words = {"status": status_of(fields["outcome"]), "sub_status": "", "cause": fields["outcome"]}
    return told | words | {"updated_us": fields["finished_us"]}


def refused_by(events: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return what the last of a trail's events says of a submission of which there is no job, else None."""
    own = [event for event in events if event["state"] != ABOUT_A_SUBMISSION] or events
    if not own or own[-1]["sub_status"] != REFUSED:
        return None
    problems = own[-1]["terms"].get("problems", [])
    return {"status": status_of(REFUSED), "sub_status": REFUSED, "problems": problems}


def read_answer(value: bytes | None, *, client: Timings | None = None) -> JobResult | None:
    """Read a record of ``results``: a result, None for a location.

    Raises:
        RefusedError: the submission was refused.
        JobFailedError: the job ended without an answer.

    """
    name, fields = decode(value, "circuit_result", "refusal", "located")
    if name == "located":
        return None
    problems = tuple(Problem.from_record(problem) for problem in fields["problems"])
    if name == "refusal":
        raise RefusedError(fields["job_id"], problems, fields["retry_after_ms"] / 1000)
    if fields["outcome"] not in SUCCESSES:
        raise JobFailedError(fields["job_id"], fields["outcome"], problems, fields["traceparent"])
    return JobResult(fields, client=client)
